"""A bundle on disk: its files, the same verdicts as the fitted pipeline, and what is refused."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from forged_bundles import forge
from safetensors.torch import load_file
from torch import Tensor

from guards import Batch, Bundle, Mistake, Result
from guards.bundle.fit_rows import Fitted
from guards.config.config import parse

FILES = {"manifest.json", "state.safetensors", "weights.safetensors"}


def verdict(bundle: Bundle, rows: Tensor) -> Result:
    return bundle.pipeline()(Batch(rows))


def assert_same(a: Result, b: Result) -> None:
    """Require equality to the bit."""
    for one, two in ((a.output, b.output), (a.prediction, b.prediction), (a.verdict, b.verdict)):
        for name in type(one).__dataclass_fields__:
            x, y = getattr(one, name), getattr(two, name)
            if isinstance(x, Tensor):
                assert torch.equal(x.nan_to_num(-7.0), y.nan_to_num(-7.0)), name
            elif isinstance(x, dict):
                assert x.keys() == y.keys()
                assert all(torch.equal(x[key], y[key]) for key in x)
            else:
                assert x == y


def test_loaded_bundle_gives_the_same_verdicts(kind: str, fitted: Fitted, saved: Path) -> None:
    """Read back, a bundle judges and predicts the same batch to the bit."""
    rows = tiny_models.inputs(kind, 65, 9)
    loaded = Bundle.load(saved)
    assert_same(verdict(fitted.bundle, rows), verdict(loaded, rows))
    assert loaded.calibrated.temperature == fitted.bundle.calibrated.temperature
    assert loaded.cause_names == fitted.bundle.cause_names
    assert loaded.classes == tiny_models.CLASSES


def test_loaded_bundle_passes_its_self_test(saved: Path) -> None:
    """The self-test that was recorded at fit passes on what was read back."""
    loaded = Bundle.load(saved)
    loaded.run_self_test(loaded.pipeline())


def test_loaded_monitors_count_alike(kind: str, fitted: Fitted, saved: Path) -> None:
    """The monitors of a bundle that was read back count the same rows into the same bins."""
    rows = Batch(tiny_models.inputs(kind, 65, 9), {"region": torch.arange(65) % 3})
    outcome = fitted.bundle.pipeline()(rows)
    loaded = Bundle.load(saved).monitors
    for before, after in zip(fitted.bundle.monitors, loaded, strict=True):
        for counts in (before.counts, after.counts):
            counts[:] = 0
        before.observe(rows, outcome)
        after.observe(rows, outcome)
        assert before.series() == after.series()


@pytest.mark.parametrize(
    ("kind", "builder", "task"),
    [("tensor", "tiny_models:binary_net", "classification"), ("tabular", "tiny_models:squeezed_net", "regression")],
)
def test_binary_and_regression_models(kind: str, builder: str, task: str, tmp_path: Path) -> None:
    """Models with one logit, and with one value, are read back as what they were."""
    model = {"builder": builder, "task": task, "device": "cpu"}
    if task == "classification":
        model["classes"] = ["no", "yes"]
    guards = [{"name": "ood", "detector": {"kind": "mahalanobis"}}]
    labeller = tiny_models.model(kind, builder, task=task)
    parts = [tiny_models.rows(kind, 300, seed, labeller=labeller) for seed in (0, 50)]
    fitted = tiny_models.fitted(kind, model=model, guards=guards, train=parts[0], heldout=parts[1])
    fitted.bundle.save(tmp_path / "b")
    loaded = Bundle.load(tmp_path / "b")
    rows = tiny_models.inputs(kind, 33, 9)
    outcome = verdict(loaded, rows)
    assert_same(verdict(fitted.bundle, rows), outcome)
    if task == "regression":
        assert outcome.prediction.value is not None
        assert outcome.prediction.interval is not None
        assert outcome.prediction.probabilities is None
    else:
        assert outcome.prediction.probabilities is not None
        assert outcome.prediction.probabilities.shape == (33, 2)


@pytest.mark.parametrize("program_kind", tiny_models.KINDS)
def test_program_travels_in_the_bundle(program_kind: str, tmp_path: Path) -> None:
    """A torch.export program is kept in the bundle, and judges alike when read back."""
    config = parse(
        tiny_models.document(
            program_kind, model={"program": "m.pt2", "classes": list(tiny_models.CLASSES), "device": "cpu"}
        )
    )
    from guards.bundle.fit_rows import fit_rows
    from guards.bundle.load_model import make_model

    program, schema = tiny_models.program(program_kind), tiny_models.schema(program_kind)
    bundle = fit_rows(
        config,
        schema=schema,
        classes=tiny_models.CLASSES,
        model=make_model(config, schema, outputs=3, folder=None, weights=None, program=program),
        train=tiny_models.rows(program_kind),
        heldout=tiny_models.rows(program_kind, 400, 50),
        program=program,
    ).bundle
    bundle.save(tmp_path / "b")
    assert {file.name for file in (tmp_path / "b").iterdir()} == {"manifest.json", "model.pt2", "state.safetensors"}
    rows = tiny_models.inputs(program_kind, 33, 9)
    loaded = Bundle.load(tmp_path / "b")
    assert_same(verdict(bundle, rows), verdict(loaded, rows))
    loaded.run_self_test(loaded.pipeline())


def test_bundle_holds_no_pickle_and_no_row(kind: str, fitted: Fitted, saved: Path) -> None:
    """A bundle is JSON and safetensors; without store_reference_rows no reference row is in it."""
    assert {file.name for file in saved.iterdir()} == FILES
    manifest = json.loads((saved / "manifest.json").read_text())
    assert set(manifest["sha256"]) == FILES - {"manifest.json"}
    assert manifest["versions"]["torch"] == torch.__version__
    rows = {tuple(row) for seed in (0, 50) for row in tiny_models.rows(kind, 400, seed).x.flatten(1).tolist()}
    assert fitted.bundle.self_test is not None
    assert not rows & {tuple(row) for row in load_file(saved / "state.safetensors")["self_test.x"].flatten(1).tolist()}


def test_reference_rows_are_stored_where_asked(tmp_path: Path) -> None:
    """With store_reference_rows the self-test runs on calibration rows."""
    bundle = tiny_models.fitted("tensor", store_reference_rows=True).bundle
    bundle.save(tmp_path / "b")
    kept = load_file(tmp_path / "b" / "state.safetensors")["self_test.x"]
    rows = {tuple(row) for row in tiny_models.rows("tensor", 400, 50).x.tolist()}
    assert len(kept) == 16
    assert {tuple(row) for row in kept.tolist()} <= rows


def test_identity_is_of_the_content(tmp_path: Path) -> None:
    """The same bundle saved twice has one id; another budget is another id; the source is kept as it was written."""
    bundle = tiny_models.fitted("tensor").bundle
    assert bundle.id == ""
    first = bundle.save(tmp_path / "a", source="name: toy # as the user wrote it\n")
    again = bundle.save(tmp_path / "b", source="name: toy # as the user wrote it\n")
    assert first == again == Bundle.load(tmp_path / "a").id
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", first)
    assert (tmp_path / "a" / "gateway.yaml").read_text() == "name: toy # as the user wrote it\n"
    assert tiny_models.fitted("tensor", false_alarm_budget=0.1).bundle.save(tmp_path / "c") != first


def test_bundle_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    """Saving replaces a bundle, fills an empty folder, makes parents, and refuses anything else that is there."""
    bundle = tiny_models.fitted("tensor").bundle
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "empty", tmp_path / "deep" / "er"):
        bundle.save(path)
        assert (path / "manifest.json").is_file()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "full", tmp_path / "file"):
        with pytest.raises(Mistake, match="it is not empty and no bundle; choose another folder"):
            bundle.save(path)
    assert (tmp_path / "full" / "thesis.tex").read_text() == (tmp_path / "file").read_text() == "precious"
    assert not list(tmp_path.glob("**/*.new"))


def _rename_a_label(manifest: dict[str, Any]) -> None:
    for labels in (manifest["classes"], manifest["config"]["model"]["classes"]):
        labels[0] = "another"


@pytest.mark.parametrize("change", [_rename_a_label, lambda manifest: manifest.update(temperature=1.7)])
def test_self_test_finds_what_was_sealed_again(copy: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Other labels, or another temperature, in a manifest that was sealed again contradict the known answers."""
    forge(copy, change)
    loaded = Bundle.load(copy)
    with pytest.raises(Mistake, match="self-test: "):
        loaded.run_self_test(loaded.pipeline())


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
@pytest.mark.parametrize("kind", ["tensor", "program"])
def test_files_are_readable_as_the_umask_says(kind: str, umask: int, mode: int, tmp_path: Path) -> None:
    """Every file of a bundle has the permissions that the umask gives: a container's user is not who has fitted."""
    fitted = tiny_models.fitted("tensor").bundle
    if kind == "program":
        config = parse(tiny_models.document("tensor", model={"program": "m.pt2", "classes": list(tiny_models.CLASSES)}))
        fitted = replace(fitted, program=tiny_models.program("tensor"), config=config)
    before = os.umask(umask)
    try:
        fitted.save(tmp_path / "b", source="name: toy\n")
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "b").iterdir()}
    assert len(modes) == 4
    assert set(modes.values()) == {mode}


