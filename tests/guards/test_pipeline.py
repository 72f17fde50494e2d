"""The pipeline: order, actions, crashes, shadow mode, and rows without an answer."""

import math
from dataclasses import replace
from typing import Any, Self

import pytest
import tiny_models
import torch
from torch import Tensor, nn

from guards import Action, Batch, Bundle, Detector, Finding, Guard, Pipeline, Reference, Result
from guards.pipeline import fatal

GUARDS = [
    {"name": "flags", "detector": {"kind": "confidence"}, "action": "flag"},
    {"name": "abstains", "detector": {"kind": "ranges"}, "action": "abstain", "on_error": "reject"},
    {"name": "rejects", "detector": {"kind": "mahalanobis"}, "action": "reject"},
]


class Scripted(Detector):
    """Scores the first input value; crashes if it equals ``crash``, violates above ``bound``."""

    def __init__(self, crash: float = 1e6, bound: float = math.inf, *, causes: bool = False) -> None:
        super().__init__()
        self.crash, self.bound, self.has_causes = crash, bound, causes
        self.calls: list[int] = []

    def fit(self, reference: Reference) -> Self:
        raise NotImplementedError

    def score(self, batch: Batch) -> Tensor:
        self.calls.append(len(batch))
        values = batch.x[:, 0]
        if (values == self.crash).any():
            raise RuntimeError("a row that it cannot take")
        return values

    def violations(self, batch: Batch) -> Tensor | None:
        return batch.x[:, 0] > self.bound if self.bound < math.inf else None

    def causes(self, batch: Batch) -> Tensor | None:
        return batch.x[:, :2] > 0 if self.has_causes else None


class Second(Scripted):
    """The same of the second input value, once the model has run."""

    needs_output = True

    def score(self, batch: Batch) -> Tensor:
        assert batch.output is not None
        return super().score(Batch(batch.x[:, 1:]))


def scripted(*detectors: Detector, rows: int = 99, **changes: Any) -> Bundle:
    """Put detectors into a fitted bundle; every guard's calibration scores are 1 to n."""
    guards = GUARDS[: len(detectors)]
    bundle = tiny_models.fitted("tensor", guards=guards, monitors=[], false_alarm_budget=0.3, **changes).bundle
    scores = torch.arange(1.0, rows + 1).repeat(len(detectors), 1)
    return replace(bundle, detectors=detectors, scores=scores)


def batch(*firsts: float, second: float = 0.0) -> Batch:
    x = torch.zeros(len(firsts), 5)
    x[:, 0], x[:, 1] = torch.tensor(firsts), second
    return Batch(x)


def actions(outcome: Result) -> list[str]:
    return [Action(code).label for code in outcome.verdict.action.tolist()]


def test_guards_keep_the_configs_order() -> None:
    """The verdict names guards and their findings in the config's order, whichever wait for the model."""
    pipeline = scripted(Second(), Scripted(), Scripted()).pipeline()
    outcome = pipeline(batch(1.0, 2.0, second=50.0))
    assert outcome.verdict.guards == pipeline.names == ("flags", "abstains", "rejects")
    assert outcome.verdict.score.tolist() == [[50, 50], [1, 2], [1, 2]]
    assert list(pipeline.check_input(batch(1.0))) == [1, 2]


def test_p_values_and_flags() -> None:
    """A row's p-value follows from its rank, and the row is flagged at and under the guard's threshold."""
    pipeline = scripted(Scripted()).pipeline()
    (threshold,) = pipeline.thresholds
    assert threshold == 0.3
    outcome = pipeline(batch(0.0, 69.5, 70.0, 70.5, 99.5))
    assert outcome.verdict.p_value[0].tolist() == pytest.approx([1.0, 0.31, 0.31, 0.3, 0.01])
    assert outcome.verdict.flagged[0].tolist() == [False, False, False, True, True]
    assert actions(outcome) == ["allow", "allow", "allow", "flag", "flag"]


