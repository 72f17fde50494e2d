"""Measurements, side by side in one run: `python -m benchmarks NAME`; results with their date are in RESULTS.md."""
