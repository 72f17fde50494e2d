"""The base class of monitors whose work is too slow for the thread that runs the model."""

from abc import abstractmethod

from guards.monitors.base import Context, Monitor, MonitorParams
from guards.monitors.slow_work.work import Arrays, Work

__all__ = ["SlowMonitor"]


class SlowMonitor(Monitor):
    """A monitor that splits its slow work into pieces.

    ``observe`` only gathers what a piece of work needs, and then calls :meth:`work_off`, which does the work at once. A
    server calls :meth:`defer` first. From then on the server takes each piece with :meth:`pending`, lets another
    process do the piece, and returns the result with :meth:`settle`.
    """

    def __init__(self, params: MonitorParams, context: Context) -> None:
        super().__init__(params, context)
        self._deferred = False

    def defer(self) -> None:
        """Leave the slow work to the caller, who takes pieces with :meth:`pending`."""
        self._deferred = True

    @property
    @abstractmethod
    def waiting(self) -> int:
        """The number of pieces of work that wait for ``pending``. The engine reads it once for each micro-batch."""

    @abstractmethod
    def pending(self) -> Work | None:
        """Take the next piece of work; None if there is none.

        The caller calls ``settle`` for each piece, from the same thread, before it takes the next piece. This thread
        need not be the thread of ``observe``. If nobody takes the work, a monitor must keep only a bounded number of
        pieces, and must count the pieces that it drops.
        """

    @abstractmethod
    def settle(self, result: Arrays | None) -> None:
        """Take the result of a piece of work; None if the piece was lost."""

    def work_off(self) -> None:
        """Do all pieces of work now, unless they are deferred."""
        while not self._deferred and (work := self.pending()) is not None:
            self.settle(work.run())