def test_strictest_action_wins() -> None:
    """If guards disagree, the strictest action is taken."""
    pipeline = scripted(Scripted(), Second(), Scripted(bound=200)).pipeline()
    assert actions(pipeline(batch(0.0))) == ["allow"]
    assert actions(pipeline(batch(0.0, second=1000.0))) == ["abstain"]
    assert actions(pipeline(batch(300.0, second=1000.0))) == ["reject"]


def test_violation_flags_whatever_the_p_value() -> None:
    """A broken bound flags a row that the calibration would pass, and is reported apart from the p-value."""
    outcome = scripted(Scripted(bound=5.0)).pipeline()(batch(3.0, 6.0))
    assert outcome.verdict.flagged[0].tolist() == [False, True]
    assert outcome.verdict.violated is not None
    assert outcome.verdict.violated[0].tolist() == [False, True]
    assert outcome.verdict.p_value[0, 1] > 0.9


def test_crash_costs_the_culprit_alone() -> None:
    """A row on which a detector crashes has p-value NaN, is not flagged, and gets on_error; its neighbours nothing."""
    crashing = Scripted(crash=7.0, causes=True, bound=500.0)
    outcome = scripted(Scripted(), crashing).pipeline()(batch(1.0, 7.0, 2.0, 99.5, 7.0))
    assert outcome.verdict.p_value[1].isnan().tolist() == [False, True, False, False, True]
    assert outcome.verdict.flagged[1].tolist() == [False, False, False, True, False]
    assert actions(outcome) == ["allow", "reject", "allow", "abstain", "reject"]
    assert outcome.verdict.p_value[0].isfinite().all()
    assert outcome.verdict.causes["abstains"][:, 0].tolist() == [True, False, True, True, False]
    assert outcome.verdict.violated is not None
    assert not outcome.verdict.violated.any()


def test_crash_is_ignored_unless_told() -> None:
    """Without on_error a crashing guard changes nothing, and the others still act."""
    outcome = scripted(Scripted(crash=7.0), Second()).pipeline()(batch(7.0, 7.0, second=1000.0))
    assert actions(outcome) == ["abstain", "abstain"]
    assert actions(scripted(Scripted(crash=7.0)).pipeline()(batch(7.0, 1.0))) == ["allow", "allow"]


def test_crashing_batch_is_halved() -> None:
    """The culprit is found by halving, not by trying row after row."""
    detector = Scripted(crash=7.0)
    scripted(detector).pipeline()(batch(*range(8, 72), 7.0, *range(72, 135)))
    assert len(detector.calls) < 20
    assert detector.calls[0] == 128


def test_detector_that_always_crashes() -> None:
    """A detector that takes no row at all leaves every row to on_error."""

    class Broken(Scripted):
        def score(self, batch: Batch) -> Tensor:
            raise ZeroDivisionError(len(batch))

    outcome = scripted(Scripted(), Broken()).pipeline()(batch(1.0, 2.0, 3.0))
    assert actions(outcome) == ["reject"] * 3
    assert outcome.verdict.p_value[1].isnan().all()
    assert outcome.verdict.causes == {}


@pytest.mark.parametrize("shape", [(-1, 1), (1, -1), (2, -1)])
def test_score_of_another_shape_counts_as_a_crash(shape: tuple[int, int]) -> None:
    """A detector that does not give one score a row crashes, as far as the pipeline is concerned."""

    class Reshaped(Scripted):
        def score(self, batch: Batch) -> Tensor:
            return super().score(batch).repeat(2).reshape(shape)

    outcome = scripted(Reshaped()).pipeline()(batch(1.0, 2.0))
    assert outcome.verdict.p_value.isnan().all()


