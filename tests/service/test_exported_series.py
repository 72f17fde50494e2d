"""Counters that the monitors export: they start at 0 with the process and never step back."""

import logging

import pytest

from guards.monitor import Series
from service.exported_series import ExportedSeries


def counter(value: float, stream: str = "x") -> Series:
    return Series("rows_total", "counter", {"stream": stream}, value)


def gauge(value: float) -> Series:
    return Series("evidence", "gauge", {"stream": "x"}, value)


def test_what_was_restored_is_not_exported() -> None:
    """Counters start at 0 after a restore, and gauges are what the monitor says."""
    exported = ExportedSeries()
    exported.restored("a", [counter(7), counter(3, "y"), gauge(2.5)])
    assert exported.of({"a": [counter(7), counter(3, "y"), gauge(2.5)]}) == [counter(0), counter(0, "y"), gauge(2.5)]
    assert exported.of({"a": [counter(9), counter(3, "y"), gauge(1)]}) == [counter(2), counter(0, "y"), gauge(1)]


def test_each_monitors_own_start_counts() -> None:
    """A monitor that was not restored exports all it counted, beside one that was."""
    exported = ExportedSeries()
    exported.restored("old", [counter(100)])
    assert exported.of({"old": [counter(101)], "new": [counter(4, "y")]}) == [counter(1), counter(4, "y")]


def test_another_monitor_counts_on() -> None:
    """If the exporting monitor crashes, the counter goes on from its last value, whatever the next monitor counted."""
    exported = ExportedSeries()
    both = {"first": [counter(10)], "second": [counter(4)]}
    assert exported.of(both) == [counter(10)]
    assert exported.of({"first": [], "second": [counter(5)]}) == [counter(10)]
    assert exported.of({"first": [], "second": [counter(8)]}) == [counter(13)]
    assert exported.of({"first": [counter(11)], "second": [counter(9)]}) == [counter(14)]


def test_a_monitor_that_takes_counts_back_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """The exported counter stays where it was and goes on from there; one line names the monitor."""
    exported = ExportedSeries()
    with caplog.at_level(logging.WARNING, "guardhouse"):
        values = [exported.of({"a": [counter(value)]})[0].value for value in (5, 2, 3, 1, 4)]
    assert values == [5, 5, 6, 6, 9]
    assert caplog.messages == ["monitor a: its counter rows_total fell: what /metrics gives stays, and goes on"]
