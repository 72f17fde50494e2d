"""Explanations: the fronts' routes, the desk in the engine's process with its jobs, and the process that computes."""