def test_lost_device_is_no_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the device is passed on at once: no retry can help."""

    class LostError(RuntimeError):
        pass

    class Dies(Scripted):
        def score(self, batch: Batch) -> Tensor:
            self.calls.append(len(batch))
            raise LostError("device-side assert triggered")

    monkeypatch.setattr(torch, "AcceleratorError", LostError)
    detector = Dies()
    with pytest.raises(LostError):
        scripted(detector).pipeline()(batch(1.0, 2.0))
    assert detector.calls == [2]
    assert not fatal(ValueError())


def test_nan_score_is_the_strangest() -> None:
    """A row that cannot be judged has the smallest p-value there is."""

    class Root(Scripted):
        def score(self, batch: Batch) -> Tensor:
            return super().score(batch).sqrt()

    outcome = scripted(Root()).pipeline()(batch(-1.0, 1.0))
    assert outcome.verdict.score[0].isnan().tolist() == [True, False]
    assert outcome.verdict.p_value[0].tolist() == pytest.approx([0.01, 1.0])
    assert actions(outcome) == ["flag", "allow"]


def test_shadow_judges_and_never_acts() -> None:
    """In shadow every action is allow, and flags, violations and p-values are as they would be."""
    rows = batch(1.0, 99.5, 7.0)
    acting = scripted(Scripted(crash=7.0), Second()).pipeline()(rows)
    shadow = scripted(Scripted(crash=7.0), Second(), mode="shadow").pipeline()(rows)
    assert actions(shadow) == ["allow"] * 3
    assert torch.equal(shadow.verdict.flagged, acting.verdict.flagged)
    assert torch.equal(shadow.verdict.p_value.nan_to_num(9), acting.verdict.p_value.nan_to_num(9))


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_logits_that_are_not_finite_are_no_answer(mode: str) -> None:
    """A row whose logits are NaN or infinite is abstained from in any mode, and its neighbours are answered."""
    pipeline = scripted(Scripted(), mode=mode).pipeline()
    rows = batch(1.0, 2.0, 3.0)
    rows.x[1, 4] = math.nan
    assert actions(pipeline(rows)) == ["allow", "abstain", "allow"]


def test_pipeline_without_guards() -> None:
    """Without guards every row is allowed, and predicted."""
    pipeline = tiny_models.fitted("tensor", guards=[], monitors=[]).bundle.pipeline()
    outcome = pipeline(Batch(torch.randn(3, 5)))
    assert actions(outcome) == ["allow"] * 3
    assert outcome.verdict.p_value.shape == (0, 3)
    assert outcome.verdict.guards == pipeline.names == ()
    assert pipeline.thresholds == ()
    assert outcome.prediction.label is not None


def test_causes_only_where_asked() -> None:
    """Causes are worked out only for who asks for them."""
    pipeline = scripted(Scripted(causes=True)).pipeline()
    assert set(pipeline(batch(1.0)).verdict.causes) == {"flags"}
    assert pipeline(batch(1.0), causes=False).verdict.causes == {}


def test_one_row(kind: str) -> None:
    """A batch of one row is judged as any."""
    pipeline = tiny_models.fitted(kind).bundle.pipeline()
    outcome = pipeline(Batch(tiny_models.inputs(kind, 1, 8)))
    assert outcome.verdict.p_value.shape == (3, 1)


def test_model_runs_once() -> None:
    """Whatever guards there are, the model runs once."""
    bundle = scripted(Scripted(), Second(), Second())
    calls = []
    handle = bundle.model.net.register_forward_hook(lambda *_: calls.append(1))
    bundle.pipeline()(batch(1.0, 2.0))
    handle.remove()
    assert len(calls) == 1


def test_guard_by_itself() -> None:
    """A guard checks rows without a pipeline, and by default flags what it finds and ignores its crashes."""
    guard = Guard("g", Scripted())
    assert (guard.action, guard.on_error) == (Action.FLAG, Action.ALLOW)
    finding = guard.check(batch(3.0, 4.0))
    assert isinstance(finding, Finding)
    assert finding.score.tolist() == [3, 4]
    assert finding.crashed is None


def test_pipeline_by_hand() -> None:
    """A pipeline may be put together without a config."""
    bundle = tiny_models.fitted("tensor").bundle
    predictor = bundle.pipeline().predictor
    pipeline = Pipeline(model=bundle.model, guards=[], calibration=None, max_ranks=[], predictor=predictor)
    assert isinstance(predictor, nn.Module)
    assert actions(pipeline(Batch(torch.randn(2, 5)))) == ["allow", "allow"]
