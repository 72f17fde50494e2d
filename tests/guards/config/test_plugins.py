"""Discovery of detectors, monitors and explainers: the built-in ones, and good and bad entry points."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from guards.config import plugins as registry
from guards.config.explain import ExplainConfig
from guards.config.plugins import broken_plugins, registered
from guards.detectors.mahalanobis import Mahalanobis

MODULE = """
from typing import ClassVar, Literal, Self
import torch
from guards import Batch, Detector, Params, Reference

class GoodParams(Params):
    kind: Literal["good"] = "good"

class Good(Detector):
    Params: ClassVar[type[Params]] = GoodParams
    def __init__(self, params):
        super().__init__()
    def fit(self, reference):
        return self
    def score(self, batch):
        return torch.zeros(len(batch))

class Ranges(Good):
    class Params(Params):
        kind: Literal["ranges"] = "ranges"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package of entry points that work, that do not, and that collide."""
    info = tmp_path / "some_plugins-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugins\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[guardhouse.detectors]\n"
        "good = some_plugins:Good\n"
        "other = some_plugins:Good\n"
        "ranges = some_plugins:Ranges\n"
        "absent = some_plugins:Absent\n"
        "gone = no_such_module:Gone\n"
        "function = json:loads\n"
        "[guardhouse.explainers]\n"
        "neighbours = some_plugins:Good\n"
    )
    (tmp_path / "some_plugins.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._discover.cache_clear()
    yield
    registry._discover.cache_clear()


def test_built_in_classes_are_registered() -> None:
    """Configs name the built-in classes by their kind or method."""
    assert set(registered("detectors")) >= {"ranges", "mahalanobis", "confidence"}
    assert set(registered("monitors")) >= {"groups", "bins"}
    assert set(registered("explainers")) >= {"integrated_gradients"}
    assert registered("detectors")["mahalanobis"] is Mahalanobis
    assert broken_plugins("detectors") == {}


@pytest.mark.usefixtures("installed")
def test_working_entry_point_is_registered() -> None:
    """An installed class is found under its entry point's name."""
    assert registered("detectors")["good"].__name__ == "Good"


@pytest.mark.usefixtures("installed")
def test_broken_entry_points_are_told_and_harmless() -> None:
    """A plug-in that cannot be loaded is reported with the reason; others work, and no built-in class is replaced."""
    broken = broken_plugins("detectors")
    assert set(broken) == {"other", "ranges", "absent", "gone", "function"}
    assert broken["other"] == "some_plugins:Good: ValueError: its kind is 'good'"
    assert broken["ranges"] == "some_plugins:Ranges: ValueError: a built-in one has that name"
    assert "AttributeError" in broken["absent"]
    assert "No module named 'no_such_module'" in broken["gone"]
    assert "AttributeError" in broken["function"]
    assert registered("detectors")["ranges"].__module__ == "guards.detectors.ranges"


@pytest.mark.usefixtures("installed")
def test_neighbours_is_an_option_and_no_explainer() -> None:
    """The answer's option is named like a method in configs; no class is registered by it, and no plug-in may be."""
    assert "neighbours" not in registered("explainers")
    assert (
        broken_plugins("explainers")["neighbours"]
        == "some_plugins:Good: ValueError: an option of the config has that name"
    )
    section = ExplainConfig.model_validate({"method": "neighbours", "methods": [{"method": "neighbours", "count": 2}]})
    assert section.neighbours is not None
    assert section.neighbours.count == 2


@pytest.mark.parametrize(
    ("group", "arguments"),
    [("detectors", ("params",)), ("monitors", ("params", "context")), ("explainers", ("params", "subject"))],
)
def test_built_in_classes_are_constructed_in_one_way(
    group: Literal["detectors", "monitors", "explainers"], arguments: tuple[str, ...]
) -> None:
    """Every built-in class takes its parameters first, then the context of its kind if there is one, and no more."""
    for plugin in registered(group).values():
        assert tuple(inspect.signature(plugin).parameters) == arguments
