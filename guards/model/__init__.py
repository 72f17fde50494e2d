"""The user's model: how it is built, loaded and run."""
