"""Confidence: prediction sets, intervals, abstention and the false-alarm budget, over many splits of real rows."""
