"""Resets of monitors: each is followed once, also after a kill, and counters for Prometheus never fall."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import example_groups
import numpy as np
import numpy.typing as npt
import torch

from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.monitors.base import Context, Monitor, MonitorParams, Series, State, Statistic
from guards.types import Batch
from service.messages.monitor_changes import Change
from service.monitoring.live_monitors import Monitoring
from service.monitoring.snapshots import Snapshots

SCHEMA = InputSchema(kind="tabular", shape=(1,), columns=(Column(name="age", kind="numeric"),))
CONTEXT = Context(SCHEMA, ("no", "yes"), ("ood",))
ROWS = "seen_total"


class Alarming(Monitor):
    """Alarms after five rows; it goes on counting in the array that it was restored from."""

    def __init__(self, name: str = "drift") -> None:
        super().__init__(MonitorParams(name=name, kind="alarming"), CONTEXT)
        self.rows = np.zeros(1, np.int64)

    def observe(self, batch: Batch, outcome: Any) -> None:
        del outcome
        self.rows += len(batch)

    def report(self) -> list[Statistic]:
        return [Statistic("rows", float(self.rows[0]), None, int(self.rows[0]))]

    def state(self) -> State:
        return "alarm" if self.rows[0] >= 5 else "ok"

    def series(self) -> list[Series]:
        return [Series(ROWS, "counter", {"monitor": self.name}, float(self.rows[0]))]

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        return {"rows": self.rows}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self.rows = np.asarray(state["rows"])


class Bare(Alarming):
    """Gives no snapshot."""

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        return {}


def see(monitoring: Monitoring, rows: int) -> None:
    outcome: Any = None
    monitoring.observe(Batch(torch.zeros(rows, 1)), outcome)


def exported(monitoring: Monitoring) -> float:
    (value,) = [series.value for series in monitoring.series() if series.metric == ROWS]
    return value


def change(name: str = "drift", *, ago: float = 0.0) -> dict[str, Change]:
    return {name: Change("reset", name, "why", "boss", time.time() - ago, 1)}


def test_a_reset_is_followed_once_and_again_if_there_is_another() -> None:
    """The alarm ends, rows that come later count, and the exported counter goes on from where it was."""
    monitor = Alarming()
    monitoring = Monitoring([monitor])
    see(monitoring, 7)
    assert (exported(monitoring), monitoring.states()["drift"][1]) == (7, "alarm")
    first = change()
    for _ in range(2):
        monitoring.reset(first)
        assert (int(monitor.rows[0]), monitoring.states()["drift"][1]) == (0, "ok")
    see(monitoring, 3)
    monitoring.reset(first)
    assert (int(monitor.rows[0]), exported(monitoring)) == (3, 10)
    monitoring.reset(change(ago=-1))
    assert (int(monitor.rows[0]), exported(monitoring)) == (0, 10)
    see(monitoring, 6)
    assert (monitoring.states()["drift"][1], exported(monitoring)) == ("alarm", 16)


def test_a_reset_from_before_the_start_costs_no_row() -> None:
    """A monitor that started anew after its reset has nothing to forget."""
    monitor = Alarming()
    monitoring = Monitoring([monitor])
    see(monitoring, 2)
    monitoring.reset(change(ago=60))
    assert int(monitor.rows[0]) == 2


def test_a_killed_server_follows_a_reset_that_it_has_not_saved(tmp_path: Path) -> None:
    """A state file from before the reset is restored and then reset; one from after it is not reset again."""

    def started() -> tuple[Alarming, Monitoring, Snapshots]:
        monitor = Alarming()
        monitoring = Monitoring([monitor])
        snapshots = Snapshots(tmp_path, model="m", bundle="b", configs={"drift": "{}"}, monitoring=monitoring)
        return monitor, monitoring, snapshots

    def kill(snapshots: Snapshots) -> None:
        assert snapshots._lock is not None
        snapshots._lock.close()

    _, monitoring, snapshots = started()
    see(monitoring, 9)
    snapshots.save()
    reset = change()
    monitoring.reset(reset)
    kill(snapshots)
    monitor, monitoring, snapshots = started()
    assert int(monitor.rows[0]) == 9
    monitoring.reset(reset)
    assert int(monitor.rows[0]) == 0
    see(monitoring, 4)
    snapshots.save()
    kill(snapshots)
    monitor, monitoring, snapshots = started()
    monitoring.reset(reset)
    assert int(monitor.rows[0]) == 4
    kill(snapshots)


def test_counting_monitors_forget_and_others_refuse() -> None:
    """A monitor that counts can be reset with its latched alarm; one without snapshots cannot."""
    groups, bare = example_groups.monitor(tolerance=0.1, minimum=1), Bare("bare")
    monitoring = Monitoring([groups, bare])
    rows = np.repeat([0, 1], 200)
    example_groups.feed(groups, rows, 1 - rows, 1 - rows)
    monitoring.judge()
    assert monitoring.states()["sex"][1] == "alarm"
    assert (monitoring.resets.possible("sex"), monitoring.resets.possible("bare")) == (True, False)
    monitoring.reset(change("sex") | change("bare"))
    monitoring.judge()
    assert monitoring.states()["sex"][1] == "insufficient_data"
    assert not groups.counts.any()
