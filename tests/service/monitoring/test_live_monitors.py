"""Monitors in a server: the crash of one monitor harms no other."""

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Literal

import example_groups
import numpy as np
import orjson
import pytest
import torch
from example_folders import TABLE_CONFIG
from scrapes import scrape_of
from waiting import until

from guards.config.config import parse
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.monitors.base import Context, Monitor, MonitorParams, Series, State, Statistic
from guards.monitors.groups.monitor import Groups, of_requests
from guards.monitors.groups.params import GroupsParams
from guards.types import Batch, Result
from service.monitoring.live_monitors import Monitoring
from service.monitoring.state_log import StateLog
from service.monitoring.sums import Sums
from service.monitoring.watch import Watch
from service.store.database import StoreDownError

SCHEMA = InputSchema(kind="tabular", shape=(1,), columns=(Column(name="age", kind="numeric"),))
CONTEXT = Context(SCHEMA, ("no", "yes"), ("ood",))


class CountParams(MonitorParams):
    """Parameters of the counting monitor."""

    kind: Literal["count"] = "count"


class Count(Monitor):
    """Counts batches; may crash or be in a given state on request."""

    Params = CountParams

    def __init__(self, name: str) -> None:
        super().__init__(CountParams(name=name), CONTEXT)
        self.seen, self.crashes = 0, False
        self.broken = ""
        self.now: State = "ok"

    def observe(self, batch: Batch, outcome: Result) -> None:
        del outcome
        if self.crashes:
            raise ValueError(f"PAYLOAD {batch.x}")
        self.seen += 1

    def report(self) -> list[Statistic]:
        self._break("report")
        return [Statistic("seen", np.float64(self.seen), (0.0, 1.0), self.seen, {"stream": "x"})]

    def state(self) -> State:
        self._break("state")
        return self.now

    def series(self) -> list[Series]:
        self._break("series")
        return [Series("seen_total", "counter", {"monitor": self.name}, np.float64(self.seen))]

    def snapshot(self) -> dict[str, Any]:
        self._break("snapshot")
        return {"seen": np.array(self.seen)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.seen = int(state["seen"])

    def _break(self, method: str) -> None:
        if method == self.broken:
            raise ValueError("PAYLOAD")


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


@pytest.mark.parametrize("method", ["report", "state", "series", "snapshot"])
def test_a_monitor_that_cannot_be_read_costs_nobody_else(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """Report, scrape and snapshot hold the others whole; its entry says that it crashed, the log how, without a row."""
    first, broken, last = monitors = Count("first"), Count("broken"), Count("last")
    monitoring = Monitoring(monitors)
    observe(monitoring)
    broken.broken = method
    with caplog.at_level(logging.ERROR, "guardhouse"):
        report = orjson.loads(orjson.dumps(monitoring.report()))["monitors"]
        scraped = scrape_of(series=monitoring.series)
        saved = monitoring.snapshot()
    assert [report[one.name]["statistics"][0]["value"] for one in (first, last)] == [1, 1]
    assert [f'guardhouse_seen_total{{monitor="{one.name}"}} 1.0' in scraped for one in (first, last)] == [True, True]
    assert {"first", "last"} <= saved.keys()
    assert ("error" in report["broken"]) == (method in ("report", "state"))
    assert report["broken"]["state"] == ("insufficient_data" if "error" in report["broken"] else "ok")
    assert ('"broken"' in scraped) == (method != "series")
    assert ("broken" in saved) == (method != "snapshot")
    assert f"monitor broken crashed in {method.replace('state', 'report')}: ValueError" in caplog.text
    assert "PAYLOAD" not in caplog.text


def test_reading_waits_for_observing() -> None:
    """While the device's thread is in a monitor, no other thread reads it: half a batch is never reported."""
    entered, go_on = threading.Event(), threading.Event()

    class Slow(Count):
        def observe(self, batch: Batch, outcome: Result) -> None:
            super().observe(batch, outcome)
            entered.set()
            assert go_on.wait(60)
            super().observe(batch, outcome)

    monitoring = Monitoring([Slow("slow")])
    with ThreadPoolExecutor(5) as pool:
        observing = pool.submit(observe, monitoring)
        assert entered.wait(60)
        readers = (monitoring.report, monitoring.series, monitoring.look, monitoring.snapshot)
        reading = [pool.submit(reader) for reader in readers]
        assert not wait(reading, 0.2).done
        go_on.set()
        observing.result()
        report, series, _, snapshot = (one.result() for one in reading)
    assert report["monitors"]["slow"]["statistics"][0]["value"] == 2  # type: ignore[index, call-overload]
    assert series[0].value == 2  # type: ignore[index, union-attr]
    assert snapshot["slow"]["seen"] == 2  # type: ignore[index, call-overload]


def test_what_is_no_array_of_numbers_is_not_saved(caplog: pytest.LogCaptureFixture) -> None:
    """A snapshot of strings is the monitor's mistake, and is logged as one."""

    class Texts(Count):
        def snapshot(self) -> dict[str, Any]:
            return {"names": np.array(["a"])}

    with caplog.at_level(logging.ERROR, "guardhouse"):
        assert set(Monitoring([Texts("texts"), Count("a")]).snapshot()) == {"a"}
    assert "monitor texts crashed in snapshot: TypeError" in caplog.text


def test_a_snapshot_for_a_monitor_that_gives_none_is_refused() -> None:
    """A monitor without snapshots has none in the file; a snapshot that names the monitor is refused."""

    class Plain(Monitor):
        def observe(self, batch: Batch, outcome: Result) -> None:
            pass

        def report(self) -> list[Statistic]:
            return []

    monitoring = Monitoring([Plain(CountParams(name="plain"), CONTEXT)])
    assert monitoring.snapshot() == {}
    assert monitoring.series() == []
    with pytest.raises(ValueError, match="the monitor gives no snapshots"):
        monitoring.restore("plain", {"seen": np.array(7)}, "ok", "before")
    monitoring.restore("plain", {}, "ok", "before")
    assert monitoring.look() == {"plain": ("ok", "before")}


def test_counting_monitors_are_judged_by_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A monitor that counts is judged by a copy of its counts or by the store's totals, and not while it counts."""
    groups = example_groups.monitor()
    monitoring = Monitoring([groups, Count("a")])
    given: list[Any] = []
    monkeypatch.setattr(Groups, "judge_by", lambda _, totals, windows: given.append((totals, windows)))
    groups.counts[0] = 2
    monitoring.judge()
    groups.counts[0] = 5
    monitoring.judge(Sums({"sex": {0: 3}}))
    assert [int(totals.sum()) for totals, _ in given] == [2, 3]


def test_a_restored_monitor_exports_what_this_process_counted() -> None:
    """Its counters start at 0, and its report goes on from the snapshot."""
    monitoring = Monitoring([Count("a")])
    monitoring.restore("a", {"seen": np.array(7)}, "ok", "before")
    assert [series.value for series in monitoring.series()] == [0]
    observe(monitoring)
    assert [series.value for series in monitoring.series()] == [1]
    assert monitoring.report()["monitors"]["a"]["statistics"][0]["value"] == 8


def test_a_monitor_that_cannot_be_read_is_not_restored() -> None:
    """A monitor whose old counts cannot be read starts anew, because old and new counts could not be separated."""
    monitor = Count("a")
    monitoring = Monitoring([monitor])
    monitor.broken = "series"
    with pytest.raises(ValueError, match="PAYLOAD"):
        monitoring.restore("a", {"seen": np.array(7)}, "ok", "before")
    monitor.broken = ""
    assert [series.value for series in monitoring.series()] == [0]


def test_scrapes_at_once_export_no_older_count_last() -> None:
    """Scrapes that overlap with one another and with batches never see a counter fall."""
    monitor = Count("a")
    monitoring = Monitoring([monitor])

    def scraped() -> list[float]:
        return [monitoring.series()[0].value for _ in range(300)]

    with ThreadPoolExecutor(5) as pool:
        scraping = [pool.submit(scraped) for _ in range(4)]
        while wait(scraping, 0).done != set(scraping):
            observe(monitoring)
        found = [one.result() for one in scraping]
    assert all(values == sorted(values) for values in found)
    assert monitoring.series()[0].value == monitor.seen


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
    monkeypatch.setattr("service.monitoring.current_states._now", lambda: next(times))
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


def test_every_monitor_has_one_state_in_the_metrics() -> None:
    """The gauge is 1 for the state that a monitor is in and 0 for the others; a crashed one has `insufficient_data`."""
    first, broken = monitors = Count("first"), Count("broken")
    first.now, broken.broken = "alarm", "state"
    monitoring = Monitoring(monitors)

    def scraped(name: str) -> dict[str, float]:
        lines = scrape_of(series=monitoring.series, states=monitoring.states).splitlines()
        start = f'guardhouse_monitor_state{{monitor="{name}",state="'
        return {line[len(start) :].split('"')[0]: float(line.split()[-1]) for line in lines if line.startswith(start)}

    none = dict.fromkeys(("ok", "warning", "alarm", "insufficient_data"), 0.0)
    assert scraped("first") == none | {"alarm": 1.0}
    assert scraped("broken") == none | {"insufficient_data": 1.0}
    first.now = "ok"
    assert scraped("first") == none | {"ok": 1.0}


def test_a_change_of_state_is_logged_once_with_its_statistic(caplog: pytest.LogCaptureFixture) -> None:
    """Into alarm as a warning, any other change as information; a state that stays has no line."""

    class Told(Count):
        def cause(self) -> Statistic:
            return Statistic("seen", 0.25, (0.125, 0.5), 40, {"stream": "x"})

    monitor = Told("a")
    monitoring = Monitoring([monitor])
    with caplog.at_level(logging.INFO, "guardhouse"):
        for state in ("ok", "alarm", "alarm", "warning"):
            monitor.now = state  # type: ignore[assignment]
            monitoring.report()
            monitoring.states()
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "monitor a: from ok to alarm: seen (stream x) is 0.25 [0.125, 0.5], n = 40"),
        ("INFO", "monitor a: from alarm to warning: seen (stream x) is 0.25 [0.125, 0.5], n = 40"),
    ]


