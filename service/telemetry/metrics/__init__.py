"""The metrics for Prometheus: each process counts in arrays on the board, and any front can render all of them.

Every series exists from the start, and no request of a client can add a series.
"""
