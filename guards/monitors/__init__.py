"""The built-in monitors, and the base class of all monitors."""
