"""Confidence: sets, intervals, abstention and the budget over many splits; accuracy before labels come."""
