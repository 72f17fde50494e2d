"""Streams that a monitor of drift leaves out."""

from collections.abc import Sequence

from pydantic import Field

__all__ = ["EXCLUDE", "excluded"]

EXCLUDE = Field(
    default=(),
    description="streams that are left out: `column:NAME` or just the column's NAME, `confidence`, `feature:0`, ...",
)


def excluded(names: Sequence[str], streams: Sequence[str]) -> frozenset[str]:
    """Find the streams that are named, of those there are; a name alone is a stream's, or else a column's.

    Raises:
        ValueError: there is no such stream, or none is left.
    """
    found: set[str] = set()
    for name in names:
        stream = name if name in streams else f"column:{name}"
        if stream not in streams:
            raise ValueError(f"exclude: there is no stream {name!r}; there are {', '.join(streams) or 'none'}")
        found.add(stream)
    if names and len(found) == len(streams):
        raise ValueError("exclude: no stream is left to watch")
    return frozenset(found)
