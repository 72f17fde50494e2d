"""Notes and warnings that a command prints beside its result."""

from dataclasses import dataclass, field

__all__ = ["Notices"]


@dataclass(slots=True)
class Notices:
    """Sentences for the user, in the order in which they were found.

    A note says what was done with the user's files, if there was another way to do it. A warning says
    that the result is probably not what the user wants; with ``--strict`` a warning is an error.
    """

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Add a note, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def warn(self, sentence: str) -> None:
        """Add a warning, once."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def add(self, other: "Notices") -> None:
        """Add what another part of the work found."""
        for sentence in other.notes:
            self.note(sentence)
        for sentence in other.warnings:
            self.warn(sentence)
