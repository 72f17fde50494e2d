"""A real server with a test of alibi-detect: its process starts late, may be killed, and ends with the server."""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml
from alibi_here import LACKING
from example_folders import ALLOWED, write_table
from gateways import Gateway, fit_all

from guards.monitors.slow_work import process as work_process

if TYPE_CHECKING:
    from conftest import Bundles

pytestmark = [pytest.mark.slow, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]


@pytest.fixture
def watched(bundles: "Bundles", tmp_path: Path) -> Iterator[Gateway]:
    """Serve the table with a Kolmogorov-Smirnov test of every 50 rows."""
    path = write_table(tmp_path / "watched")
    document = yaml.safe_load(path.read_text())
    drift = {"name": "drift", "kind": "alibi_ks", "window": 50, "average_run_length": 5000}
    document["monitors"] = [*document.get("monitors", []), drift]
    path.write_text(yaml.safe_dump(document))
    fit_all({path: path.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    gateway = Gateway(path.parent / "bundle", path, tmp_path / "logs", PYTHONPATH=bundles.python_path)
    yield gateway.wait_ready()
    gateway.stop()


def workers(gateway: Gateway) -> list[psutil.Process]:
    children = psutil.Process(gateway.process.pid).children(recursive=True)
    return [child for child in children if work_process.__file__ in child.cmdline()]


def windows(metrics: Mapping[str, float], result: str) -> float:
    return metrics[f'guardhouse_drift_windows_total{{monitor="drift",result="{result}"}}']


def test_drift_is_tested_beside_the_server(watched: Gateway) -> None:
    """There is no process before a window is full; drift raises an alarm; a killed process is replaced."""
    watched.expected.append("the monitors' process ended")
    watched.predict([ALLOWED] * 49)
    assert workers(watched) == []
    watched.predict([ALLOWED])
    watched.wait_for(lambda metrics: windows(metrics, "tested") == 1)
    report = watched.client.get(f"/v1/models/{watched.name}/monitors").json()["monitors"]["drift"]
    assert (report["kind"], report["state"]) == ("alibi_ks", "alarm")  # all rows are the same one
    assert {s["name"] for s in report["statistics"]} >= {"p_value", "threshold", "windows_tested", "windows_dropped"}
    (process,) = workers(watched)
    assert process.nice() == 19
    os.kill(process.pid, signal.SIGKILL)
    watched.predict([ALLOWED] * 50)
    watched.wait_for(lambda metrics: windows(metrics, "dropped") == 1)
    watched.predict([ALLOWED] * 50)
    watched.wait_for(lambda metrics: windows(metrics, "tested") == 2)
    (other,) = workers(watched)
    assert other.pid != process.pid
    watched.stop()
    assert not psutil.pid_exists(other.pid)
