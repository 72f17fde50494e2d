"""Logs whose queries have become evidence of an attack."""

import logging
import time
from collections.abc import Sequence

from guards.memory.base import MemoryGuard
from guards.memory.watch import Judgement
from service.messages.client_name import principal_of
from service.telemetry.logs import Bucket

__all__ = ["AttackLog"]

LOG = logging.getLogger("guardhouse")


class AttackLog:
    """Writes a line when the evidence against a client begins to stand, with a limit of lines per second.

    A line names a principal. It shows no address and no header's value.
    """

    def __init__(self, guards: Sequence[MemoryGuard]) -> None:
        self._guards, self._bucket = tuple(guards), Bucket()

    def tell(self, judgement: Judgement, start: int, stop: int) -> None:
        """Tell of the rows from ``start`` to ``stop``."""
        for guard, judged in zip(self._guards, judgement.guards, strict=True):
            for row in judged.crossed[start:stop].nonzero()[0]:
                if (dropped := self._bucket.take(time.time())) is not None:
                    principal = principal_of(judgement.clients[start + row])
                    whose = "a client without a key" if principal is None else f"the principal {principal}"
                    more = f"; {dropped} such lines were left out" if dropped else ""
                    LOG.warning("guard %s: the queries of %s look like an attack%s", guard.name, whose, more)
