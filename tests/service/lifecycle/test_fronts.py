"""How many fronts a server has."""

import json
from pathlib import Path

import pytest

from service.lifecycle import fronts
from service.lifecycle.fronts import available_cores, number_of_fronts


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 1), (7, 1), (8, 2), (16, 4), (128, 8)])
def test_by_default_the_cores_decide(cores: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one front for every four cores, at least one, at most eight."""
    monkeypatch.setattr(fronts, "available_cores", lambda: cores)
    assert number_of_fronts({}) == expected


def test_the_config_decides(tmp_path: Path) -> None:
    """The deployed config decides; without one, the bundle's config does."""
    (tmp_path / "gateway.yaml").write_text("server: {fronts: 3}\n")
    (tmp_path / "manifest.json").write_text(json.dumps({"config": {"server": {"fronts": 2}}}))
    bundle = {"GUARDHOUSE_BUNDLE": str(tmp_path)}
    assert number_of_fronts(bundle) == 2
    assert number_of_fronts({**bundle, "GUARDHOUSE_CONFIG": str(tmp_path / "gateway.yaml")}) == 3


@pytest.mark.parametrize("text", ["server: {fronts: 1000}", "server: [", "server: 3", "- 1", "server: {fronts: true}"])
def test_a_config_that_is_wrong_is_left_to_the_engine(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine refuses the config with a sentence; until then there is one front to say so."""
    monkeypatch.setattr(fronts, "available_cores", lambda: 1)
    (tmp_path / "gateway.yaml").write_text(text)
    assert number_of_fronts({"GUARDHOUSE_CONFIG": str(tmp_path / "gateway.yaml")}) == 1


def test_a_quota_counts_as_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container with a limit of one core, the other cores of the machine do not count."""
    monkeypatch.setattr(fronts, "QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert available_cores() == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert available_cores() >= 1
