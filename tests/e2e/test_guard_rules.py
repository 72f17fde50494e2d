"""The guards' alerts over a real server: rows like the calibration's raise none, whatever ties they have; others do."""

import csv
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from made_up import ABSTAINED, ALLOWED, CRASH_HIDDEN, TABLE_COLUMNS, write_loans
from prometheus import Prometheus

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "guards.rules.yaml"
ROWS = 1500

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


@pytest.fixture
def server(bundles: "Bundles") -> Iterator["Gateway"]:
    """Serve a classifier with guards of every kind, which has answered nothing."""
    gateway = bundles.serve("table").wait_ready()
    yield gateway
    gateway.stop()


@pytest.fixture
def prometheus(server: "Gateway", tmp_path: Path) -> Iterator[Prometheus]:
    """Scrape it from before its first row."""
    running = Prometheus(tmp_path, [server.url], [RULES.read_text(encoding="utf-8")], scrape="300ms", namespace="shop")
    try:
        running.wait_ready().wait_for("count_over_time(guardhouse_build_info[1m])", 3)
        yield running
    finally:
        running.stop()


def clean(folder: Path) -> list[dict[str, Any]]:
    """Draw rows as the bundle's own were drawn."""
    write_loans(folder / "more.csv", rows=ROWS, seed=11)
    numeric = {"age", "income", "trap"}
    with (folder / "more.csv").open(newline="") as file:
        return [
            {
                name: None if not row[name] else float(row[name]) if name in numeric else row[name]
                for name in TABLE_COLUMNS
            }
            for row in csv.DictReader(file)
        ]


def settle(prometheus: Prometheus) -> None:
    """Wait until everything that was answered has been scraped, and the rules have looked at it."""
    for series in ("guardhouse_build_info", "guardhouse:guard_errors:increase10m"):
        prometheus.wait_for(f"min(timestamp({series}))", time.time() + 1)


def firing(prometheus: Prometheus) -> set[tuple[str, str]]:
    """Give the alerts whose condition holds, with the guard they name, without waiting as long as they do."""
    rules = [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "alert" in rule
    ]
    return {
        (rule["alert"], sample["metric"].get("guard", ""))
        for rule in rules
        for sample in prometheus.query(rule["expr"])
    }


def test_alerts_tell_clean_rows_from_strange_ones(server: "Gateway", prometheus: Prometheus, tmp_path: Path) -> None:
    """Nothing alerts over 1,500 clean rows; as many strange ones raise the alerts of just the guards that mind them."""
    rows = clean(tmp_path)
    for start in range(0, ROWS, 100):
        server.predict(rows[start : start + 100])
    settle(prometheus)
    judged = prometheus.query("guardhouse:guard_rows:increase1h >= 500")
    assert {sample["metric"]["guard"] for sample in judged} == {"quality", "ood", "confidence", "wire", "hidden", "any"}
    assert not firing(prometheus)
    strange = {name: ABSTAINED[name] for name in ("age", "income")}
    for start in range(0, ROWS, 100):
        server.predict([row | strange for row in rows[start : start + 100]])
    server.predict([ALLOWED | {"trap": CRASH_HIDDEN}])
    settle(prometheus)
    found = firing(prometheus)
    assert {
        ("GuardhouseGuardFlagRate", "ood"),
        ("GuardhouseGuardFlagRate", "any"),
        ("GuardhousePValuesNotUniform", "ood"),
        ("GuardhouseGuardErrors", "hidden"),
    } <= found
    assert not {guard for _, guard in found} & {"wire", "quality"}
