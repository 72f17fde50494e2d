"""Built-in monitors, one a file."""
