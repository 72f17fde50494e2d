"""Fitting: which rows are set aside, what is warned of, what is refused; and the bundle's self-test."""

import platform
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor

from guards import Batch, Mistake, TorchModel
from guards.bundle.false_alarms import FalseAlarms, false_alarms
from guards.bundle.fit_rows import fit_rows, places_set_aside
from guards.bundle.load_model import make_model
from guards.bundle.self_test import SelfTest, fingerprint
from guards.config.config import parse
from guards.detectors.ranges import Ranges
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.model.chunked_run import run_model

ONE = [{"name": "ood", "detector": {"kind": "mahalanobis"}}]
QUALITY = [{"name": "quality", "detector": {"kind": "ranges"}}]


def test_temperature_has_rows_of_its_own() -> None:
    """A fifth of the labelled held-out rows fits the temperature and calibrates nothing; without labels none does."""
    heldout = tiny_models.rows("tensor", 400, 50)
    config = parse(tiny_models.document("tensor"))
    tuning, calibration = places_set_aside(heldout, config)
    assert (len(tuning), len(calibration)) == (80, 320)
    assert torch.cat([tuning, calibration]).sort().values.tolist() == list(range(400))
    assert len(places_set_aside(replace(heldout, y=None), config)[0]) == 0
    regression = tiny_models.document(
        "tabular", model={"builder": "tiny_models:value_net", "task": "regression"}, guards=[]
    )
    assert len(places_set_aside(heldout, parse(regression))[0]) == 0
    assert len(places_set_aside(heldout, parse({**regression, "prediction_sets": {"method": "normalised"}}))[0]) == 80
    assert tiny_models.fitted("tensor").bundle.scores.shape == (3, 320)


def test_detectors_never_see_calibration_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors are fitted on the reference alone, with the model's output and the temperature."""
    seen = []
    original = Ranges.fit

    def spy(self: Ranges, reference: Any) -> Ranges:
        seen.append(reference)
        return original(self, reference)

    monkeypatch.setattr(Ranges, "fit", spy)
    fitted = tiny_models.fitted("tensor")
    (reference,) = seen
    train = tiny_models.rows("tensor")
    assert torch.equal(reference.batch.x, train.x)
    assert torch.equal(reference.batch.output.logits, fitted.bundle.model(train.x).logits)
    assert reference.temperature == fitted.bundle.calibrated.temperature != 1
    assert torch.equal(reference.y, train.y)
    assert reference.head is fitted.bundle.model.head


def test_calibration_scores_are_the_detectors() -> None:
    """The scores that a bundle keeps are the scores of the calibration rows, guard by guard in the config's order."""
    fitted = tiny_models.fitted("tensor").bundle
    heldout = tiny_models.rows("tensor", 400, 50)
    calibration = heldout.take(places_set_aside(heldout, fitted.config)[1])
    outcome = fitted.pipeline()(Batch(calibration.x))
    assert torch.allclose(outcome.verdict.score, fitted.scores, atol=1e-5)
    nonconformity = 1 - outcome.prediction.probabilities.gather(1, calibration.y[:, None])[:, 0]
    assert torch.allclose(nonconformity, fitted.calibrated.nonconformity, atol=1e-6)


def test_rows_that_break_a_bound_are_left_out() -> None:
    """Calibration rows beyond a declared bound are counted, warned of and take no part in the calibration."""
    columns = (replace_bound(tiny_models.schema().columns[0]), *tiny_models.schema().columns[1:])
    schema = InputSchema(kind="tabular", shape=(4,), columns=columns)
    config = parse(tiny_models.document("tabular", guards=QUALITY))
    heldout = tiny_models.rows("tabular", 400, 50)
    fitted = fit_rows(
        config,
        schema=schema,
        classes=tiny_models.CLASSES,
        model=make_model(config, schema, outputs=3, folder=None, weights=None, program=None),
        train=tiny_models.rows("tabular"),
        heldout=heldout,
    )
    calibration = heldout.take(places_set_aside(heldout, config)[1])
    broken = int((calibration.x[:, 0] > 1).sum())
    assert broken > 0
    assert fitted.violations == FalseAlarms(broken, 320)
    assert fitted.bundle.scores.shape == (1, 320 - broken)
    assert fitted.notices.warnings[0].startswith(
        f"{broken} of 320 calibration rows break a declared bound or a rule; they are flagged"
    )


def replace_bound(column: Column) -> Column:
    return Column.model_validate({**column.model_dump(), "maximum": 1.0})


