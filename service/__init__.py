"""The server: BentoML, Starlette and Prometheus around the library in ``guards``."""
