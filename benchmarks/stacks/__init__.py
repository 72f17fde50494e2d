"""What the serving benchmark serves, and with what."""