def test_closing_report() -> None:
    """The report has each guard's part of the budget, its threshold, and false alarms on rows it never saw."""
    fitted = tiny_models.fitted("tensor")
    assert [(report.name, report.share) for report in fitted.guards] == [
        ("quality", 0.25),
        ("ood", 0.5),
        ("unsure", 0.25),
    ]
    assert tuple(report.threshold for report in fitted.guards) == fitted.bundle.pipeline().thresholds
    assert fitted.any_guard is not None
    assert fitted.any_guard.rows == 320
    assert 0 < fitted.any_guard.flagged < 40
    assert all(report.false_alarms is not None for report in fitted.guards)
    assert sum(report.false_alarms.flagged for report in fitted.guards) >= fitted.any_guard.flagged


def test_false_alarms_are_measured_on_other_rows() -> None:
    """Each fold is judged by thresholds of the other four: with distinct scores a share near the budget is flagged."""
    config = parse(tiny_models.document("tensor", guards=ONE, false_alarm_budget=0.1))
    scores = torch.randn((1, 2000), generator=torch.Generator().manual_seed(0))
    measured = false_alarms(scores, config)
    assert measured is not None
    (each,), any_guard = measured
    assert each == any_guard
    assert any_guard.rows == 2000
    assert any_guard.flagged / 2000 == pytest.approx(0.1, abs=0.01)


def test_false_alarms_need_rows() -> None:
    """If four fifths of the rows cannot support the budget, nothing is measured."""
    config = parse(tiny_models.document("tensor", guards=ONE, false_alarm_budget=0.01))
    assert false_alarms(torch.rand(1, 110), config) is None
    fitted = tiny_models.fitted("tensor", guards=ONE, false_alarm_budget=0.0035)
    assert fitted.any_guard is None
    assert fitted.guards[0].false_alarms is None


def test_warning_of_a_guard_that_cannot_flag() -> None:
    """A guard whose part is less than one rank is named, and so is a config without guards of any kind."""
    guards = [ONE[0] | {"share": 1000.0}, QUALITY[0]]
    (warning,) = tiny_models.fitted("tensor", guards=guards).notices.warnings
    assert warning.startswith("guards.1: quality cannot flag by its p-value: its share of the budget needs 22019 rows")
    (warning,) = tiny_models.fitted("tensor", guards=[]).notices.warnings
    assert warning == "no guards are configured: every row will be allowed"
    remembering = [{"name": "queries", "kind": "query_similarity"}]
    assert tiny_models.fitted("tensor", guards=[], memory_guards=remembering).notices.warnings == []


def test_unlabelled_rows() -> None:
    """Without labels there is no temperature and no prediction set, and guards work as usual."""
    train, heldout = (replace(tiny_models.rows("tensor", count, seed), y=None) for count, seed in ((300, 0), (400, 50)))
    bundle = tiny_models.fitted("tensor", train=train, heldout=heldout).bundle
    assert bundle.calibrated.temperature == 1
    assert bundle.scores.shape == (3, 400)
    outcome = bundle.pipeline()(Batch(tiny_models.inputs("tensor", 5, 0)))
    assert outcome.prediction.members is None
    assert outcome.prediction.label is not None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"guards": ONE, "false_alarm_budget": 0.001},
            "false_alarm_budget: 320 calibration rows cannot support a budget of 0.001 with a marginal guarantee",
        ),
        (
            {"monitors": [{"name": "g", "kind": "groups", "attribute": "a", "source": {"column": "sex"}}]},
            "monitors.0: source.column: no column 'sex'; there are []",
        ),
        ({"coverage": 0.9999}, "coverage: 320 labelled calibration rows cannot support a coverage of 0.9999: give"),
    ],
)
def test_unfit_config_is_refused(changes: dict[str, Any], sentence: str) -> None:
    """A config that the rows cannot support is refused with its key."""
    with pytest.raises(Mistake, match=f"^{re.escape(sentence)}"):
        tiny_models.fitted("tensor", **changes)


def test_unfit_detector_is_refused_by_its_index() -> None:
    """A detector that refuses the reference is named by its place in the config."""
    model = {"builder": "tiny_models:value_net", "task": "regression", "device": "cpu"}
    labeller = tiny_models.model("tabular", "tiny_models:value_net", task="regression")
    parts = [tiny_models.rows("tabular", 300, seed, labeller=labeller) for seed in (0, 50)]
    guards = [ONE[0], {"name": "unsure", "detector": {"kind": "confidence"}}]
    with pytest.raises(Mistake, match=r"^guards.1.detector: confidence needs a classifier"):
        tiny_models.fitted("tabular", model=model, guards=guards, train=parts[0], heldout=parts[1])


