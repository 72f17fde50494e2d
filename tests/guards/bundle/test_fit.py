"""``guards.fit`` from Python: it takes a config's path, and gives the bundle and the notices of the command line."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
import yaml

import guards.bundle.fit_rows
import guards.bundle.preparation
import guards.data.reference
from guards import Bundle, Config, Mistake, fit
from guards.bundle.fit_rows import Fitted
from guards.cli.fit import run
from guards.config.load import load_config
from guards.notices import Notices

CSV = {"path": "train.csv", "calibration": "heldout.csv", "label": "y"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a config whose guards cannot all flag, with its files."""
    guards = [
        {"name": "quality", "detector": {"kind": "ranges"}},
        {"name": "ood", "detector": {"kind": "mahalanobis"}, "share": 1000.0},
    ]
    return tiny_models.write(tmp_path, "tabular", reference=CSV, guards=guards)


def test_bundle_is_the_one_that_the_command_writes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundle of ``guards.fit`` has the command line's id, and its notices are those that the command prints."""
    from rich.console import Console

    run(config, config.parent / "by_command", Console(quiet=True), as_json=True)
    printed = json.loads(capsys.readouterr().out)
    fitted = fit(config)
    assert fitted.bundle.save(str(config.parent / "by_python"), source=config.read_text()) == printed["bundle"]
    assert fitted.notices.notes == printed["notes"]
    assert fitted.notices.warnings == printed["warnings"]
    assert any("cannot flag by its p-value" in warning for warning in fitted.notices.warnings)
    assert Bundle.load(config.parent / "by_python").id == printed["bundle"]


def test_path_text_and_config_give_one_bundle(config: Path) -> None:
    """A path, its text, a config with its folder, and a config in the working directory give the same bundle."""
    parsed = load_config(config)
    with contextlib.chdir(config.parent):
        ways = [fit(config), fit(str(config)), fit(parsed, folder=config.parent), fit(parsed)]
    assert isinstance(parsed, Config)
    assert len({way.bundle.save(config.parent / "bundle") for way in ways}) == 1


def test_quality_is_measured(config: Path) -> None:
    """The model's quality on both parts comes with the bundle."""
    quality = fit(config).quality
    assert set(quality) == {"train", "calibration"}
    assert all(found is not None and found.measure == "accuracy" for found in quality.values())


def test_every_file_is_read_once(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training file and the calibration file are each opened once for their rows."""
    read: list[str] = []
    real = guards.data.reference.read_table

    def counted(path: Path, **options: object) -> object:
        read.append(path.name)
        return real(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("guards.data.reference.read_table", counted)
    monkeypatch.setattr("guards.data.rows.read_table", counted)
    fit(config)
    assert sorted(read) == ["heldout.csv", "train.csv"]


def test_missing_values_are_tried_once(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the model takes missing values is tried once, though both preparing and fitting rows would refuse."""
    tried: list[object] = []
    real = guards.bundle.preparation.refuse_missing
    for module in ("preparation", "fit_rows"):
        monkeypatch.setattr(
            f"guards.bundle.{module}.refuse_missing", lambda *given: (tried.append(given), real(*given))
        )
    fit(config)
    assert len(tried) == 1


def test_stages_are_tracked(config: Path) -> None:
    """The tracker sees every stage, the reading of the files first, and each stage's last step."""
    ended: list[str] = []

    def track(steps: range, stage: str) -> Iterator[int]:
        yield from steps
        ended.append(stage)

    fit(config, track=track)
    assert ended == ["data", "reference", "calibration", "guards", "monitors"]


def test_notices_survive_a_mistake(config: Path) -> None:
    """If a mistake ends the fit, the notices that were found before it are in the given object."""
    document = yaml.safe_load(config.read_text())
    document["reference"].pop("calibration")
    document["monitors"] = [{"name": "g", "kind": "groups", "attribute": "g", "source": {"column": "no_such_column"}}]
    config.write_text(yaml.safe_dump(document))
    notices = Notices()
    with pytest.raises(Mistake, match=r"^monitors.0: "):
        fit(config, notices=notices)
    assert any("reference.calibration is not given" in warning for warning in notices.warnings)


def test_no_file_is_a_mistake(tmp_path: Path) -> None:
    """A path without a config is refused in a sentence with the path."""
    with pytest.raises(Mistake, match=r"gateway\.yaml: cannot be read"):
        fit(tmp_path / "gateway.yaml")


def test_bundle_is_constructed_once(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit makes one bundle, and it is whole: saving it makes no other, and changes nothing in it."""
    made: list[Bundle] = []
    real = Bundle.__init__

    def counted(self: Bundle, **parts: object) -> None:
        real(self, **parts)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Bundle, "__init__", counted)
    fitted: Fitted = fit(config)
    before = {name: getattr(fitted.bundle, name) for name in Bundle.__slots__}
    fitted.bundle.save(config.parent / "bundle")
    assert made == [fitted.bundle]
    assert all(before[name] is getattr(fitted.bundle, name) for name in before)
    assert None not in (fitted.bundle.exemplars, fitted.bundle.self_test)
