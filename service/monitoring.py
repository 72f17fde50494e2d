"""Feeds the monitors once a batch, after the requests in it have their answers."""

import datetime as dt
import logging
from collections.abc import Sequence
from typing import Any

from guards.monitor import Monitor, State
from guards.monitors.groups import Groups
from guards.types import Batch, Outcome
from service.worker import Worker

__all__ = ["Monitoring"]

LOG = logging.getLogger("guardhouse")


class Monitoring:
    """Holds the monitors; one that crashes is logged, and harms neither the others nor a prediction.

    What is slow is done in another process; see :class:`Worker`.
    """

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self.monitors = tuple(monitors)
        for monitor in self.monitors:
            monitor.deferred = True
        self.worker = Worker(self.monitors)
        self._states: dict[str, tuple[State, str]] = {m.name: (m.state(), _now()) for m in self.monitors}

    @property
    def by_request(self) -> dict[str, Groups]:
        """The monitors whose groups come with the request, by attribute."""
        return {
            monitor.params.attribute: monitor
            for monitor in self.monitors
            if isinstance(monitor, Groups) and monitor.params.source.request is not None
        }

    def observe(self, batch: Batch, outcome: Outcome) -> None:
        """Show every monitor a batch."""
        for monitor in self.monitors:
            try:
                monitor.observe(batch, outcome)
                if monitor.waiting:
                    self.worker.wake()
            except Exception as crash:  # noqa: BLE001 - a third party's code
                LOG.error("monitor %s crashed: %s", monitor.name, type(crash).__name__)  # noqa: TRY400

    def close(self) -> None:
        """End the process of the slow work."""
        self.worker.close()

    def report(self) -> dict[str, Any]:
        """Give the state of every monitor, as ``/monitors`` answers it."""
        return {"monitors": {monitor.name: self._report(monitor) for monitor in self.monitors}}

    def _report(self, monitor: Monitor) -> dict[str, Any]:
        state = monitor.state()
        if state != self._states[monitor.name][0]:
            self._states[monitor.name] = (state, _now())
        return {
            "kind": monitor.kind,
            "state": state,
            "since": self._states[monitor.name][1],
            "statistics": [
                {
                    "name": statistic.name,
                    "value": statistic.value,
                    "interval": statistic.interval,
                    "n": statistic.n,
                    "labels": dict(statistic.labels),
                }
                for statistic in monitor.report()
            ],
        }


def _now() -> str:
    return dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds")
