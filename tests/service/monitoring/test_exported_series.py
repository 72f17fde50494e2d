"""Counters that the monitors export: they start at 0 with the server and never decrease."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guards.monitors.base import Series
from service.monitoring.exported_series import ExportedSeries


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
    """A monitor that was not restored exports all its counts, even beside a restored one."""
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
    """The exported counter keeps its value and goes on from there; one log line names the monitor."""
    exported = ExportedSeries()
    with caplog.at_level(logging.WARNING, "guardhouse"):
        values = [exported.of({"a": [counter(value)]})[0].value for value in (5, 2, 3, 1, 4)]
    assert values == [5, 5, 6, 6, 9]
    assert caplog.messages == ["monitor a: its counter rows_total fell: what /metrics gives stays, and goes on"]


def test_the_next_engine_goes_on() -> None:
    """A new engine exports the last engine's counters and what its own monitors count, without what they restored."""
    exported = ExportedSeries({("rows", "x"): 40.0, ("rows", "y"): 5.0})
    exported.restored("a", [counter(7)])
    assert exported.of({"a": [counter(7), counter(3, "y"), counter(2, "z")]}) == [
        counter(40), counter(8, "y"), counter(2, "z"),
    ]  # fmt: skip
    assert exported.of({"a": [counter(9), counter(3, "y")]}) == [counter(42), counter(8, "y")]


@given(st.lists(st.integers(1, 9) | st.sampled_from(["scrape", "save", "kill", "lose"]), max_size=40))
def test_whatever_engines_are_killed_no_counter_steps_back(steps: list[int | str]) -> None:
    """Across kills, with snapshots restored or lost, every scrape gives at least the last one, and no row twice."""
    exported, counted, saved, last, base = ExportedSeries(), 0, 0, 0.0, 0
    seen = 0
    """Rows that a scrape has shown."""
    for step in [*steps, "scrape"]:
        match step:
            case "scrape":
                (series,) = exported.of({"a": [counter(counted)]})
                assert series.value >= last
                seen, base, last = seen + counted - base, counted, series.value
                assert last == seen
            case "save":
                saved = counted
            case "kill" | "lose":
                exported = ExportedSeries({("rows", "x"): last})
                counted = base = saved if step == "kill" else 0
                if step == "kill":
                    exported.restored("a", [counter(saved)])
                else:
                    saved = 0
            case rows:
                assert isinstance(rows, int)
                counted += rows
