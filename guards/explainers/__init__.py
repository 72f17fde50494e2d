"""The built-in explainers, one in each file."""
