"""The front process: reads requests over HTTP and gRPC, asks the engine for predictions, and writes the answers."""
