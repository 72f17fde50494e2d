"""Puts the example package on the import path; its entry point exists only in tests that install it."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models
import torch

PACKAGE = Path(__file__).parent / "guardhouse_example"
GUARDS = [
    {"name": "middle", "detector": {"kind": "median_distance", "power": 2.0}},
    {"name": "ood", "detector": {"kind": "mahalanobis"}},
]

Guardhouse = Callable[..., subprocess.CompletedProcess[str]]

sys.path.append(str(PACKAGE / "src"))
torch.set_num_threads(1)


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a config that names the detector as any other."""
    return tiny_models.write(tmp_path_factory.mktemp("project"), "tensor", guards=GUARDS)


@pytest.fixture(scope="session")
def guardhouse() -> Guardhouse:
    """Run the command line in a process of its own, with the packages of a folder installed or without."""
    from commands import run_each
    from gateways import ROOT, clean_environment

    def call(*arguments: str | Path, site: Path | None) -> subprocess.CompletedProcess[str]:
        path = [str(Path(tiny_models.__file__).parent), *([str(site)] if site else [])]
        environment = clean_environment() | {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
        (done,) = run_each([list(map(str, arguments))], folder=ROOT, environment=environment)
        return done

    return call


@pytest.fixture(scope="session")
def bundle(config: Path, site: Path, guardhouse: Guardhouse) -> Path:
    """Fit the config, with the package installed."""
    out = config.parent / "bundle"
    done = guardhouse("fit", config, "--out", out, site=site)
    assert done.returncode == 0, done.stderr
    assert "middle" in done.stdout
    return out