def test_detector_with_scores_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that does not give one score a row is refused at fit."""
    monkeypatch.setattr(Ranges, "score", lambda _, batch: torch.zeros(len(batch), 2))
    with pytest.raises(Mistake, match=r"^guards.0.detector: ranges gave scores of shape \(320, 2\) for 320 rows"):
        tiny_models.fitted("tensor", guards=QUALITY)


@pytest.mark.parametrize(
    ("builder", "refused"), [("tiny_models:tabular_net", True), ("tiny_models:tolerant_net", False)]
)
def test_imputation_none(builder: str, refused: bool) -> None:
    """`impute: none` is refused if the model gives no finite number for NaN or -1, and accepted otherwise."""
    columns = [{"name": name, "kind": "numeric", "impute": "none"} for name in tiny_models.COLUMNS[:3]]
    colour = {"name": "colour", "kind": "categorical", "categories": list(tiny_models.COLOURS), "impute": "none"}
    schema = InputSchema.model_validate({"kind": "tabular", "shape": (4,), "columns": [*columns, colour]})
    model = {"builder": builder, "classes": list(tiny_models.CLASSES), "device": "cpu"}
    config = parse(tiny_models.document("tabular", guards=QUALITY, model=model))

    def fitting() -> Any:
        wrapped = make_model(config, schema, outputs=3, folder=None, weights=None, program=None)
        parts = [tiny_models.rows("tabular", count, seed) for count, seed in ((300, 0), (400, 50))]
        return fit_rows(
            config, schema=schema, classes=tiny_models.CLASSES, model=wrapped, train=parts[0], heldout=parts[1]
        )

    if refused:
        with pytest.raises(
            Mistake, match=r"^input.columns: impute `none` on \['length', 'mass', 'age', 'colour'\] pas"
        ):
            fitting()
    else:
        outcome = fitting().bundle.pipeline()(Batch(torch.full((1, 4), torch.nan)))
        assert outcome.output.logits.isfinite().all()


def test_imputation_none_of_numbers_is_refused_in_a_sentence() -> None:
    """If a model turns NaN into NaN logits, the refusal says to impute its columns."""
    columns = [Column(name=f"x{i}", kind="numeric", impute="none" if i == 1 else "reference") for i in range(5)]
    schema = InputSchema(kind="tabular", shape=(5,), columns=tuple(columns))
    config = parse(tiny_models.document("tensor", guards=[], monitors=[]))
    model = make_model(config, schema, outputs=3, folder=None, weights=None, program=None)
    parts = [tiny_models.rows("tensor", count, seed) for count, seed in ((300, 0), (400, 50))]
    with pytest.raises(Mistake, match=r"^input.columns: impute `none` on \['x1'\] passes NaN and -1 to"):
        fit_rows(config, schema=schema, classes=tiny_models.CLASSES, model=model, train=parts[0], heldout=parts[1])


def test_progress_is_tracked() -> None:
    """Every stage's steps pass through the tracker."""
    stages: dict[str, int] = {}

    def track(steps: range, stage: str) -> Iterable[int]:
        stages[stage] = len(steps)
        return steps

    config = parse(tiny_models.document("tensor"))
    fit_rows(
        config,
        schema=tiny_models.schema("tensor"),
        classes=tiny_models.CLASSES,
        model=tiny_models.model("tensor"),
        train=tiny_models.rows("tensor", 600),
        heldout=tiny_models.rows("tensor", 400, 50),
        track=track,
    )
    assert stages == {"reference": 3, "calibration": 2, "guards": 3, "monitors": 3}


def test_model_runs_in_chunks() -> None:
    """More rows than a chunk give what they give at once."""
    model, x = tiny_models.model("tensor"), tiny_models.inputs("tensor", 700, 0)
    output = run_model(model, x)
    assert torch.allclose(output.logits, model(x).logits, atol=1e-6)
    assert torch.allclose(output.features, model(x).features, atol=1e-6)


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_fit_is_the_same_each_time(kind: str) -> None:
    """The same config and rows give the same bundle, whatever the random state."""
    torch.manual_seed(1)
    one = tiny_models.fitted(kind).bundle
    torch.manual_seed(2)
    two = tiny_models.fitted(kind).bundle
    assert torch.equal(one.scores, two.scores)
    assert one.calibrated.temperature == two.calibrated.temperature
    assert one.pipeline().max_ranks == two.pipeline().max_ranks


def self_test(kind: str = "tensor") -> tuple[SelfTest, Any]:
    bundle = tiny_models.fitted(kind).bundle
    assert bundle.self_test is not None
    return bundle.self_test, bundle.pipeline()


def test_self_test_passes_where_it_was_recorded(kind: str) -> None:
    """On the device and build of the fit the self-test wants equality to the bit, and gets it."""
    test, pipeline = self_test(kind)
    assert test.fingerprint == fingerprint(pipeline)
    test.check(pipeline, tiny_models.CLASSES)
    again = SelfTest.from_tensors(test.tensors(), test.fingerprint)
    again.check(pipeline, tiny_models.CLASSES)


