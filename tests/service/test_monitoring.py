"""Feeding the monitors: a crash of one harms nobody else."""

import logging
from typing import Any, Literal

import pytest
import torch
from made_up import TABLE_CONFIG

from guards.config import parse
from guards.monitor import Context, Monitor, MonitorParams, State, Statistic
from guards.monitors.groups import Groups, GroupsParams, of_requests
from guards.schema import Column, InputSchema
from guards.types import Batch, Outcome
from service.monitoring import Monitoring

SCHEMA = InputSchema(kind="tabular", shape=(1,), columns=(Column(name="age", kind="numeric"),))
CONTEXT = Context(SCHEMA, ("no", "yes"), ("ood",))


class CountParams(MonitorParams):
    """Parameters of the counting monitor."""

    kind: Literal["count"] = "count"


class Count(Monitor):
    """Counts batches; may be told to crash, or to be in some state."""

    Params = CountParams

    def __init__(self, name: str) -> None:
        super().__init__(CountParams(name=name), CONTEXT)
        self.seen, self.crashes = 0, False
        self.now: State = "ok"

    def observe(self, batch: Batch, outcome: Outcome) -> None:
        del outcome
        if self.crashes:
            raise ValueError(f"PAYLOAD {batch.x}")
        self.seen += 1

    def report(self) -> list[Statistic]:
        return [Statistic("seen", float(self.seen), (0.0, 1.0), self.seen, {"stream": "x"})]

    def state(self) -> State:
        return self.now


def observe(monitoring: Monitoring) -> None:
    """Show the monitors a batch."""
    outcome: Any = None
    monitoring.observe(Batch(torch.zeros(1, 1)), outcome)


def test_a_crashing_monitor_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """The monitors before and after it see the batch, and the log names it without a row."""
    first, broken, last = monitors = Count("first"), Count("broken"), Count("last")
    broken.crashes = True
    with caplog.at_level(logging.ERROR, "guardhouse"):
        observe(Monitoring(monitors))
    assert (first.seen, broken.seen, last.seen) == (1, 0, 1)
    assert "broken" in caplog.text
    assert "PAYLOAD" not in caplog.text


def test_the_report_has_the_contracts_shape() -> None:
    """Name, kind, state, since, and statistics with interval, n and labels."""
    monitoring = Monitoring([Count("a")])
    observe(monitoring)
    report = monitoring.report()["monitors"]["a"]
    assert report["statistics"] == [
        {"name": "seen", "value": 1.0, "interval": (0.0, 1.0), "n": 1, "labels": {"stream": "x"}}
    ]
    assert (report["kind"], report["state"]) == ("count", "ok")


def test_since_moves_with_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """`since` says when the state was entered, and stays while it lasts."""
    times = iter(["t0", "t1", "t2"])
    monkeypatch.setattr("service.monitoring._now", lambda: next(times))
    monitor = Count("a")
    monitoring = Monitoring([monitor])

    def told() -> tuple[str, str]:
        report = monitoring.report()["monitors"]["a"]
        return report["state"], report["since"]

    assert told() == told() == ("ok", "t0")
    monitor.now = "alarm"
    assert told() == told() == ("alarm", "t1")
    monitor.now = "ok"
    assert told() == ("ok", "t2")


def test_groups_of_requests_are_found_by_attribute() -> None:
    """The monitors whose groups come with the request are those that a request must bring codes for."""
    params = [
        monitor
        for monitor in parse(TABLE_CONFIG | {"guards": []}).monitors
        if isinstance(monitor, GroupsParams) and (monitor.source.request or monitor.source.edges)
    ]
    monitors = [Groups(one, CONTEXT) for one in params]
    assert [one.name for one in monitors] == ["age", "sex"]
    assert of_requests(monitors) == {"sex": monitors[1]}
