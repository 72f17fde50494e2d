"""Drift over two real servers and a real Prometheus has the figures that numpy computes from the sent rows."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from drift_figures import ORDERED, figures
from example_folders import TABLE_COLUMNS
from gateways import cli
from prometheus import Prometheus
from safetensors.numpy import load_file
from scipy.stats import kstwobign

from guards.cli.rules import PSI_WARNING, SIGNIFICANCE, Z

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

WINDOW = "1h"
ROWS = 1500
SCRAPES = 120
"""Prometheus extrapolates a counter by up to 1.1 scrapes: with so many of them by less than 1 %."""

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


@pytest.fixture(scope="module")
def replicas(bundles: "Bundles") -> Iterator[list["Gateway"]]:
    """Serve one bundle twice."""
    started = [bundles.serve("table"), bundles.serve("table")]
    yield [gateway.wait_ready() for gateway in started]
    for gateway in started:
        gateway.stop()


@pytest.fixture(scope="module")
def prometheus(
    replicas: list["Gateway"], bundles: "Bundles", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Scrape them from before their first row."""
    written = cli("rules", bundles.bundle("table"), "--window", WINDOW, PYTHONPATH=bundles.python_path)
    assert written.returncode == 0, written.stderr
    urls = [replica.url for replica in replicas]
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), urls, [written.stdout])
    try:
        yield prometheus.wait_ready()
    finally:
        prometheus.stop()


def traffic() -> list[dict[str, Any]]:
    """Draw rows of which some columns have drifted from the reference, a little or a lot, and others not."""
    rng = np.random.default_rng(4)
    age, income = 45 + 15 * (rng.normal(size=ROWS) + 0.3), 50 + 20 * rng.normal(size=ROWS) * 1.5
    region = rng.choice(["north", "south", "west"], ROWS, p=[0.5, 0.3, 0.2])
    job = rng.choice(["clerk", "cook", "pilot", "astronaut", ""], ROWS, p=[0.3, 0.3, 0.25, 0.05, 0.1])
    return [
        {
            "age": round(age[i], 3),
            "income": None if i % 20 == 0 else round(income[i], 3),
            "region": str(region[i]),
            "job": str(job[i]) or None,
            "trap": round(rng.uniform(0.01, 0.99), 7),
        }
        for i in range(ROWS)
    ]


def counted(rows: list[dict[str, Any]], bundle: Path) -> dict[str, Counter[str]]:
    """Count rows into bins by numpy, with the bundle's edges."""
    edges = load_file(bundle / "state.safetensors")["monitor.streams.streams.edges"]
    found: dict[str, Counter[str]] = {}
    for column, bounds in zip(("age", "income", "trap"), edges, strict=False):
        values = np.array([np.nan if row[column] is None else row[column] for row in rows], np.float32)
        places = np.searchsorted(bounds, values[~np.isnan(values)], side="right")
        found[f"column:{column}"] = Counter(ORDERED[place] for place in places)
        found[f"column:{column}"]["missing"] = int(np.isnan(values).sum())
    found["column:region"] = Counter(row["region"] for row in rows)
    known = {"clerk", "cook", "pilot"}
    found["column:job"] = Counter(
        "missing" if row["job"] is None else row["job"] if row["job"] in known else "unseen" for row in rows
    )
    return found


def scraped_reference(gateway: "Gateway") -> dict[str, dict[str, int]]:
    """Read the reference's counts off one server."""
    found: dict[str, dict[str, int]] = {}
    metrics = gateway.metrics()
    for name, value in metrics.items():
        if name.startswith("guardhouse_reference_bin_ratio{"):
            labels = dict(part.split("=", 1) for part in name[name.index("{") + 1 : -1].split(","))
            stream, bin_name = json.loads(labels["stream"]), json.loads(labels["bin"])
            rows = metrics[f'guardhouse_reference_rows{{stream="{stream}"}}']
            found.setdefault(stream, {})[bin_name] = round(value * rows)
    return found


def test_figures_of_two_servers_are_numpys(
    prometheus: Prometheus, replicas: list["Gateway"], bundles: "Bundles"
) -> None:
    """Rows go to both servers, and what Prometheus makes of their counters is numpy's within 1 %."""
    prometheus.wait_for("count(guardhouse_build_info)", len(replicas))
    prometheus.wait_for(f"min(count_over_time(guardhouse_build_info[{WINDOW}]))", 3)
    rows = traffic()
    for start in range(0, ROWS, 100):
        replicas[start % 300 > 0].predict(rows[start : start + 100])  # one row in three, and two
    live, (reference, same) = counted(rows, bundles.bundle("table")), map(scraped_reference, replicas)
    assert reference == same
    assert set(reference) > set(live) == {f"column:{name}" for name in TABLE_COLUMNS}
    prometheus.wait_for("min(timestamp(guardhouse_build_info))", time.time())  # every row has been scraped
    prometheus.wait_for(f"min(count_over_time(guardhouse_build_info[{WINDOW}]))", SCRAPES)
    now = prometheus.number("vector(time())")
    prometheus.wait_for("min(timestamp(guardhouse:drift_ks_p_value))", now)
    at = prometheus.number("min(timestamp(guardhouse:drift_ks_p_value))")
    assert set(prometheus.health()) == {"ok"}
    found: dict[tuple[str, str], float] = {}
    for sample in prometheus.query('{__name__=~"guardhouse:drift_.*", stream!="", bin=""}', at):
        labels: Mapping[str, str] = sample["metric"]
        assert (labels["model"], labels["window"], labels["job"]) == ("loans", WINDOW, "guardhouse")
        found[labels["__name__"].removeprefix("guardhouse:drift_"), labels["stream"]] = float(sample["value"][1])
    assert {stream for _, stream in found} == set(reference)
    alarming = set()
    for stream, counts in live.items():
        expected = figures(Counter(dict.fromkeys(reference[stream], 0)) + counts, reference[stream])
        significant = expected["chi_squared_z"] > Z or expected.get("ks_p_value", 1) < SIGNIFICANCE
        if expected["psi"] > PSI_WARNING and significant:
            alarming.add(stream)
        p_value = expected.pop("ks_p_value", None)
        for name, value in expected.items():
            assert found[name, stream] == pytest.approx(value, rel=0.01, abs=1e-4), (name, stream)
        if p_value is not None:  # it is far steeper than what it is of, which may be off by 1 %
            scaled = kstwobign.isf(p_value)
            assert kstwobign.sf(1.01 * scaled) <= found["ks_p_value", stream] <= kstwobign.sf(0.99 * scaled)
    alarmed = {sample["metric"]["stream"] for sample in prometheus.query('ALERTS{severity="warning"}', at)}
    assert alarmed & set(live) == alarming
    assert "column:income" in alarming
    assert "column:trap" not in alarming
