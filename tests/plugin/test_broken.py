"""A plugin that cannot be loaded is named with its reason, and the others still work."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from guards.config.plugins import BUILT_IN

KINDS = {detector.Params.model_fields["kind"].default for detector in BUILT_IN["detectors"]} | {"median_distance"}
EXAMPLE = "guardhouse_example:MedianDistance"
BROKEN = {
    "lost": ("no_such_module:Thing", "no_such_module:Thing: ModuleNotFoundError: No module named 'no_such_module'"),
    "needy": ("needy:Detector", "needy:Detector: RuntimeError: needs a licence"),
    "absent": ("guardhouse_example:Absent", "guardhouse_example:Absent: AttributeError: "),
    "alias": (
        "guardhouse_example:MedianDistance",
        "guardhouse_example:MedianDistance: ValueError: its kind is 'median_distance'",
    ),
    "plain": ("needless:Plain", "needless:Plain: AttributeError: "),
}
MODULES = {"needy": "raise RuntimeError('needs a licence')\n", "needless": "class Plain:\n    pass\n"}

Guardhouse = Callable[..., Any]


@pytest.fixture(scope="module")
def crowded(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example beside a package whose every entry point is broken."""
    folder = tmp_path_factory.mktemp("crowded") / "site"
    shutil.copytree(site, folder)
    for name, source in MODULES.items():
        (folder / f"{name}.py").write_text(source)
    info = folder / "broken_plugins-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugins\nVersion: 1\n")
    entries = [f"{name} = {value}" for name, (value, _) in BROKEN.items()]
    taken = f"ranges = {EXAMPLE}"
    (info / "entry_points.txt").write_text("\n".join(["[guardhouse.detectors]", taken, *entries]) + "\n")
    return folder


def test_broken_plugin_is_named_with_its_reason(config: Path, crowded: Path, guardhouse: Guardhouse) -> None:
    """Every guard of a broken plugin is refused in a sentence with the entry point and why it cannot be loaded."""
    document = yaml.safe_load(config.read_text())
    document["guards"] = [{"name": name, "detector": {"kind": name}} for name in BROKEN]
    path = config.parent / "broken.yaml"
    path.write_text(yaml.safe_dump(document))
    done = guardhouse("fit", path, "--out", config.parent / "broken", site=crowded)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    said = " ".join(done.stderr.split())
    for index, (name, (_, reason)) in enumerate(BROKEN.items()):
        assert f"guards.{index}.detector: '{name}' is not known; there are" in said
        assert f"(installed, but broken: {reason}" in said


def test_unknown_kind_names_what_there_is(config: Path, crowded: Path, guardhouse: Guardhouse) -> None:
    """A kind that nothing has is refused with the kinds there are, the plugin's among them and the broken ones not."""
    document = yaml.safe_load(config.read_text())
    document["guards"][0]["detector"] = {"kind": "medium_distance"}
    path = config.parent / "unknown.yaml"
    path.write_text(yaml.safe_dump(document))
    done = guardhouse("fit", path, "--out", config.parent / "unknown", site=crowded)
    assert done.returncode == 2
    sentence = done.stderr.partition("guards.0.detector: 'medium_distance' is not known; there are ")[2]
    assert sorted(sentence.strip().split(", ")) == sorted(map(repr, KINDS))


def test_others_still_work_beside_broken_ones(
    config: Path, bundle: Path, crowded: Path, guardhouse: Guardhouse, tmp_path: Path
) -> None:
    """Beside broken plugins a config of sound ones fits the very tensors it fits without them, and is evaluated."""
    done = guardhouse("fit", config, "--out", tmp_path / "bundle", site=crowded)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bundle/state.safetensors").read_bytes() == (bundle / "state.safetensors").read_bytes()
    files = ["--clean", config.parent / "test.npz", "--suspect", config.parent / "suspect.npz"]
    done = guardhouse("evaluate", tmp_path / "bundle", *files, "--config", config, "--json", site=crowded)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["guards"]) == {"middle", "ood"}


def test_schema_knows_installed_plugins(crowded: Path, guardhouse: Guardhouse) -> None:
    """The JSON Schema has the plugin's parameters with their bounds, and nothing of a broken one."""
    done = guardhouse("schema", site=crowded)
    assert done.returncode == 0, done.stderr
    definitions = json.loads(done.stdout)["$defs"]
    power = definitions["MedianDistanceParams"]["properties"]["power"]
    assert power["exclusiveMinimum"] == 0
    assert power["description"]
    assert definitions["MedianDistanceParams"]["additionalProperties"] is False
    kinds = definitions["GuardConfig"]["properties"]["detector"]["discriminator"]["mapping"]
    assert set(kinds) == KINDS
    assert kinds["ranges"].endswith("RangesParams")
