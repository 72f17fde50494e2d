"""Built-in explainers, one a file."""
