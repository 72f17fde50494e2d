"""Outcomes: the true labels or values that arrive for rows after they were answered, and what became of each."""

from dataclasses import dataclass, field

__all__ = ["LISTS", "REPEATED", "REPLACED", "RESULTS", "Joined", "Outcome"]

REPLACED, REPEATED = "replaced", "repeated"
RESULTS = ("accepted", "duplicate", "conflicting", "unknown", REPLACED)
"""What may become of an outcome."""
LISTS = (*RESULTS, REPEATED)
"""The names of the lists of :class:`Joined`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The true label of a row, or its true value for a regression.

    ``probability`` is the probability with which this row was chosen to be labelled. If ``replace`` is true, the
    outcome replaces an earlier outcome of the same row.
    """

    id: str
    label: str | None = None
    value: float | None = None
    probability: float | None = None
    replace: bool = False

    def agrees(self, label: str | None, value: float | None) -> bool:
        """Say whether another outcome is the same."""
        return (self.label, self.value) == (label, value)


@dataclass(slots=True)
class Joined:
    """What became of outcomes, by their places in the list that was sent.

    ``accepted`` were stored. ``duplicate`` had been stored before. ``conflicting`` differ from the stored outcome.
    ``unknown`` belong to no stored prediction. ``replaced`` replaced an earlier outcome. Beside that, ``repeated``
    lists the outcomes whose ids were used again after the prediction that is stored.
    """

    accepted: list[int] = field(default_factory=list)
    duplicate: list[int] = field(default_factory=list)
    conflicting: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    replaced: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
