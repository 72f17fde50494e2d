"""The deadlines of all requests of one event loop; one timer serves all deadlines."""

import asyncio
from types import TracebackType

__all__ = ["Deadline", "Deadlines"]


class Deadlines:
    """Cancels tasks whose deadline has passed.

    :func:`asyncio.timeout_at` makes and cancels a timer for each request, although almost every request is answered
    in time. Here one timer waits for the earliest deadline that was known when the timer was set. So if a request may
    take ten seconds, a timer is set about once in ten seconds.
    """

    def __init__(self) -> None:
        self._open: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0

    def until(self, when: float) -> "Deadline":
        """Return a context manager that ends its block at ``when``, in seconds of the event loop's clock.

        The block raises :class:`TimeoutError` if the block has not ended by then.
        """
        return Deadline(self, when)

    def add(self, deadline: "Deadline") -> None:
        """Add a deadline to the deadlines that the timer waits for."""
        self._open.add(deadline)
        if self._timer is None or deadline.when < self._next:
            self._wait(deadline.when)

    def remove(self, deadline: "Deadline") -> None:
        """Remove a deadline whose block has ended."""
        self._open.discard(deadline)

    def _wait(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._next = asyncio.get_running_loop().call_at(when, self._look), when

    def _look(self) -> None:
        """Cancel the tasks whose deadline has passed, and wait for the next deadline."""
        self._timer = None
        now = max(self._next, asyncio.get_running_loop().time())  # an event loop may call a timer a little early
        for deadline in [each for each in self._open if each.when <= now]:
            self._open.discard(deadline)
            deadline.cancel()
        if self._open:
            self._wait(min(each.when for each in self._open))


class Deadline:
    """A context manager: the deadline of one block of a task. See :meth:`Deadlines.until`."""

    __slots__ = ("_before", "_deadlines", "_passed", "_task", "when")

    def __init__(self, deadlines: Deadlines, when: float) -> None:
        self._deadlines, self.when = deadlines, when
        self._passed = False

    def __enter__(self) -> None:
        """Start the deadline.

        Raises:
            RuntimeError: no task is running.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task has deadlines")
        self._task, self._before = task, task.cancelling()
        self._deadlines.add(self)

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        """Remove the deadline.

        Raises:
            TimeoutError: the deadline has passed, and nothing else has cancelled the task.
        """
        self._deadlines.remove(self)
        if self._passed and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from fault

    def cancel(self) -> None:
        """Cancel the task, because the deadline has passed."""
        self._passed = True
        self._task.cancel()
