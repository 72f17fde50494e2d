"""A stage of a request, for tracing: its name, and when it began and ended."""

from typing import NamedTuple

__all__ = ["Stage"]


class Stage(NamedTuple):
    """A stage of a request, from ``start`` to ``end`` in seconds of ``time.perf_counter``.

    ``time.perf_counter`` reads the same clock in every process of a machine. ``batch_rows`` is the number of rows in
    the batch, if the stage was shared by a batch.
    """

    name: str
    start: float
    end: float
    batch_rows: int | None = None
