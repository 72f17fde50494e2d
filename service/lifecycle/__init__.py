"""Start and shutdown: the supervisor, the engine's process, the fronts' processes, and how each of them ends."""
