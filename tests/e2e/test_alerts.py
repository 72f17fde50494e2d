"""5 % errors reach a real Alertmanager through a real Prometheus, soon, even after an hour without errors."""

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from drift_figures import spell
from fresh_client import FRESH
from gateways import STALL_SECONDS, free_port
from prometheus import Prometheus
from waiting import until

RULES = Path(__file__).parents[2] / "deploy" / "prometheus"
NAMES = ("slo.rules.yaml", "capacity.rules.yaml", "guards.rules.yaml")
A_SECOND, SHARE = 40, 0.05
STEP, HOUR = 15, 3600
ROUTE = "/v1/models/{name}:predict"

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("prometheus-alertmanager")),
    reason="prometheus and prometheus-alertmanager are not installed",
)


@dataclass(slots=True)
class Traffic:
    """What a gateway would have counted: a rate of requests, all answered until some begin to fail."""

    began: float = field(default_factory=time.time)
    failing_since: float = float("inf")

    def counts(self, now: float) -> dict[str, int]:
        """Give every series and its value."""
        total = int(A_SECOND * (now - self.began))
        bad = int(A_SECOND * SHARE * max(0.0, now - self.failing_since))
        duration = "guardhouse_request_duration_seconds"
        return {
            spell("guardhouse_requests_total", route=ROUTE, code="200"): total - bad,
            spell("guardhouse_requests_total", route=ROUTE, code="500"): bad,
            spell(f"{duration}_bucket", route=ROUTE, le="0.25"): total,
            spell(f"{duration}_bucket", route=ROUTE, le="+Inf"): total,
            spell(f"{duration}_count", route=ROUTE): total,
            spell("guardhouse_build_info", model="made-up", bundle="sha256:one", version="1", model_version="1"): 1,
        }

    def page(self) -> bytes:
        return "".join(f"{name} {value}\n" for name, value in self.counts(time.time()).items()).encode()


@contextlib.contextmanager
def exporting(traffic: Traffic) -> Iterator[str]:
    """Serve the counters over HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = traffic.page()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    """Run an Alertmanager that sends nothing."""
    url = f"http://127.0.0.1:{free_port()}"
    config = tmp_path / "alertmanager.yaml"
    config.write_text(yaml.safe_dump({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}))
    command = [
        "prometheus-alertmanager", f"--config.file={config}", f"--storage.path={tmp_path / 'alertmanager'}",
        f"--web.listen-address={url.removeprefix('http://')}", "--cluster.listen-address=",
    ]  # fmt: skip
    with (tmp_path / "alertmanager.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: ready(url), pause=0.2)
        yield url
    finally:
        process.terminate()
        process.wait(STALL_SECONDS)


def ready(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return FRESH.get(f"{url}/-/ready", timeout=STALL_SECONDS).status_code == 200
    return False


def alerts(alertmanager: str) -> list[Mapping[str, Any]]:
    """Ask which alerts of ours have come."""
    found: list[Mapping[str, Any]] = FRESH.get(f"{alertmanager}/api/v2/alerts", timeout=STALL_SECONDS).json()
    return [alert for alert in found if alert["labels"]["alertname"].startswith("Guardhouse")]


def page(alertmanager: str) -> Mapping[str, Any] | None:
    """Find the alert that wakes somebody."""
    urgent = {"alertname": "GuardhouseErrorBudgetBurn", "severity": "critical", "slo": "availability", "window": "5m"}
    return next((alert for alert in alerts(alertmanager) if urgent.items() <= alert["labels"].items()), None)


def texts() -> list[str]:
    return [(RULES / name).read_text(encoding="utf-8") for name in NAMES]


def test_errors_reach_the_alertmanager(alertmanager: str, tmp_path: Path) -> None:
    """Clean traffic raises nothing; once 5 % of it fails the page is there, with all that it should say."""
    traffic = Traffic()
    with exporting(traffic) as url:
        options = {"scrape": "200ms", "alertmanager": alertmanager, "namespace": "shop"}
        prometheus = Prometheus(tmp_path, [url], texts(), evaluate="1s", **options)
        try:
            prometheus.wait_ready().wait_for("count_over_time(guardhouse:slo_burn:ratio1m[1m])", 3)
            assert prometheus.number('max({__name__=~"guardhouse:slo_burn:.*"})') == 0
            assert not alerts(alertmanager)
            traffic.failing_since = time.time()
            until(lambda: page(alertmanager), pause=0.2)
            alert = page(alertmanager)
            assert alert is not None
            assert (alert["labels"]["namespace"], alert["labels"]["job"]) == ("shop", "guardhouse")
            assert alert["annotations"]["summary"].startswith("guardhouse burns its availability budget ")
            assert alert["annotations"]["runbook_url"].endswith("/runbook.md#guardhouseerrorbudgetburn")
            assert {one["labels"].get("slo") for one in alerts(alertmanager)} == {"availability"}
            assert set(prometheus.health()) == {"ok"}
        finally:
            prometheus.stop()


@pytest.mark.slow
def test_errors_after_a_clean_hour_reach_it_within_three_minutes(alertmanager: str, tmp_path: Path) -> None:
    """As shipped, and scraped every 15 s, the rules find 5 % errors within 180 s of an hour of clean traffic."""
    traffic = Traffic(began=time.time() - HOUR)
    with exporting(traffic) as url:
        remember(traffic, url.removeprefix("http://"), tmp_path)
        options = {"scrape": f"{STEP}s", "alertmanager": alertmanager, "namespace": "shop"}
        prometheus = Prometheus(tmp_path, [url], texts(), evaluate=None, **options)
        try:
            prometheus.wait_ready().wait_for("guardhouse:slo_bad_requests:increase1h == bool 0", 1)
            assert (
                prometheus.number('count_over_time(guardhouse:slo_requests:total{slo="latency"}[1h])')
                > 0.9 * HOUR / STEP
            )
            assert page(alertmanager) is None
            traffic.failing_since = time.time()
            until(lambda: page(alertmanager), 180, pause=0.2)
        finally:
            prometheus.stop()


def remember(traffic: Traffic, instance: str, folder: Path) -> None:
    """Write the hour that was into Prometheus' own files: what it would have scraped, and what the rules made of it."""
    where = f',namespace="shop",job="guardhouse",instance="{instance}"}} '
    histories: dict[str, list[str]] = {}
    now = time.time()
    for at in range(int(now) - HOUR, int(now), STEP):
        counts = traffic.counts(at)
        total = sum(value for name, value in counts.items() if name.startswith("guardhouse_requests_total"))
        for slo in ("availability", "latency"):
            counts[spell("guardhouse:slo_requests:total", slo=slo)] = total
            counts[spell("guardhouse:slo_bad_requests:total", slo=slo)] = 0
        for name, value in counts.items():
            histories.setdefault(name, []).append(f"{name.removesuffix('}')}{where}{value} {at}\n")
    text = folder / "hour.txt"
    text.write_text("".join(line for lines in histories.values() for line in lines) + "# EOF\n")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", text, folder / "data"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
