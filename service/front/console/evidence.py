"""The evidence of drift over the last half hour, and the engine's latest metric families."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from service.messages.refused import Refused
from service.telemetry.metrics.plain_families import Family, number

__all__ = ["READINGS", "SECONDS", "Evidence"]

LOG = logging.getLogger("guardhouse")
READINGS, SECONDS = 180, 10.0
"""The most readings of the engine's families, and the seconds from one to the next."""
EVIDENCE, BINS, REFERENCE = "drift_evidence", "stream_bin", "reference_bin_ratio"
THRESHOLD, BUDGET = "guard_threshold_ratio", "false_alarm_budget_ratio"
DIGITS = 4


class Evidence:
    """Asks the engine for its families every ten seconds, and keeps the evidence of each stream."""

    def __init__(self, ask: Callable[[], Awaitable[Sequence[Any]]]) -> None:
        """Ask for the families by ``ask`` (:meth:`service.front.engine_client.EngineClient.metrics`)."""
        self._ask = ask
        self._families: dict[str, Family] = {}
        self._times: deque[float] = deque(maxlen=READINGS)
        self._values: dict[tuple[str, ...], deque[float]] = {}

    async def read(self) -> None:
        """Add a reading. If the engine does not answer, nothing is added."""
        try:
            families = await self._ask()
        except Refused as refused:
            LOG.debug("the engine gives no metrics: %s", refused)
            return
        self._families = {family["name"]: family for family in families}
        self._times.append(time.time())
        for key, value in self._samples(EVIDENCE).items():
            self._values.setdefault(key, deque(maxlen=READINGS)).append(value)

    async def keep_reading(self) -> None:
        """Read every ten seconds, until this task is cancelled."""
        while True:
            await self.read()
            await asyncio.sleep(SECONDS)

    def promises(self) -> dict[str, Any]:
        """Give the budget, and the p-value at and under which each guard flags."""
        return {
            "thresholds": {guard: value for (guard,), value in self._samples(THRESHOLD).items()},
            "budget": self._samples(BUDGET).get(()),
        }

    def histograms(self) -> list[dict[str, Any]]:
        """Give each stream's bins: the shares of the reference's rows, and the counts of the rows since the start."""
        found: dict[str, dict[str, list[Any]]] = {}
        reference = self._samples(REFERENCE)
        for (stream, name), live in self._samples(BINS).items():
            bins = found.setdefault(stream, {"bins": [], "reference": [], "live": []})
            bins["bins"].append(name)
            bins["reference"].append(reference.get((stream, name)))
            bins["live"].append(live)
        return [{"stream": stream, **bins} for stream, bins in found.items()]

    def evidence(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        """Give the log e-value of each monitor's streams over time; ``report`` is the monitors' own report."""
        times = [round(at, 1) for at in self._times]
        return [
            {
                "monitor": monitor,
                "stream": stream,
                "times": times[-len(values) :],
                "values": [round(value, DIGITS) for value in values],
                "threshold": _threshold(report, monitor),
            }
            for (monitor, stream), values in self._values.items()
        ]

    def _samples(self, name: str) -> dict[tuple[str, ...], float]:
        family = self._families.get(name)
        return {} if family is None else {tuple(labels): number(value) for labels, value in family["samples"]}


def _threshold(report: dict[str, Any], monitor: str) -> float | None:
    """Return the log e-value at which one stream of a monitor alone raises an alarm, as the monitor reports it."""
    statistics = report["monitors"].get(monitor, {}).get("statistics", [])
    return next((each["value"] for each in statistics if each["name"] == "threshold"), None)
