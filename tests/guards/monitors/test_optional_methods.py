"""A monitor's optional abilities are found by its methods, whatever its base class is."""

from typing import Any

import example_groups
import numpy as np
import pytest
import tiny_models
import torch
from alarming_monitors import Bell, BellParams, Forgetful, Lamp

from guards import Batch, Result, Statistic
from guards.config.plugins import registered
from guards.monitors.alibi.base import AlibiMonitor
from guards.monitors.base import Context, CountingMonitor, Monitor, MonitorParams
from guards.monitors.optional_methods import HasCause, HasCounts, HasSeries, HasSlowWork, HasSnapshots, series_of
from guards.monitors.slow_monitor import SlowMonitor
from guards.monitors.slow_work.work import Arrays, Work

CONTEXT = Context(tiny_models.schema("tensor"), tiny_models.CLASSES, ())
PROTOCOLS = (HasCause, HasCounts, HasSeries, HasSlowWork, HasSnapshots)


class Plain(Monitor):
    """Has what a monitor must have, and nothing else."""

    def observe(self, batch: Batch, outcome: Result) -> None:
        """See nothing."""

    def report(self) -> list[Statistic]:
        return []


class Slow(SlowMonitor):
    """Doubles the number of batches it has seen, slowly."""

    def __init__(self) -> None:
        super().__init__(MonitorParams(name="slow", kind="slow"), CONTEXT)
        self.left: list[Work] = []
        self.results: list[int] = []
        self.seen = 0

    def observe(self, batch: Batch, outcome: Result) -> None:
        del batch, outcome
        self.seen += 1
        self.left.append(Work("slow_functions:double", {}, {"value": np.asarray(self.seen)}))
        self.work_off()

    @property
    def waiting(self) -> int:
        return len(self.left)

    def pending(self) -> Work | None:
        return self.left.pop(0) if self.left else None

    def settle(self, result: Arrays | None) -> None:
        self.results.append(0 if result is None else int(result["twice"]))

    def report(self) -> list[Statistic]:
        return []


def seen(monitor: Monitor, batches: int) -> Monitor:
    outcome: Any = None
    for _ in range(batches):
        monitor.observe(Batch(torch.zeros(1, 5)), outcome)
    return monitor


def test_base_has_four_methods() -> None:
    """The base of all monitors has ``observe``, ``report``, ``state`` and ``alarms`` beside ``fit``, and no other."""
    own = {name for name, value in vars(Monitor).items() if callable(value) and not name.startswith("_")}
    assert own == {"fit", "observe", "report", "state", "alarms"}


def test_a_plain_monitor_has_nothing_more() -> None:
    """A monitor with the four methods alone matches no protocol, gives no series, and never alarms."""
    plain = Plain(MonitorParams(name="plain", kind="plain"), CONTEXT)
    assert [protocol for protocol in PROTOCOLS if isinstance(plain, protocol)] == []
    assert series_of(plain) == []
    assert plain.alarms() == {}


def test_methods_tell_and_not_the_base() -> None:
    """A third party's monitor has what its methods are, though it is derived from the plain base."""
    bell = Bell(BellParams(name="bell"), CONTEXT)
    assert [protocol for protocol in PROTOCOLS if isinstance(bell, protocol)] == [HasSeries, HasSnapshots]
    assert series_of(bell) == bell.series() != []


def test_built_in_monitors() -> None:
    """Only the counting monitors match the protocol of counts, and only alibi's the protocol of slow work."""
    classes = registered("monitors").values()
    counting = [each for each in classes if issubclass(each, CountingMonitor)]
    slow = [each for each in classes if issubclass(each, AlibiMonitor)]
    assert len(counting) == 2
    assert len(slow) > 2
    for each in (*counting, *slow):
        methods = {name for name in dir(each) if not name.startswith("_")}
        assert ({"tally", "judge_by", "aside"} <= methods) == (each in counting)
        assert ({"defer", "waiting", "pending", "settle"} <= methods) == (each in slow)
    monitor = example_groups.monitor(tolerance=0.1)
    assert isinstance(monitor, HasCounts)
    assert isinstance(monitor, HasCause)
    assert isinstance(monitor, HasSnapshots)
    assert not isinstance(monitor, HasSlowWork)


def test_slow_work_is_done_at_once_unless_it_is_deferred() -> None:
    """By itself a monitor works off what it gathers; deferred, each piece waits to be taken and given back."""
    at_once, later = Slow(), Slow()
    assert isinstance(later, HasSlowWork)
    later.defer()
    for each in (at_once, later):
        seen(each, 3)
    assert (at_once.results, at_once.waiting) == ([2, 4, 6], 0)
    assert (later.results, later.waiting) == ([], 3)
    work = later.pending()
    assert work is not None
    later.settle(work.run())
    assert (later.results, later.waiting) == ([2], 2)


@pytest.mark.parametrize(("kind", "counted"), [(Bell, True), (Forgetful, True), (Lamp, False)])
def test_alarms_are_counted_or_told_by_the_state(kind: type[Bell], counted: bool) -> None:
    """A monitor counts its alarms by stream from the start, or gives None, and its state tells."""
    monitor = kind(BellParams(name="bell"), CONTEXT)
    assert (monitor.alarms() is not None) == counted
    assert Monitor.alarms(monitor) is None
    assert set((monitor.alarms() or {}).values()) == ({0} if counted else set())


def test_a_counting_monitor_alarms_if_its_parameters_let_it() -> None:
    """Without a tolerance a groups monitor never alarms; with a tolerance its state tells."""
    assert example_groups.monitor().alarms() == {}
    assert example_groups.monitor(tolerance=0.1).alarms() is None


def test_judged_by_given_totals() -> None:
    """Given totals are reported in place of the own counts, which stay; a copy aside leaves the monitor as it is."""
    monitor = example_groups.monitor(tolerance=0.1)
    before = monitor.report()
    totals = np.arange(monitor.counts.size, dtype=np.int64)
    aside = monitor.aside(totals)
    assert monitor.report() == before
    monitor.judge_by(totals, ())
    assert monitor.report() == aside.report() != before
    assert not monitor.counts.any()
