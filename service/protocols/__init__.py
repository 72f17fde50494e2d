"""Between the wire and batches, and nothing else."""
