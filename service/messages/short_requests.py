"""Short requests: they do not wait behind long requests, and have room in the queue that long requests cannot fill."""

__all__ = ["is_short", "room"]

SHORT = 4
"""A request is short if so many of its length fit into a batch."""
RESERVE = 4
"""One in so many rows of the queue's length is added for short requests alone."""


def is_short(rows: int, batch_rows: int) -> bool:
    """Return whether a request of ``rows`` rows is short; a batch has at most ``batch_rows`` rows."""
    return rows * SHORT <= batch_rows


def room(queue_rows: int, *, short: bool) -> int:
    """Return how many rows may wait in a queue of ``queue_rows`` rows when a request joins them.

    >>> room(1024, short=False), room(1024, short=True)
    (1024, 1280)
    """
    return queue_rows + queue_rows // RESERVE if short else queue_rows
