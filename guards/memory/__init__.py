"""Guards with memory: a client's queries are judged by what the same client asked before."""
