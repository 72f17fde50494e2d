"""The suitability monitor in a server: its verdict reaches the report, the metrics and the next start."""

import logging

import orjson
import pytest
from easy_and_hard import monitor, outcome, rows

from guards.types import Batch
from service.monitoring.live_monitors import Monitoring


def test_a_verdict_reaches_report_metrics_and_log(caplog: pytest.LogCaptureFixture) -> None:
    """After a window of hard rows, the report and the counter say harm, and the log has the expected loss."""
    live = Monitoring([monitor()])
    x, y = rows(2000, 3, hard=0.95)
    with caplog.at_level(logging.WARNING, "guardhouse"):
        live.observe(Batch(x), outcome(x, y))
        live.judge()
    told = orjson.loads(orjson.dumps(live.report()))["monitors"]["suitable"]
    assert (told["kind"], told["state"]) == ("suitability", "alarm")
    verdicts = {
        each["labels"]["verdict"]: each["value"] for each in told["statistics"] if each["name"] == "suitability"
    }
    assert verdicts == {"no_harm": 0, "harm": 1, "cannot_tell": 0}
    counted = {each.labels["verdict"]: each.value for each in live.series()}
    assert counted == verdicts
    (line,) = [record.getMessage() for record in caplog.records if "suitable" in record.getMessage()]
    assert line.startswith("monitor suitable: from insufficient_data to alarm: expected_loss is 0.1")


def test_a_restart_keeps_the_verdict_and_the_window() -> None:
    """A server that starts again has the last verdict, fills the same window, and its counters start at 0."""
    first, second = Monitoring([monitor()]), Monitoring([monitor()])
    x, y = rows(3000, 3, hard=0.95)
    first.observe(Batch(x), outcome(x, y))
    second.restore("suitable", first.snapshot()["suitable"], "alarm", "2026-11-30T00:00:00Z")
    statistics = [each.report()["monitors"]["suitable"]["statistics"] for each in (first, second)]
    assert statistics[0] == statistics[1]
    assert {each.value for each in second.series()} == {0}
    clean, classes = rows(1000, 4)
    second.observe(Batch(clean), outcome(clean, classes))
    assert sum(each.value for each in second.series()) == 1
