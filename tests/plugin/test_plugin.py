"""A detector of an installed package is found by its entry point, fitted, kept in a bundle and measured."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import toys
import yaml
from guardhouse_example import MedianDistance, MedianDistanceParams

from guards.testing import detector_conformance

PACKAGE = Path(__file__).parent / "guardhouse_example"
GUARDS = [
    {"name": "middle", "detector": {"kind": "median_distance", "power": 2.0}},
    {"name": "ood", "detector": {"kind": "mahalanobis"}},
]


@detector_conformance(MedianDistance, MedianDistanceParams(power=2.0))
class TestMedianDistance:
    """The package's own conformance test: one decorator."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package as a wheel would be: its module, and the metadata that importlib.metadata reads."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "guardhouse_example.py").write_text((PACKAGE / "src/guardhouse_example/__init__.py").read_text())
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = folder / f"guardhouse_example-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, entries in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a config that names the detector as any other."""
    return toys.write(tmp_path_factory.mktemp("project"), "tensor", guards=GUARDS)


def guardhouse(*arguments: str | Path, site: Path | None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with the package installed or without."""
    path = [str(Path(toys.__file__).parent), *([str(site)] if site else [])]
    return subprocess.run(
        [sys.executable, "-c", "from guards.cli import run; run()", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def bundle(config: Path, site: Path) -> Path:
    """Fit it."""
    out = config.parent / "bundle"
    done = guardhouse("fit", config, "--out", out, site=site)
    assert done.returncode == 0, done.stderr
    assert "middle" in done.stdout
    return out


def test_bundle_keeps_its_parameters_and_state(bundle: Path) -> None:
    """The bundle holds the detector's parameters in the config, and its buffers among the tensors."""
    from safetensors.torch import load_file

    manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    assert manifest["config"]["guards"][0]["detector"] == {"kind": "median_distance", "power": 2.0}
    state = load_file(bundle / "state.safetensors")
    assert state["detector.middle.median"].shape == (5,)
    assert state["detector.middle.deviation"].min() > 0


def test_bundle_is_evaluated(bundle: Path, config: Path, site: Path) -> None:
    """The fitted detector tells the suspect rows, and leaves most clean ones."""
    files = ["--clean", config.parent / "test.npz", "--suspect", config.parent / "suspect.npz"]
    done = guardhouse("evaluate", bundle, *files, "--config", config, "--json", site=site)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["guards"]["middle"]
    assert found["auroc"] > 0.99
    assert found["tpr"] > 0.9
    assert found["false_alarm_rate"] < 0.1


def test_uninstalled_detector_is_named(bundle: Path, config: Path) -> None:
    """Without the package, config and bundle are refused with the detector's name and status 2."""
    for arguments in (
        ["fit", config, "--out", config.parent / "other"],
        ["evaluate", bundle, "--clean", config.parent / "test.npz"],
    ):
        done = guardhouse(*arguments, site=None)
        assert done.returncode == 2
        assert "guards.0.detector: 'median_distance' is not known; there are" in done.stderr
        assert "Traceback" not in done.stderr


def test_mistake_in_its_parameters(config: Path, site: Path) -> None:
    """The config's sentences reach into a third party's parameters."""
    document = yaml.safe_load(config.read_text())
    document["guards"][0]["detector"] = {"kind": "median_distance", "powr": 1, "power": 0}
    path = config.parent / "wrong.yaml"
    path.write_text(yaml.safe_dump(document))
    done = guardhouse("fit", path, "--out", config.parent / "other", site=site)
    assert done.returncode == 2
    assert "guards.0.detector.median_distance.powr: unknown key" in done.stderr
    assert "guards.0.detector.median_distance.power: Input should be greater than 0" in done.stderr