def test_deploy_time_changes(copy: Path) -> None:
    """Budget, actions, shares, coverage and mode come from the config at deploy time."""
    guards = tiny_models.document("tensor")["guards"]
    guards[1] |= {"action": "reject", "share": 9.0, "on_error": "reject"}
    changed = parse(tiny_models.document("tensor", guards=guards, false_alarm_budget=0.2, coverage=0.6, mode="shadow"))
    fitted, deployed = Bundle.load(copy), Bundle.load(copy, config=changed)
    assert sum(deployed.pipeline().max_ranks) > 2 * sum(fitted.pipeline().max_ranks)
    assert deployed.pipeline().guards[1].action.label == deployed.pipeline().guards[1].on_error.label == "reject"
    assert deployed.pipeline().shadow
    radius = deployed.pipeline().predictor.radius
    assert radius is not None
    assert fitted.pipeline().predictor.radius is not None
    assert radius < fitted.pipeline().predictor.radius
    deployed.run_self_test(deployed.pipeline())


def test_other_changes_need_a_refit(copy: Path) -> None:
    """Any other difference is refused at load with the names of the keys."""
    guards = tiny_models.document("tensor")["guards"]
    guards[1]["detector"] = {"kind": "mahalanobis", "shrinkage": 0.2}
    changed = parse(tiny_models.document("tensor", guards=guards, version="2"))
    with pytest.raises(Mistake, match=r"differs from the fitted one in guards.1.detector.shrinkage, version: fit"):
        Bundle.load(copy, config=changed)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"false_alarm_budget": 1e-4}, "false_alarm_budget: 320 calibration rows cannot support a budget of 0.0001"),
        ({"guarantee": "pac", "false_alarm_budget": 0.005}, "a pac guarantee: give at least 598 rows"),
        ({"coverage": 0.999}, "coverage: 320 labelled calibration rows cannot support a coverage of 0.999"),
    ],
)
def test_unsupported_deploy_time_change(copy: Path, changes: dict[str, Any], sentence: str) -> None:
    """A budget or coverage that the kept scores cannot support is refused in a sentence."""
    bundle = Bundle.load(copy, config=parse(tiny_models.document("tensor", **changes)))
    with pytest.raises(Mistake) as refused:
        bundle.pipeline()
    assert sentence in str(refused.value)


