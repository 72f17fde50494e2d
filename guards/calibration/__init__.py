"""Calibration: turns scores and outputs into p-values, thresholds, prediction sets and calibrated confidence."""
