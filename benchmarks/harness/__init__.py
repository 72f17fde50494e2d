"""What benchmarks share: servers, load and the machine's description."""
