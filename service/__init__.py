"""The server: serves a bundle of the library ``guards`` over HTTP and gRPC; see ``docs/architecture.md``."""
