"""Drift: rows to a false alarm and to a true one, beside other detectors."""
