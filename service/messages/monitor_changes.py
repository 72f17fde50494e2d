"""What an admin changed about the monitors: a principal was excluded or included again, or a monitor was reset."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

__all__ = ["KINDS", "Change", "Changed", "Kind", "Standing"]

Kind = Literal["exclude", "include", "reset"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Change:
    """One change, made by the principal ``by`` at ``time``, in seconds since the epoch.

    ``subject`` is the excluded or included principal, or the monitor that was reset. ``number`` counts the changes of a
    database; it is 0 until the change is stored.
    """

    kind: Kind
    subject: str
    reason: str
    by: str
    time: float = 0.0
    number: int = 0

    @property
    def shown(self) -> dict[str, Any]:
        """The change as ``/monitors`` shows it."""
        when = dt.datetime.fromtimestamp(self.time, tz=dt.UTC).isoformat(timespec="seconds")
        subject = "monitor" if self.kind == "reset" else "principal"
        return {"time": when, "by": self.by, "change": self.kind, subject: self.subject, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Standing:
    """What all changes so far amount to.

    ``excluded`` are the principals that are excluded now. ``resets`` holds the last reset of each monitor of the served
    bundle. ``changes`` are the latest changes, the newest first. ``number`` is the number of the latest change.
    """

    excluded: frozenset[str] = frozenset()
    resets: Mapping[str, Change] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    number: int = 0


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change has done: ``rows`` rows were taken out of the totals, or put back into the totals."""

    standing: Standing
    rows: int = 0
