"""The store's totals as monitors may show them: a change of a total is never the change by a few rows."""

import threading
from collections.abc import Callable

from guards.statistics.recent_blocks import STAGES
from service.messages.scope import SCOPES, Scope
from service.monitoring.sums import Sums

__all__ = ["ReleasedSums"]


class ReleasedSums:
    """Gives totals that stay as they are until at least ``least`` more rows are counted.

    Answered rows and outcomes are counted apart: as long as there are a few new outcomes, and fewer than ``least``, the
    totals stay, however many rows were answered. If there are fewer rows than before, the database is another one.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._released: dict[Scope, Sums] = {}
        self._locks = {scope: threading.Lock() for scope in SCOPES}

    def of(self, scope: Scope, read: Callable[[], Sums]) -> Sums:
        """Read the totals of a scope; return them, or the totals that were released last."""
        if self._least == 1:
            return read()
        with self._locks[scope]:  # so that older totals are never released after newer totals
            sums = read()
            last = self._released.get(scope)
            shown = sums if last is None or self._is_due(last, sums) else last
            self._released[scope] = shown
            return shown

    def forget(self) -> None:
        """Release whatever is read next, because an admin has changed what counts."""
        self._released.clear()

    def _is_due(self, last: Sums, sums: Sums) -> bool:
        more = [sums.rows.get(stage, 0) - last.rows.get(stage, 0) for stage in STAGES]
        return min(more) < 0 or (max(more) >= self._least and all(each == 0 or each >= self._least for each in more))
