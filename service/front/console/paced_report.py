"""The monitors' report as the console shows it: not asked so often that the engine has less time for predictions."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["PacedReport"]

SHARE = 50
"""A report stays in use for so many times as long as the engine took to make the report: 2 % of one core at most."""
LONGEST = 60.0
"""The most seconds for which a report stays in use."""
Report = dict[str, Any]


class PacedReport:
    """Gives the last report until the next is due. A report over many groups takes the engine a quarter of a second."""

    def __init__(self, ask: Callable[[], Awaitable[Report]], now: Callable[[], float] = time.monotonic) -> None:
        """Get reports by ``ask``; ``now`` is a clock in seconds."""
        self._ask, self._now = ask, now
        self._report: Report | None = None
        self._due = 0.0
        self._asking = asyncio.Lock()

    async def read(self) -> Report:
        """Give a report. Those who ask while a report is made get the same report.

        Raises:
            Refused: the engine is not ready; the next call asks again.
        """
        async with self._asking:
            if self._report is None or self._now() >= self._due:
                self._report = None  # so that a refusal is not followed by an old report
                start = self._now()
                report = await self._ask()
                end = self._now()
                self._report, self._due = report, end + min(LONGEST, SHARE * (end - start))
            return self._report
