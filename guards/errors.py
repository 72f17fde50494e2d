"""Errors that a user can correct, and a collector that reports the errors of several steps together."""

__all__ = ["Mistake", "Mistakes"]


class Mistake(Exception):  # noqa: N818 - the user made a mistake; the program did not fail
    """A mistake in a config, a file or a bundle: one actionable sentence for each."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class Mistakes:
    """Collects the mistakes of independent steps, so that the user sees all of them at once.

    >>> together = Mistakes()
    >>> for name in ("a", "b"):
    ...     with together:
    ...         raise Mistake(f"{name} is wrong")
    >>> together.sentences
    ['a is wrong', 'b is wrong']
    """

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def __enter__(self) -> None:
        """Begin a step."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        """Keep the step's mistake and continue after the step; any other error is raised."""
        if isinstance(error, Mistake):
            self.sentences += [sentence for sentence in error.sentences if sentence not in self.sentences]
        return isinstance(error, Mistake)

    def refuse(self) -> None:
        """Raise the collected mistakes, if there are any.

        Raises:
            Mistake: at least one step made a mistake.
        """
        if self.sentences:
            raise Mistake(*self.sentences)
