"""A plugin that cannot be loaded is named with its reason, and the others still work."""
