"""`guardhouse rules`: what it writes, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import yaml

from guards.cli.rules import WINDOWS, render

Guardhouse = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the bundle of a table."""
    path = tmp_path_factory.mktemp("rules") / "bundle"
    tiny_models.fitted("tabular").bundle.save(path)
    return path


def test_rules_go_to_standard_output_or_a_file(bundle: Path, tmp_path: Path, guardhouse: Guardhouse) -> None:
    """Without a file the rules are printed, and nothing else; with one they are written, and nothing is printed."""
    assert guardhouse("rules", bundle) == (0, render(10, WINDOWS), "")
    path = tmp_path / "drift.rules.yaml"
    assert guardhouse("rules", bundle, "--window", "30m", "--window", "2d", "--out", path) == (0, "", "")
    assert path.read_text(encoding="utf-8") == render(10, ["30m", "2d"])


def test_groups_are_evaluated_as_their_windows_ask() -> None:
    """A group a window: looked at sixty times in it, but every five minutes at least; an alert holds for a twelfth."""
    groups: list[dict[str, Any]] = yaml.safe_load(render(10, ["30s", "1h", "1d"]))["groups"]
    assert [(g["name"], g["interval"], g["rules"][-1]["for"]) for g in groups] == [
        ("guardhouse-drift-30s", "1s", "2s"),
        ("guardhouse-drift-1h", "60s", "300s"),
        ("guardhouse-drift-1d", "300s", "7200s"),
    ]
    for group, window in zip(groups, ("30s", "1h", "1d"), strict=True):
        assert all(rule["labels"]["window"] == window for rule in group["rules"])


def test_a_bundles_bins_are_cumulated(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """As many cumulative sums are spelled out as the streams have bins, and one more for what is below."""
    monitors = [{"kind": "bins", "name": "few", "bins": 3}]
    tiny_models.fitted("tabular", monitors=monitors).bundle.save(tmp_path / "b")
    status, out, _ = guardhouse("rules", tmp_path / "b")
    assert status == 0
    (statistic,) = (
        rule["expr"]
        for rule in yaml.safe_load(out)["groups"][0]["rules"]
        if rule.get("record") == "guardhouse:drift_ks_statistic"
    )
    assert statistic.count('bin=~"') == 4
    assert 'bin=~"below|0|1|2"' in statistic


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--window", "1y"], "--window 1y: no duration; give a number and one of s, m, h, d, w, such as 1h"),
        (["--window", "0h"], "--window 0h: no duration; give a number and one of s, m, h, d, w, such as 1h"),
        (["--window", "1h", "--window", "1h"], "--window 1h: it is given twice"),
        (["--out", "/nowhere/drift.yaml"], "--out /nowhere/drift.yaml: cannot be written (No such file or directory)"),
    ],
)
def test_mistakes_are_sentences(bundle: Path, arguments: list[str], sentence: str, guardhouse: Guardhouse) -> None:
    """An invalid window, a window that stands twice and a file that cannot be written are mistakes with status 2."""
    assert guardhouse("rules", bundle, *arguments) == (2, "", f"{sentence}\n")


def test_a_bundle_without_streams_has_no_rules(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """Without a monitor that counts streams, or without a bundle, no rules are written, and the error says why."""
    tiny_models.fitted("tabular", monitors=[]).bundle.save(tmp_path / "b")
    sentence = f"{tmp_path / 'b'}: monitors: none counts streams; add {{name: streams, kind: bins}} and fit anew\n"
    assert guardhouse("rules", tmp_path / "b") == (2, "", sentence)
    assert guardhouse("rules", tmp_path / "c")[0] == 2
