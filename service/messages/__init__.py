"""What the fronts and the engine send each other: plain data, shared counters and shared memory; no torch."""
