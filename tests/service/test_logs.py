"""Logs: one JSON object a line, and a flood of one line costs a few."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from service.logs import BURST, LINES_PER_SECOND, JsonLines, RateLimit

ROOT = Path(__file__).parents[2]


def record(line: int = 1, at: float = 1000.0, message: str = "a %s", *args: object) -> logging.LogRecord:
    """Make a record of a place at a time."""
    made = logging.LogRecord("guardhouse", logging.ERROR, "a.py", line, message, args or ("b",), None)
    made.created, made.msecs = at, at % 1 * 1000
    return made


def test_a_flood_is_cut_to_a_burst() -> None:
    """A burst passes, then so many a second; another place in the code is not affected."""
    limit = RateLimit()
    assert sum(limit.filter(record()) for _ in range(1000)) == BURST
    assert sum(limit.filter(record(line=2)) for _ in range(1000)) == BURST
    assert sum(limit.filter(record(at=1002.0)) for _ in range(1000)) == 2 * LINES_PER_SECOND
    assert sum(limit.filter(record(at=9999.0)) for _ in range(1000)) == BURST


def test_what_was_dropped_is_said() -> None:
    """The first line that passes again says how many did not."""
    limit = RateLimit()
    for _ in range(BURST + 7):
        limit.filter(record())
    late = record(at=1001.0)
    assert limit.filter(late)
    assert late.getMessage() == "a b (7 such lines were dropped)"
    next_one = record(at=1001.0)
    assert limit.filter(next_one)
    assert next_one.getMessage() == "a b"


@pytest.mark.parametrize("message", ["plain", 'quote " and \\', "line\nbreak", "é😀", "\x00\x1b[31m"])
def test_a_record_is_one_line_of_json(message: str) -> None:
    """Whatever a message holds, a line is one JSON object with the same message."""
    line = JsonLines().format(record(1, 1700000000.25, "%s", message))
    assert "\n" not in line
    parsed = json.loads(line)
    assert parsed["message"] == message
    assert parsed["level"] == "error"
    assert parsed["time"] == "2023-11-14T22:13:20.250Z"


def test_exceptions_stay_on_the_line() -> None:
    """A traceback is a field of the line, and not more lines."""
    made = record()
    made.exc_info = (ValueError, ValueError("x"), None)
    line = JsonLines().format(made)
    assert "\n" not in line
    assert "ValueError: x" in json.loads(line)["exception"]


def test_everything_that_speaks_speaks_json() -> None:
    """Python's warnings and the loggers of libraries come out as JSON lines too, from warnings up."""
    script = (
        "import logging, warnings\nfrom service.logs import configure\nconfigure('info')\n"
        "logging.getLogger('guardhouse').info('ours')\nlogging.getLogger('uvicorn.error').error('never')\n"
        "logging.getLogger('other').info('never')\nlogging.getLogger('other').warning('theirs')\n"
        "warnings.warn('python')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["message"].splitlines()[0].rpartition(": ")[2] for line in lines] == ["ours", "theirs", "python"]
