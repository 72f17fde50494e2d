"""All rules and dashboards on a real server and a real Prometheus: which alerts fire, and every panel has data."""

import csv
import json
import math
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from example_folders import (
    ABSTAINED,
    ALLOWED,
    CRASH_HIDDEN,
    TABLE_COLUMNS,
    TABLE_CONFIG,
    loans,
    write_loans,
    write_table,
)
from fresh_client import FRESH
from gateways import fit_all
from prometheus import Prometheus
from waiting import until

from service.front.grpc_routes import RPC_ROUTES

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
CHOSEN = {
    "namespace": "shop",
    "job": "guardhouse",
    "__rate_interval": "1m",
    "window": "1h",
    "stream": "column:age",
    "guard": "ood",
    "attribute": "sex",
    "label": "yes",
}
GUARD_RULES = ROOT / "deploy" / "prometheus" / "guards.rules.yaml"
ROWS = 800
ONLY_ON_A_GPU = {"Energy for 1,000 predictions", "GPU power", "Memory of the device", "GPU utilisation"}
"""Panels of what NVIDIA's driver tells: there is no such device under this test."""

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


@pytest.fixture(scope="module")
def server(bundles: "Bundles") -> Iterator["Gateway"]:
    """Serve a classifier with every kind of monitor that has series of its own."""
    monitors = [*TABLE_CONFIG["monitors"], {"name": "drift", "kind": "sequential"}]
    config = write_table(bundles.folder / "watched", monitors=monitors)
    fit_all({config: config.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    gateway = bundles.serve("watched").wait_ready()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def prometheus(server: "Gateway", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Load all rules, and scrape the server from before its first row."""
    rules = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "deploy" / "prometheus").glob("*.rules.yaml"))]
    folder = tmp_path_factory.mktemp("prometheus")
    running = Prometheus(folder, [server.url], rules, scrape="1s", evaluate="2s", namespace="shop")
    try:
        yield running.wait_ready()
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
        rule
        for group in yaml.safe_load(GUARD_RULES.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    return {
        (rule["alert"], sample["metric"].get("guard", ""))
        for rule in rules
        for sample in prometheus.query(rule["expr"])
    }


def test_alerts_tell_clean_rows_from_strange_ones(server: "Gateway", prometheus: Prometheus, tmp_path: Path) -> None:
    """800 clean rows raise no alert; as many strange rows raise the alerts of exactly the guards that flag them."""
    prometheus.wait_for("min(count_over_time(guardhouse_build_info[1m]))", 2)
    assert prometheus.number("sum(guardhouse_rows_total)") == 0  # this test comes first: what alerts now is of its rows
    rows = clean(tmp_path)
    for start in range(0, ROWS, 100):
        server.predict(rows[start : start + 100])
    settle(prometheus)
    judged = prometheus.query("guardhouse:guard_rows:increase1h >= 500")
    assert {sample["metric"]["guard"] for sample in judged} == {"quality", "ood", "confidence", "wire", "hidden", "any"}
    until(lambda: not firing(prometheus), pause=0.5)  # a scrape that fails on a busy machine counts for a moment
    strange = {name: ABSTAINED[name] for name in ("age", "income")}
    for start in range(0, ROWS, 100):
        server.predict([row | strange for row in rows[start : start + 100]])
    server.predict([ALLOWED | {"trap": CRASH_HIDDEN}])
    settle(prometheus)
    expected = {
        ("GuardhouseGuardFlagRate", "ood"),
        ("GuardhouseGuardFlagRate", "any"),
        ("GuardhousePValuesNotUniform", "ood"),
        ("GuardhouseGuardErrors", "hidden"),
        ("GuardhouseDriftAlarm", ""),
    }
    found = until(lambda: found if expected <= (found := firing(prometheus)) else None, pause=0.5)
    assert found is not None
    assert not {guard for _, guard in found} & {"wire", "quality"}


@pytest.fixture(scope="module")
def traffic(prometheus: Prometheus, server: "Gateway") -> None:
    """Ask the server everything: rows of every kind for two groups, with labels that come later, and an explanation."""
    prometheus.wait_for("min(count_over_time(guardhouse_build_info[1m]))", 2)
    for batch in range(6):
        rows = loans(50, seed=batch)
        ids = [f"{batch}-{row}" for row in range(len(rows))]
        groups = {"sex": [("Female", "Male")[row % 2] for row in range(len(rows))]}
        server.predict(rows, ids=ids, groups=groups)
        outcomes = [{"id": name, "label": ("yes", "no")[row // 2 % 2]} for row, name in enumerate(ids)]
        answer = server.post({"outcomes": outcomes}, f"/v1/models/{server.name}:feedback")
        assert answer.json()["accepted"] == len(rows)
    server.wait_explaining(rows[0])


def queries() -> list[tuple[str, str]]:
    """Give the panel and the expression of every query, with its variables chosen."""
    found = []
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            found += [(panel["title"], chosen(target["expr"])) for target in panel.get("targets", ())]
    return found


def chosen(text: str) -> str:
    for name in sorted(CHOSEN, key=len, reverse=True):
        text = text.replace(f"${name}", CHOSEN[name])
    assert "$" not in text
    return text


def without_data(prometheus: Prometheus, asked: list[tuple[str, str]], seconds: float = 240) -> list[tuple[str, str]]:
    """Ask until each query has given a number, or for so long; those that have not are left."""
    end = time.monotonic() + seconds
    left = asked
    while True:
        left = [(panel, expr) for panel, expr in left if not numbers(prometheus.query(expr))]
        if not [panel for panel, _ in left if panel not in ONLY_ON_A_GPU] or time.monotonic() > end:
            return left
        time.sleep(0.5)


def numbers(result: list[dict[str, Any]]) -> list[float]:
    return [value for sample in result if math.isfinite(value := float(sample["value"][1]))]


@pytest.mark.usefixtures("traffic")
def test_every_panel_has_data(prometheus: Prometheus) -> None:
    """Each query gives numbers, except those that need a GPU, and every rule of the project could be evaluated."""
    asked = queries()
    assert len(asked) > 60
    left = without_data(prometheus, asked)
    assert {panel for panel, _ in left} == ONLY_ON_A_GPU, left
    assert set(prometheus.health()) == {"ok"}


@pytest.mark.usefixtures("traffic")
def test_a_typo_is_found(prometheus: Prometheus) -> None:
    """A query of a series or label that does not exist has no data; a query that is no PromQL is an error."""
    assert not without_data(prometheus, queries()[:3])
    (panel, expr) = next(query for query in queries() if "guardhouse_requests_total" in query[1])
    for right, wrong in (("requests_total", "request_total"), ('job="guardhouse"', 'jobs="guardhouse"')):
        assert right in expr
        typo = [(panel, expr.replace(right, wrong))]
        assert without_data(prometheus, typo, seconds=0) == typo
    with pytest.raises(AssertionError, match="parse error"):
        without_data(prometheus, [(panel, f"{expr})")], seconds=0)


@pytest.mark.usefixtures("traffic")
def test_every_variable_offers_what_was_chosen(prometheus: Prometheus) -> None:
    """Every value that a query was tried with is among the values that Grafana would offer."""
    offered = 0
    for path in DASHBOARDS:
        for variable in json.loads(path.read_text(encoding="utf-8"))["templating"]["list"]:
            if variable["type"] != "query":
                continue
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            assert label == variable["name"]

            def values(question: str = f"group by ({label}) ({chosen(series)})", label: str = label) -> set[str | None]:
                return {sample["metric"].get(label) for sample in prometheus.query(question)}

            until(lambda wanted=CHOSEN[label], values=values: wanted in values(), pause=0.5)  # type: ignore[misc]
            offered += 1
    assert offered >= 2 * len(DASHBOARDS)


@pytest.mark.usefixtures("traffic")
def test_objectives_count_the_routes_that_predict(prometheus: Prometheus, server: "Gateway") -> None:
    """Of all routes that the server has, the objectives' rules pick those that predict, and no other."""
    rules = (ROOT / "deploy" / "prometheus" / "slo.rules.yaml").read_text(encoding="utf-8")
    (pattern,) = set(re.findall(r'route=~"([^"]+)"', rules))
    routes = set(re.findall(r'route="([^"]+)"', FRESH.get(f"{server.url}/metrics").text)) | set(RPC_ROUTES)
    assert {route for route in routes if re.fullmatch(pattern, route)} == {
        "/predict",
        "/v1/models/{name}:predict",
        "/v2/models/{name}/infer",
        "/v2/models/{name}/versions/{version}/infer",
        "grpc:ModelInfer",
    }
    answered = 'sum(guardhouse_requests_total{route="/v1/models/{name}:predict"})'
    counted = 'sum(guardhouse:slo_requests:total{slo="availability"})'
    until(lambda: prometheus.number(counted) == prometheus.number(answered) > 0, pause=0.5)
