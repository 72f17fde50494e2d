"""The log of requests: one line for each while requests are few, and only failures while they are many."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from service.front.faults import log_fault
from service.telemetry.logs import BURST, RateLimit
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.request_record import Exchanges

ROUTE = "/predict"
Lines = Callable[[], list[logging.LogRecord]]


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> Exchanges:
    """Exchanges in a second that never ends."""
    monkeypatch.setattr("service.telemetry.access_log.time.time", lambda: 1000.0)
    return Exchanges(FrontMetrics({ROUTE: (200, 422, 500), "/livez": (200,)}))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Lines]:
    """The log so far, from info up."""
    with caplog.at_level(logging.INFO, "guardhouse"):
        yield lambda: caplog.records


def ask(exchanges: Exchanges, code: int | None, **known: Any) -> None:
    exchange = exchanges.begin(ROUTE, "POST", "id", [])
    for name, value in known.items():
        setattr(exchange, name, value)
    exchanges.end(exchange, code)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = record.__dict__["fields"]
    return found


def test_a_request_is_a_line(exchanges: Exchanges, lines: Lines) -> None:
    """A line says what was asked, how it ended, how long it took and the strictest of what was done."""
    ask(exchanges, 200, rows=3, actions=np.array([0, 3, 1]))
    (line,) = lines()
    assert (line.name, line.levelname, line.getMessage()) == ("guardhouse.access", "INFO", "POST /predict 200")
    told = fields(line)
    assert 0 <= told.pop("duration_seconds") < 10
    assert told == {
        "method": "POST", "route": ROUTE, "code": 200, "request_id": "id", "rows": 3, "action": "reject",
    }  # fmt: skip


def test_what_has_no_rows_says_nothing_of_them(exchanges: Exchanges, lines: Lines) -> None:
    """A request that was refused before its rows were known has neither rows nor an action."""
    ask(exchanges, 422)
    assert fields(lines()[0]).keys() == {"method", "route", "code", "request_id", "duration_seconds"}


def test_a_flood_hides_no_failure(exchanges: Exchanges, lines: Lines) -> None:
    """A thousand answers and a thousand refusals are a burst of lines each, and the one fault among them is there."""
    for _ in range(1000):
        ask(exchanges, 200)
        ask(exchanges, 422)
    ask(exchanges, 500)
    assert Counter(fields(line)["code"] for line in lines()) == {200: BURST, 422: BURST, 500: 1}


def test_what_was_left_out_is_counted(exchanges: Exchanges, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next line that there is room for says how many there was none for."""
    for _ in range(BURST + 7):
        ask(exchanges, 200)
    monkeypatch.setattr("service.telemetry.access_log.time.time", lambda: 1001.0)
    ask(exchanges, 200)
    ask(exchanges, 200)
    assert [fields(line).get("dropped") for line in lines()[-2:]] == [7, None]


def test_a_line_that_has_its_token_needs_no_other(exchanges: Exchanges, lines: Lines) -> None:
    """The limit of lines from one place in the code lets these through: they come from one place, and were chosen."""
    for _ in range(BURST):
        ask(exchanges, 200)
        ask(exchanges, 422)
    limit = RateLimit()
    assert len([line for line in lines() if limit.filter(line)]) == 2 * BURST


def test_a_probe_and_a_request_without_an_answer_are_no_lines(exchanges: Exchanges, lines: Lines) -> None:
    """Probes are counted and not logged; a request whose client left before its answer is no longer in flight."""
    probe = exchanges.begin("/livez", "GET", "id", [])
    assert exchanges.metrics.inflight == 1
    exchanges.end(probe, 200)
    ask(exchanges, None)
    assert exchanges.metrics.inflight == 0
    assert exchanges.metrics.requests.values.sum() == 1
    assert not lines()


def test_a_fault_is_told_once(exchanges: Exchanges, lines: Lines) -> None:
    """The line with the place of a fault is the request's only line, and names its route."""
    exchange = exchanges.begin(
        ROUTE, "POST", "the-id", [(b"traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01")]
    )
    log_fault(ValueError("PAYLOAD"), "the-id")
    exchanges.end(exchange, 500)
    (line,) = lines()
    assert line.getMessage().startswith("ValueError while answering request the-id")
    assert fields(line) == {"method": "POST", "route": ROUTE, "code": 500, "trace_id": "1" * 32}
    assert "PAYLOAD" not in line.getMessage()


def test_nothing_is_written_above_its_level(exchanges: Exchanges, caplog: pytest.LogCaptureFixture) -> None:
    """If the log starts at warnings, requests leave no line."""
    with caplog.at_level(logging.WARNING, "guardhouse"):
        ask(exchanges, 200)
        ask(exchanges, 500)
    assert not caplog.records
