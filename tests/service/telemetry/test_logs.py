"""Logs: one JSON object a line, and many repetitions of a line are cut to a few."""

import importlib
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from service.telemetry.logs import BURST, LINES_PER_SECOND, CallerLeft, JsonLines, RateLimit

CALLERS_WHO_LEAVE = """
import asyncio, grpc
from service.telemetry.logs import configure

configure("info")

async def handle(body, context):
    if body == b"fault":
        raise KeyError("a fault of ours")
    await asyncio.sleep(context.time_remaining())
    await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too late")

def ask(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/a.B/C")
        for _ in range(20):
            calls = [call.future(b"", timeout=0.05) for _ in range(20)]
            assert {each.code() for each in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert call.future(b"fault").code() == grpc.StatusCode.UNKNOWN

async def main():
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(handle)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", {"C": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.to_thread(ask, port)
    await server.stop(1)

asyncio.run(main())
"""
ROOT = Path(__file__).parents[3]


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
    """Every message is logged as one line with one JSON object that holds the same message."""
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
        "import logging, warnings\nfrom service.telemetry.logs import configure\nconfigure('info')\n"
        "logging.getLogger('guardhouse').info('ours')\nlogging.getLogger('uvicorn.error').error('never')\n"
        "logging.getLogger('other').info('never')\nlogging.getLogger('other').warning('theirs')\n"
        "warnings.warn('python')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["message"].splitlines()[0].rpartition(": ")[2] for line in lines] == ["ours", "theirs", "python"]


def test_callers_who_leave_are_no_error() -> None:
    """If a caller's deadline passes while its answer is sent, the log stays silent; a handler's fault is logged."""
    done = subprocess.run(
        [sys.executable, "-c", CALLERS_WHO_LEAVE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert "Unexpected [KeyError]" in line["message"]


def test_grpc_still_names_its_error_so() -> None:
    """Of gRPC's errors only the one of an answer that could not be sent is dropped."""
    cygrpc = importlib.import_module("grpc._cython.cygrpc")
    kept = {}
    for raised in (cygrpc.ExecuteBatchError, cygrpc.UsageError, cygrpc.InternalError, KeyError):
        made = record()
        made.exc_info = (raised, raised("x"), None)
        kept[raised.__name__] = CallerLeft().filter(made)
    assert kept == {"ExecuteBatchError": False, "UsageError": True, "InternalError": True, "KeyError": True}
    assert CallerLeft().filter(record())
