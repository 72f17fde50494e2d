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
    """Warnings that the labels may be in another order. The model's accuracy can show that the order is right."""

    def note(self, sentence: str) -> None:
        """Add a note, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def warn(self, sentence: str) -> None:
        """Add a warning, once."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def doubt(self, sentence: str) -> None:
        """Add a warning that the labels may be in another order."""
        self.warn(sentence)
        self.doubts.append(sentence)

    def settle(self) -> None:
        """Turn the warnings about the order of the labels into notes: the model's answers fit the assumed order."""
        for sentence in self.doubts:
            if sentence in self.warnings:
                self.warnings.remove(sentence)
                self.note(f"{sentence} (the model's answers fit the order that was taken)")
        self.doubts.clear()

    def add(self, other: "Notices") -> None:
        """Add the notes and warnings of another part of the work."""
        for sentence in other.notes:
            self.note(sentence)
        for sentence in other.warnings:
            self.warn(sentence)
        self.doubts += other.doubts
