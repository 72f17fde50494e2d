"""Discovery of detectors, monitors and explainers: the built-in ones, and entry points good and bad."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from guards import registry
from guards.detectors.mahalanobis import Mahalanobis
from guards.registry import broken_plugins, registered

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
    """What cannot be loaded is told with its reason; the others work, and a built-in class is not replaced."""
    broken = broken_plugins("detectors")
    assert set(broken) == {"other", "ranges", "absent", "gone", "function"}
    assert broken["other"] == "some_plugins:Good: ValueError: its kind is 'good'"
    assert broken["ranges"] == "some_plugins:Ranges: ValueError: a built-in one has that name"
    assert "AttributeError" in broken["absent"]
    assert "No module named 'no_such_module'" in broken["gone"]
    assert "AttributeError" in broken["function"]
    assert registered("detectors")["ranges"].__module__ == "guards.detectors.ranges"
