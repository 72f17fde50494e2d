"""The commands of the server: serve, drain, wait and feedback."""
