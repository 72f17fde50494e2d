"""The option of drift monitors to leave out streams."""

from collections.abc import Sequence

from pydantic import Field

__all__ = ["EXCLUDE", "excluded"]

EXCLUDE = Field(
    default=(),
    description="streams to leave out: `column:NAME` or the column's NAME alone, `confidence`, `feature:0`, ...",
)


def excluded(names: Sequence[str], streams: Sequence[str]) -> frozenset[str]:
    """Find the named streams among ``streams``; a name that is no stream is taken as the name of a column.

    Raises:
        ValueError: there is no stream of that name, or no stream is left.
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
