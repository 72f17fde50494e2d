"""The slow work of monitors, and the process that does it."""
