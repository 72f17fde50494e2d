"""A detector of an installed package is found by its entry point, fitted, kept in a bundle and measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from guardhouse_example import MedianDistance, MedianDistanceParams

from guards.testing import detector_conformance

Guardhouse = Callable[..., Any]


@detector_conformance(MedianDistance, MedianDistanceParams(power=2.0))
class TestMedianDistance:
    """The package's own conformance test: one decorator."""


def test_bundle_keeps_its_parameters_and_state(bundle: Path) -> None:
    """The bundle holds the detector's parameters in the config, and its buffers among the tensors."""
    from safetensors.torch import load_file

    manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    assert manifest["config"]["guards"][0]["detector"] == {"kind": "median_distance", "power": 2.0}
    state = load_file(bundle / "state.safetensors")
    assert state["detector.middle.median"].shape == (5,)
    assert state["detector.middle.deviation"].min() > 0


def test_bundle_is_evaluated(bundle: Path, config: Path, site: Path, guardhouse: Guardhouse) -> None:
    """The fitted detector tells the suspect rows, and leaves most clean ones."""
    files = ["--clean", config.parent / "test.npz", "--suspect", config.parent / "suspect.npz"]
    done = guardhouse("evaluate", bundle, *files, "--config", config, "--json", site=site)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["guards"]["middle"]
    assert found["auroc"] > 0.99
    assert found["tpr"] > 0.9
    assert found["false_alarm_rate"] < 0.1


def test_uninstalled_detector_is_named(bundle: Path, config: Path, guardhouse: Guardhouse) -> None:
    """Without the package, config and bundle are refused with the detector's name and status 2."""
    for arguments in (
        ["fit", config, "--out", config.parent / "other"],
        ["evaluate", bundle, "--clean", config.parent / "test.npz"],
    ):
        done = guardhouse(*arguments, site=None)
        assert done.returncode == 2
        assert "guards.0.detector: 'median_distance' is not known; there are" in done.stderr
        assert "Traceback" not in done.stderr


def test_mistake_in_its_parameters(config: Path, site: Path, guardhouse: Guardhouse) -> None:
    """The config's sentences reach into a third party's parameters."""
    document = yaml.safe_load(config.read_text())
    document["guards"][0]["detector"] = {"kind": "median_distance", "powr": 1, "power": 0}
    path = config.parent / "wrong.yaml"
    path.write_text(yaml.safe_dump(document))
    done = guardhouse("fit", path, "--out", config.parent / "other", site=site)
    assert done.returncode == 2
    assert "guards.0.detector.median_distance.powr: unknown key" in done.stderr
    assert "guards.0.detector.median_distance.power: Input should be greater than 0" in done.stderr
