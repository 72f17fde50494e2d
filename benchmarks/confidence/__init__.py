"""Confidence: accuracy before labels come, beside other estimates of it."""
