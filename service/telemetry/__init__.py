"""Metrics, logs and traces for the operator."""
