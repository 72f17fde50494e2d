"""A job: the rows of one request while they are in the engine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from service.messages.answer import Answer
from service.messages.stage import Stage

__all__ = ["Computed", "Job", "Lesson", "Piece", "Source"]

Array = npt.NDArray[Any]


class Source(Protocol):
    """Where jobs come from, and where their answers go."""

    def fileno(self) -> int:
        """Give the file descriptor that becomes readable when there is something to receive."""
        ...

    def receive(self) -> "tuple[list[Job], dict[int, int]]":
        """Read what has arrived: new jobs, and the withdrawn jobs as a mapping from job number to number of rows.

        Raises:
            OSError: the source is gone.
        """
        ...

    def left_queue(self, rows: int) -> None:
        """Count rows that have left the queue."""
        ...

    def write(self, pieces: "Sequence[Piece]", answer: Answer, start: int) -> None:
        """Write the answer to the rows of pieces; these are the rows of ``answer`` from ``start`` on."""
        ...

    def finish(self, job: "Job") -> None:
        """Say that the whole answer to a job has been written."""
        ...

    def fail(self, job: "Job", kind: str) -> None:
        """Say that the model raised an exception of a kind on a job."""
        ...

    def drop(self, job: "Job") -> None:
        """Say that a job was dropped: its deadline passed, or nobody waits for it."""
        ...

    def flush(self) -> bool:
        """Send the messages that wait, and return whether everything was sent.

        Raises:
            OSError: the source is gone.
        """
        ...

    def close(self) -> None:
        """Close the source; none of its rows wait any more."""
        ...


@dataclass(slots=True, eq=False)
class Job:
    """One request: rows (n, ...) float32, level codes (n,) by attribute, and an id for each row.

    ``deadline`` and ``submitted`` are seconds of the monotonic clock. ``cursor`` is the number of rows that are
    already in batches. ``client`` is who asks, for guards with memory; ``stages`` is a list if the
    request is traced, otherwise None.
    """

    source: Source
    number: int
    slots: tuple[int, ...]
    x: Array
    groups: Mapping[str, Array]
    ids: Sequence[str]
    deadline: float
    submitted: float
    causes: bool = False
    client: str = ""
    stages: list[Stage] | None = None
    cursor: int = 0
    over: bool = False
    """Whether the job is finished, failed or dropped: its source hears nothing more about it."""
    parts: "list[Lesson]" = field(default_factory=list)

    @property
    def remaining(self) -> int:
        """How many rows still wait."""
        return len(self.ids) - self.cursor


class Piece(NamedTuple):
    """The rows of a job, from ``start`` to ``stop``, that are in one batch."""

    job: Job
    start: int
    stop: int

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots of these rows."""
        return self.job.slots[self.start : self.stop]


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """One batch that was computed: the answer to its rows, and what the bookkeeping needs.

    ``about`` is what the executor keeps for :class:`service.engine.bookkeeping.Bookkeeping`. ``stages`` returns when
    each stage began and ended; it is called only if a request is traced.
    """

    answer: Answer
    ids: Sequence[str]
    about: Any
    stages: Callable[[], Sequence[Stage]]


class Lesson(NamedTuple):
    """The rows ``start`` to ``stop`` of a computed batch whose answers were sent, to be counted and stored."""

    computed: Computed
    start: int
    stop: int