def test_a_state_that_comes_and_goes_has_few_lines_and_a_true_last_one(caplog: pytest.LogCaptureFixture) -> None:
    """A burst, then a line a minute; the last line gives the state there is, and the changes without a line."""
    now = 0.0
    log = StateLog(lambda: now)
    before: State = "ok"
    with caplog.at_level(logging.INFO, "guardhouse"):
        for turn in range(500):
            now, state = turn / 10, "ok" if turn % 2 else "alarm"
            log.note("a", state, before, lambda: None)  # type: ignore[arg-type]
            before = state  # type: ignore[assignment]
        assert len(caplog.records) == 5
        now += 60
        log.note("a", "ok", "ok", lambda: None)
    assert caplog.records[-1].message == "monitor a: from alarm to ok (495 changes since the last line)"


def test_an_alarm_is_known_without_anybody_asking() -> None:
    """A counting monitor is judged by the store's totals soon after it counted, and stays while the store is down."""
    monitor = Count("a")
    monitoring = Monitoring([monitor])
    asked = threading.Event()

    def totals() -> None:
        if asked.is_set():
            raise StoreDownError("away")
        monitor.now = "alarm"
        asked.set()

    watch = Watch(monitoring, totals)
    try:
        observe(monitoring)
        assert asked.wait(60)
        until(lambda: monitoring._states.all()["a"][0] == "alarm", 10)
    finally:
        watch.close()
    assert not watch._thread.is_alive()


def test_outcomes_are_learnt_in_lots() -> None:
    """Counters of outcomes change by ten outcomes or more, and no outcome is lost."""
    monitor = example_groups.monitor()
    monitoring = Monitoring([monitor], smallest_count=10)
    one = np.arange(monitor.counts.size, dtype=np.int64)
    counted = []
    for rows in (4, 5, 1, 3, 12):
        monitoring.learn(rows, {monitor.name: one * rows})
        counted.append(int(monitor.counts[1]))
    assert counted == [0, 0, 10, 10, 25]


def test_figures_of_a_few_rows_are_hidden() -> None:
    """A report hides the value, the interval and the number of rows; figures of no row and of enough rows stay."""
    monitor = Count("a")
    monitoring = Monitoring([monitor], smallest_count=10)
    found = []
    for seen in (0, 1, 9, 10):
        monitor.seen = seen
        (statistic,) = monitoring.report()["monitors"]["a"]["statistics"]
        found.append((statistic["value"], statistic["interval"], statistic["n"]))
    assert found == [(0, (0, 1), 0), (None, None, None), (None, None, None), (10, (0, 1), 10)]