def nudged(tensor: Tensor, by: float) -> Tensor:
    nudged = tensor.clone()
    nudged.view(-1)[0] += by
    return nudged


@pytest.mark.parametrize("name", ["logits", "score", "p_value", "probabilities"])
def test_self_test_sees_the_last_bit(name: str) -> None:
    """On the same build the smallest difference is refused."""
    test, pipeline = self_test()
    value = getattr(test, name)
    other = replace(test, **{name: nudged(value, 1e-6 * max(1.0, float(value.view(-1)[0].abs())))})
    with pytest.raises(Mistake, match="this device and build gave other verdicts on known rows; fit the bundle anew"):
        other.check(pipeline, tiny_models.CLASSES)


@pytest.mark.parametrize(
    ("name", "by", "refused"),
    [
        *(("logits", 1e-6, False), ("logits", 0.1, True), ("p_value", 0.01, False), ("p_value", 0.2, True)),
        *(("probabilities", 1e-6, False), ("probabilities", 0.01, True)),
    ],
)
def test_self_test_elsewhere_has_a_tolerance(name: str, by: float, refused: bool) -> None:
    """On another device or build, what rounding may change is let pass, and more is refused."""
    test, pipeline = self_test()
    other = replace(test, fingerprint="another machine", **{name: nudged(getattr(test, name), by)})
    if refused:
        with pytest.raises(Mistake, match=r"differ by more than 0.0001 from the verdicts of 'another machine'"):
            other.check(pipeline, tiny_models.CLASSES)
    else:
        other.check(pipeline, tiny_models.CLASSES)


def test_self_test_knows_the_labels_in_their_order() -> None:
    """Another label in the place of a label, or two labels that changed places, are refused on any device."""
    test, pipeline = self_test()
    first, second, third = tiny_models.CLASSES
    for labels in ((first, second, "9"), (second, first, third), (first, second), (*tiny_models.CLASSES, "9")):
        for other in (test, replace(test, fingerprint="another machine")):
            with pytest.raises(Mistake, match="self-test: the labels, or their order, are not those of the fit; fit"):
                other.check(pipeline, labels)


def test_fingerprint_names_what_matters() -> None:
    """The fingerprint tells torch, threads, precision and compilation."""
    _, pipeline = self_test()
    said = fingerprint(pipeline)
    assert torch.__version__ in said
    assert f"{torch.get_num_threads()} threads" in said
    assert "float32" in said
    assert "compiled=False" in said


def test_fingerprint_without_processor_information(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system does not name its processor, the fingerprint has the architecture."""

    def refuse(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    _, pipeline = self_test()
    monkeypatch.setattr(Path, "read_text", refuse)
    assert platform.machine() in fingerprint(pipeline)


def test_self_test_judges_nan_as_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict that is NaN, as of a detector that crashes on the made-up rows, is equal to itself."""
    bundle = tiny_models.fitted("tensor").bundle

    def crash(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Ranges, "examine", crash)
    pipeline = bundle.pipeline()
    test = SelfTest.record(pipeline, tiny_models.inputs("tensor", 16, 0), tiny_models.CLASSES)
    assert test.p_value[0].isnan().all()
    test.check(pipeline, tiny_models.CLASSES)
    replace(test, fingerprint="another machine").check(pipeline, tiny_models.CLASSES)


def test_outputs_of_the_rows_are_kept_in_their_order() -> None:
    """What was fitted gives the model's outputs for both parts, with their labels, in the rows' own order."""
    parts = [tiny_models.rows("tensor", count, seed) for count, seed in ((300, 0), (400, 50))]
    fitted = tiny_models.fitted("tensor", train=parts[0], heldout=parts[1])
    for found, rows in zip((fitted.train, fitted.heldout), parts, strict=True):
        assert found.y is rows.y
        assert torch.allclose(found.logits, run_model(fitted.bundle.model, rows.x).logits, atol=1e-5)


@pytest.mark.parametrize("early", [False, True])
def test_a_model_in_memory_taps_early_layers_if_told(*, early: bool) -> None:
    """The gaussian guard looks at an early layer; fit says so if the model does not tap one."""
    config = parse(tiny_models.document("tensor", guards=[{"name": "ood", "detector": {"kind": "gaussian"}}]))
    train = tiny_models.rows("tensor")
    model = TorchModel(tiny_models.tensor_net(), example=train.x[:4], outputs=3, early=early)
    fitted = fit_rows(
        config,
        schema=InputSchema(kind="tensor", shape=tuple(train.x.shape[1:])),
        classes=("a", "b", "c"),
        model=model,
        train=train,
        heldout=tiny_models.rows("tensor", 400, 50),
    )
    assert ("early layer" in fitted.bundle.cause_names["ood"]) == early
    assert any("ood judges without early features" in note for note in fitted.notices.notes) != early
