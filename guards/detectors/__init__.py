"""The built-in detectors, one in each file."""
