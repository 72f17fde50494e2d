"""A limit on predictions in flight as a front without load has it."""

from service.front.concurrency import ConcurrencyLimit
from service.messages.seat import Seat

__all__ = ["idle_limit"]


def idle_limit() -> ConcurrencyLimit:
    """Make a limit that nothing has used."""
    return ConcurrencyLimit(lambda: 0.0, Seat.of_no_board())