def test_device_of_the_command_line(copy: Path) -> None:
    """The device may be given at load; a device that is absent is refused."""
    assert Bundle.load(copy, device="cpu").model.device == torch.device("cpu")
    with pytest.raises(Mistake, match=r"model.device: cuda:99 is not there"):
        Bundle.load(copy, device="cuda:99")


def test_bundle_without_guards_and_monitors(tmp_path: Path) -> None:
    """A bundle may hold no guard and no monitor."""
    bundle = tiny_models.fitted("tensor", guards=[], monitors=[]).bundle
    bundle.save(tmp_path / "b")
    loaded = Bundle.load(tmp_path / "b")
    rows = tiny_models.inputs("tensor", 5, 0)
    assert_same(verdict(bundle, rows), verdict(loaded, rows))


def test_bundle_without_a_self_test(tmp_path: Path) -> None:
    """A bundle that was put together by hand may lack a self-test."""
    replace(tiny_models.fitted("tensor").bundle, self_test=None).save(tmp_path / "b")
    loaded = Bundle.load(tmp_path / "b")
    assert loaded.self_test is None
    with pytest.raises(Mistake, match="self-test: the bundle has no known rows; fit it anew"):
        loaded.run_self_test(loaded.pipeline())


def test_names_do_not_run_into_each_other(tmp_path: Path) -> None:
    """Guards and monitors whose names begin alike keep their own state."""
    guards = [
        {"name": "a", "detector": {"kind": "mahalanobis", "shrinkage": 0.1}},
        {"name": "a-b", "detector": {"kind": "mahalanobis", "shrinkage": 0.9}},
    ]
    monitors = [{"name": "m", "kind": "bins"}, {"name": "m_n", "kind": "sequential", "include": "clean"}]
    bundle = tiny_models.fitted("tensor", guards=guards, monitors=monitors).bundle
    bundle.save(tmp_path / "b")
    rows = tiny_models.inputs("tensor", 21, 4)
    loaded = Bundle.load(tmp_path / "b")
    assert_same(verdict(bundle, rows), verdict(loaded, rows))
    for one, other in zip(bundle.monitors, loaded.monitors, strict=True):
        ours, theirs = one.state_dict(), other.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert "reference_counts" in loaded.monitors[1].state_dict()
    assert "reference_counts" not in loaded.monitors[0].state_dict()
