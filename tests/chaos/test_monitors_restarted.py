"""Monitors after kills, restarts and crashes of their own, compared with a replay of the same rows."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from commands import run_each
from example_folders import VALUE_CONFIG, write_values
from gateways import ROOT, clean_environment, fit_all
from safetensors import safe_open
from waiting import until

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

BREAKS = 2.875
ROWS = 'guardhouse_turnstile_rows_total{monitor="turnstile"}'
ALARMS = 'guardhouse_drift_alarms_total{monitor="turnstile",stream="rows"}'
TURNSTILE = {"name": "turnstile", "kind": "turnstile", "average_run_length": 10, "break_at": BREAKS}
MONITORS = [*VALUE_CONFIG["monitors"], TURNSTILE]
GOES_ON = "the monitors go on from there"


@pytest.fixture(scope="module")
def watched(bundles: "Bundles") -> Path:
    """Fit the values with a turnstile among the monitors; give the config."""
    config = write_values(bundles.folder / "watched", monitors=MONITORS)
    fit_all({config: config.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    return config


Serve = Callable[..., "Gateway"]


@pytest.fixture
def serve(bundles: "Bundles", watched: Path) -> Iterator[Serve]:
    """Start servers that keep their state in a folder of the test's choice; at the end, none is left."""
    started: list[Gateway] = []

    def start(state: Path, *, config: Path = watched) -> "Gateway":
        started.append(bundles.serve("watched", config=config, GUARDHOUSE_STATE=str(state)))
        return started[-1].wait_ready()

    yield start
    for gateway in started:
        if gateway.process.poll() is None:
            gateway.kill()


def send(gateway: "Gateway", rows: int) -> None:
    for _ in range(rows):
        gateway.predict([[1, 1, 1]])


def told(gateway: "Gateway") -> dict[str, Any]:
    monitor: dict[str, Any] = gateway.client.get("/v1/models/value/monitors").json()["monitors"]["turnstile"]
    return monitor


def saved(state: Path) -> bytes:
    """Return the saved state as it is on disk; nothing if there is none."""
    path = state / "value.monitors.safetensors"
    return path.read_bytes() if path.exists() else b""


def rows_saved(state: Path) -> int:
    """Return the number of rows that the turnstile has in the saved state."""
    with safe_open(state / "value.monitors.safetensors", "np") as file:
        return int(file.get_tensor("turnstile.rows").item())


def until_alarm_saved(state: Path) -> None:
    until(lambda: b'\\"state\\": \\"alarm\\"' in saved(state))


def test_a_killed_server_goes_on(serve: Serve, tmp_path: Path) -> None:
    """After kill -9 and after a stop, evidence, state and since are those that were; counters start at 0."""
    first = serve(tmp_path)
    send(first, 7)
    assert told(first)["state"] == "ok"
    send(first, 5)
    until_alarm_saved(tmp_path)
    first.wait_for(lambda metrics: metrics[ROWS] == 12)
    since = told(first)["since"]
    send(first, 1)
    until(lambda: rows_saved(tmp_path) == 13)  # nothing alarms at the 13th row: it is saved within some seconds
    first.kill()
    second = serve(tmp_path)
    assert GOES_ON in second.log()
    assert (told(second)["state"], told(second)["since"]) == ("alarm", since)
    assert told(second)["statistics"][0]["n"] == 13
    metrics = second.metrics()
    assert (metrics[ROWS], metrics[ALARMS]) == (0, 0)
    send(second, 8)
    second.wait_for(lambda metrics: (metrics[ROWS], metrics[ALARMS]) == (8, 1))  # the 20th row alarms too
    second.stop()
    third = serve(tmp_path)
    assert (told(third)["statistics"][0]["n"], told(third)["since"]) == (21, since)
    assert third.metrics()[ROWS] == 0
    third.stop()


@pytest.fixture(scope="module")
def gateway(bundles: "Bundles", watched: Path) -> Iterator["Gateway"]:
    """Serve the values for tests of which each leaves a server that serves."""
    gateway = bundles.serve("watched", config=watched, GUARDHOUSE_STATE=str(bundles.folder / "watched" / "state"))
    gateway.state = bundles.folder / "watched" / "state"
    yield gateway.wait_ready()
    gateway.stop()


