"""The dashboards' JSON is what the code beside it makes, and is laid out in a readable order."""

import json
import re
import runpy
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from scrapes import scrape_of

from service.telemetry.gpu import Gpu, Reading

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "grafana" / "dashboards"
RULES = ROOT / "deploy" / "prometheus" / "capacity.rules.yaml"
NAMES = ("capacity", "drift", "groups", "guards", "overview")
Object = dict[str, Any]


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    """Run the code that makes them."""
    files: dict[str, str] = runpy.run_path(str(ROOT / "tools" / "dashboards.py"))["render"]()
    return files


def load(name: str) -> Object:
    document: Object = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return document


def test_the_dashboards_that_are_checked_in_are_those_of_the_code(rendered: dict[str, str]) -> None:
    """`python tools/dashboards.py` would change nothing."""
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()} == rendered
    assert set(rendered) == {f"{name}.json" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_panels_say_what_they_show(name: str) -> None:
    """Every panel has a title of its own, a description, a unit and queries whose series have names."""
    board = load(name)
    assert board["uid"] == f"guardhouse-{name}"
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["title"] for panel in panels}) == len(panels) > 0
    for panel in panels:
        assert panel["description"].endswith(".")
        assert panel.get("fieldConfig", {}).get("defaults", {}).get("unit") or panel["options"]["yAxis"]["unit"], panel[
            "title"
        ]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["expr"].strip()
            assert target["legendFormat"]
            assert target["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("name", NAMES)
def test_panels_fill_the_grid_and_do_not_overlap(name: str) -> None:
    """Ids differ, no two panels share a cell, and each row of them is as wide as the grid."""
    panels = load(name)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
    for y in {place["y"] for place in places}:
        assert sum(place["w"] for place in places if place["y"] == y) == 24


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_chooses_source_namespace_and_job(name: str) -> None:
    """The first variables are the same everywhere, every variable is used, and every variable that is used is there."""
    board = load(name)
    variables = [variable["name"] for variable in board["templating"]["list"]]
    assert variables[:3] == ["datasource", "namespace", "job"]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([board["panels"], board["templating"]])))
    assert used - {"__rate_interval"} == set(variables)


def test_what_only_a_gpu_tells_is_called_so_by_the_server() -> None:
    """Series of GPUs, which no test here can scrape, have the names and labels that a server with one gives them."""
    reading = Reading(memory={"used": 1}, utilization=0.5, watts=300.0)
    scrape = scrape_of(device="cuda:0", gpu=cast("Gpu", SimpleNamespace(read=lambda: reading)))
    families = {
        family.name: set(family.samples[0].labels)
        for family in text_string_to_metric_families(scrape)
        if family.samples
    }
    texts = [path.read_text(encoding="utf-8") for path in (FOLDER / "capacity.json", RULES)]
    asked = set(re.findall(r"guardhouse_(?:gpu|device_memory)_\w+", " ".join(texts)))
    assert asked == {name for name in families if re.match("guardhouse_(gpu|device_memory)", name)}
    assert all("device" in families[name] for name in asked)
    assert "kind" in families["guardhouse_device_memory_bytes"]
