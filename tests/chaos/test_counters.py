"""The counters of /metrics through every way to stop a server, as a real Prometheus sees them: none counts twice."""

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from example_folders import TABLE_CONFIG, write_table
from gateways import Gateway, fit_all, free_port
from prometheus import Prometheus

if TYPE_CHECKING:
    from conftest import Bundles

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed"),
]
MONITORS = [
    *TABLE_CONFIG["monitors"],
    {"name": "drift", "kind": "sequential", "average_run_length": 100},
    {"name": "turnstile", "kind": "turnstile", "average_run_length": 10, "break_at": -1.0},
]
ORDINARY = {"age": 45, "income": 50.0, "region": "north", "job": "clerk", "trap": 0.5}
DRIFTED = {"age": 119, "income": 400.5, "region": "south", "job": "pilot", "trap": 0.5}
COUNTER = re.compile(r"guardhouse_\w+_(total|bucket|sum|count)(\{.*\})?$")
BY_ITSELF = re.compile(r'route="/(metrics|readyz|livez|v1/models[^"]*)"')
"""What a server counts of this test's own questions before it is first scraped."""
SAVE_SECONDS = 3.0


@pytest.fixture(scope="module")
def config(bundles: "Bundles") -> Path:
    """Fit the table with monitors of every kind that counts and that a snapshot restores."""
    path = write_table(bundles.folder / "counters", monitors=MONITORS)
    fit_all({path: path.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    return path


def counters(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if COUNTER.match(name)}


@dataclass(slots=True)
class Run:
    """Servers that follow one another on one port and one state folder, and all that they counted."""

    start: Callable[[], Gateway]
    prometheus: Prometheus
    gateway: Gateway
    counted: dict[str, float] = field(default_factory=dict)
    sent: int = 0

    def send(self, rows: int) -> None:
        """Predict rows, of which half have drifted, and tell the truth of each."""
        for i in range(rows):
            (answer,) = self.gateway.predict([(DRIFTED, ORDINARY)[i % 2]], groups={"sex": ["Male"]})
            truth = {"outcomes": [{"id": answer["id"], "label": "yes"}]}
            assert self.gateway.post(truth, "/v1/models/loans:feedback").json()["accepted"] == 1
        self.sent += rows

    def until_saved(self) -> None:
        """Wait until the monitors' state of now is on disk."""
        path = self.gateway.state / "loans.monitors.safetensors"
        asked, end = time.time(), time.monotonic() + 60 * SAVE_SECONDS
        while not path.exists() or path.stat().st_mtime < asked:
            self.gateway.predict([DRIFTED])
            self.sent += 1
            assert time.monotonic() < end
            time.sleep(0.1)

    def until_scraped(self) -> dict[str, float]:
        """Wait until Prometheus has all that was counted up to now, and give it."""
        metrics = counters(self.gateway.metrics())
        self.prometheus.wait_for("min(timestamp(guardhouse_build_info))", time.time())
        return metrics

    def end(self, stop: Callable[[Gateway], object]) -> None:
        """Add up what this server counted, and stop it."""
        for name, value in self.until_scraped().items():
            self.counted[name] = self.counted.get(name, 0.0) + value
        stop(self.gateway)

    def begin(self) -> None:
        """Start the next server, which must have counted nothing but what it did itself."""
        self.gateway = self.start()
        strange = {k: v for k, v in counters(self.gateway.metrics()).items() if v and not BY_ITSELF.search(k)}
        assert not strange


@pytest.fixture
def run(bundles: "Bundles", config: Path, tmp_path: Path) -> Iterator[Run]:
    """Start the first server, and Prometheus before its first row."""
    port, started = free_port(), []

    def start() -> Gateway:
        environment: dict[str, str] = {"PYTHONPATH": bundles.python_path, "GUARDHOUSE_STATE": str(tmp_path / "state")}
        gateway = Gateway(config.parent / "bundle", config, tmp_path, port=port, **environment)
        gateway.state = tmp_path / "state"
        started.append(gateway)
        return gateway.wait_ready()

    first = start()
    prometheus = Prometheus(tmp_path, [first.url], [])
    try:
        prometheus.wait_ready().wait_for("count(guardhouse_build_info)", 1)
        yield Run(start, prometheus, first)
    finally:
        prometheus.stop()
        for gateway in started:
            if gateway.process.poll() is None:
                gateway.kill()


def increments(prometheus: Prometheus, name: str) -> float:
    """Add up a counter's increments as ``increase`` does: a lower value is a reset, and counts whole."""
    found: list[Any] = prometheus.query(f"{name}[1h]")
    values = [float(value) for series in found for _, value in series["values"]]
    return sum(now - then if now >= then else now for then, now in zip([0.0, *values], values, strict=False))


def test_what_prometheus_adds_up_is_what_was_counted(run: Run) -> None:
    """Through kill -9 right after a save, kill -9 long after it, and a stop, every counter's increase is the truth."""
    run.send(20)
    run.gateway.wait_explaining(ORDINARY)
    run.until_saved()
    run.end(Gateway.kill)
    run.begin()
    run.send(5)
    run.until_saved()
    run.send(3)  # scraped, and not in the snapshot
    run.end(Gateway.kill)
    run.begin()
    run.send(4)
    run.end(Gateway.stop)
    run.begin()
    run.send(2)
    last = run.until_scraped()
    for name, value in last.items():
        run.counted[name] = run.counted.get(name, 0.0) + value
    moved = {name for name, value in run.counted.items() if value and not BY_ITSELF.search(name)}
    found = {name: increments(run.prometheus, name) for name in sorted(moved)}
    assert found == pytest.approx({name: run.counted[name] for name in moved}, rel=1e-6)
    rows = 'sum(increase(guardhouse_stream_bin_total{stream="column:age"}[10m]))'
    assert run.prometheus.number(rows) == pytest.approx(run.sent, rel=0.05)
    metrics = {name.partition("{")[0] for name in moved}
    for monitor in ("stream_bin", "drift_alarms", "turnstile_rows", "group_outcomes", "group_predictions", "outcomes"):
        assert f"guardhouse_{monitor}_total" in metrics
    assert "guardhouse_explanations_total" in metrics
    run.gateway.stop()
