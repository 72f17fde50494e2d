"""How often the console asks the engine for the monitors' report."""

import asyncio
from typing import Any

import pytest

from service.front.console.paced_report import LONGEST, SHARE, PacedReport
from service.messages.refused import Refused


class Engine:
    """Makes reports that take ``seconds`` on a clock of its own; counts the reports."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.clock, self.reports, self.ready = seconds, 100.0, 0, True

    async def report(self) -> dict[str, Any]:
        if not self.ready:
            raise Refused("loading", "the model is loading", retry_after=2)
        await asyncio.sleep(0)
        self.clock += self.seconds
        self.reports += 1
        return {"number": self.reports}

    def paced(self) -> PacedReport:
        return PacedReport(self.report, lambda: self.clock)


def test_a_slow_report_stays_in_use() -> None:
    """A report that took a quarter of a second is given until 50 times as long has passed."""

    async def ask() -> None:
        engine = Engine(0.25)
        paced = engine.paced()
        assert (await paced.read())["number"] == 1
        engine.clock += 0.25 * SHARE - 0.01
        assert (await paced.read())["number"] == 1
        engine.clock += 0.02
        assert (await paced.read())["number"] == 2

    asyncio.run(ask())


def test_no_report_stays_for_long() -> None:
    """However long a report took, a new report is made after a minute."""

    async def ask() -> None:
        engine = Engine(30.0)
        paced = engine.paced()
        await paced.read()
        engine.clock += LONGEST
        assert (await paced.read())["number"] == 2

    asyncio.run(ask())


def test_those_who_ask_together_get_one_report() -> None:
    """Pages that ask at the same time cost the engine one report."""

    async def ask() -> None:
        engine = Engine(1.0)
        paced = engine.paced()
        found = await asyncio.gather(*(paced.read() for _ in range(5)))
        assert [each["number"] for each in found] == [1] * 5

    asyncio.run(ask())


def test_a_refusal_is_passed_on_and_not_kept() -> None:
    """If the engine refuses, so does the report; once the engine is ready, there is a report at once."""

    async def ask() -> None:
        engine = Engine(0.1)
        paced = engine.paced()
        engine.ready = False
        with pytest.raises(Refused):
            await paced.read()
        engine.ready = True
        assert (await paced.read())["number"] == 1

    asyncio.run(ask())
