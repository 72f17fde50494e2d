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
    doubts: list[str] = field(default_factory=list)
    """The warnings that the order of the labels may be another: how well the model does can settle them."""

    def note(self, sentence: str) -> None:
        """Add a note, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def warn(self, sentence: str) -> None:
        """Add a warning, once."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def doubt(self, sentence: str) -> None:
        """Add a warning that the order of the labels may be another."""
        self.warn(sentence)
        self.doubts.append(sentence)

    def settle(self) -> None:
        """Make notes of the doubts about the order of the labels, since the model fits the order that was taken."""
        for sentence in self.doubts:
            if sentence in self.warnings:
                self.warnings.remove(sentence)
                self.note(f"{sentence} (the model's answers fit the order that was taken)")
        self.doubts.clear()

    def add(self, other: "Notices") -> None:
        """Add what another part of the work found."""
        for sentence in other.notes:
            self.note(sentence)
        for sentence in other.warnings:
            self.warn(sentence)
        self.doubts += other.doubts