def test_a_killed_engine_goes_on(gateway: "Gateway") -> None:
    """The engine that the supervisor starts anew gets the lock of the one that was killed, and its state."""
    send(gateway, 11)
    until_alarm_saved(gateway.state)
    engine = gateway.engine
    engine.send_signal(signal.SIGKILL)
    gateway.expected.append("WARNING|circus|restart")
    gateway.wait_restarted(engine)
    assert told(gateway)["statistics"][0]["n"] in {10, 11}  # the alarm was at the tenth row
    assert gateway._scrape()[ROWS] == 0  # nobody had scraped: what was counted before is in the snapshot
    assert "another server" not in gateway.log()


@pytest.mark.slow
def test_two_servers_and_a_changed_config(serve: Serve, watched: Path, tmp_path: Path) -> None:
    """A second server on the folder saves nothing, and logs that; a change of the run length starts evidence anew."""
    first = serve(tmp_path)
    send(first, 3)
    second = serve(tmp_path)
    second.expected.append("another server keeps the monitors' state there: this one runs without")
    assert second.log().count("another server keeps") == 1
    send(second, 4)
    second.stop()
    first.stop()
    longer = [*VALUE_CONFIG["monitors"], TURNSTILE | {"average_run_length": 1000}]
    config = watched.with_name("longer.yaml")
    config.write_text(yaml.safe_dump(VALUE_CONFIG | {"monitors": longer}))
    third = serve(tmp_path, config=config)
    assert third.metrics()[ROWS] == 0
    assert "monitor turnstile: its config has changed since it was saved" in third.log()
    third.stop()


def test_a_monitor_that_breaks_costs_nobody_else(gateway: "Gateway") -> None:
    """Predictions, scrapes, the other monitors and the server's end go on; its entry and a few log lines tell of it."""

    def binned() -> float:
        found = gateway._scrape().items()  # the monitors do not count what the killed engine counted
        return sum(value for name, value in found if 'stream="column:a"' in name and "bin_total" in name)

    before = binned()
    gateway.expected.append("monitor turnstile crashed in [a-z]+: RuntimeError")
    gateway.predict([[BREAKS, 1, 1]])
    gateway.predict([[1, 1, 1]])
    broken = told(gateway)
    assert (broken["state"], broken["statistics"]) == ("insufficient_data", [])
    assert "crashed" in broken["error"]
    assert ROWS not in gateway._scrape()
    assert binned() - before == 2
    assert "PAYLOAD" not in gateway.log()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(serve: Serve, tmp_path: Path) -> None:
    """There is one warning, and the server serves on."""
    tmp_path.chmod(0o500)
    gateway = serve(tmp_path / "state")
    gateway.expected.append("the monitors' state is not kept")
    send(gateway, 12)
    assert told(gateway)["state"] == "alarm"
    gateway.stop()


def test_the_same_rows_replayed(bundles: "Bundles", watched: Path, tmp_path: Path) -> None:
    """Replay finds each alarm at its row; a config at the command line chooses another run length."""
    stream = tmp_path / "stream.csv"
    stream.write_text("a,b,c\n" + "1,1,1\n" * 35)
    arguments = ["replay", bundles.bundle("watched"), "--stream", stream, "--json", "--config"]
    document = json.loads(_replay(bundles, *arguments, watched))
    assert document["rows"] == 35
    assert [alarm["row"] for alarm in document["alarms"]] == [9, 19, 29]
    assert {(alarm["monitor"], alarm["stream"]) for alarm in document["alarms"]} == {("turnstile", "rows")}
    config = watched.with_name("shorter.yaml")
    shorter = [*VALUE_CONFIG["monitors"], TURNSTILE | {"average_run_length": 7}]
    config.write_text(yaml.safe_dump(VALUE_CONFIG | {"monitors": shorter}))
    document = json.loads(_replay(bundles, *arguments, config))
    assert [alarm["row"] for alarm in document["alarms"]] == [6, 13, 20, 27, 34]


def _replay(bundles: "Bundles", *arguments: str | Path) -> str:
    environment = clean_environment() | {"PYTHONPATH": bundles.python_path}
    (done,) = run_each([list(map(str, arguments))], folder=ROOT, environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout
