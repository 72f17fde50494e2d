"""The protocols: how the bytes of a request become rows, and how an answer becomes bytes."""
