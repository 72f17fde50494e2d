"""The conformance kit passes sound explainers, and each check catches the cheat that it is for."""

from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
import torch
from failing_checks import failing
from torch import Tensor

from guards import Attribution, Explainer, InputSchema, Params
from guards.explainers.base import NotExplainableError, seed_of
from guards.explainers.explained_function import Subject
from guards.testing import explainer_checks, explainer_conformance
from guards.testing.example import KINDS
from guards.testing.explained_model import explained


class SwappedParams(Params):
    method: Literal["swapped"] = "swapped"


class Swapped(Explainer):
    """The inputs take the row's values one after the other, in an order drawn from the row; each gets its change."""

    Params: ClassVar[type[Params]] = SwappedParams

    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        order = torch.randperm(row[0].numel(), generator=torch.Generator().manual_seed(seed_of(row)))
        steps = baseline.flatten(1).repeat(len(order) + 1, 1)
        for place, column in enumerate(order.tolist()):
            steps[place + 1 :, column] = row.flatten(1)[0, column]
        numbers = self.subject.evaluate(steps.view(-1, *row.shape[1:]), target.expand(len(steps)))
        values = torch.zeros_like(row).flatten(1)
        values[0, order] = numbers.diff()
        return values.view_as(row)


class Slope(Explainer):
    """The gradient, whose contributions are not meant to add up."""

    Params: ClassVar[type[Params]] = SwappedParams
    complete: ClassVar[bool] = False

    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        ends, _ = self.subject.split(row, baseline)
        return self.subject.merge(self.subject.gradient(ends, target)[1])


class RefusesImages(Swapped):
    @classmethod
    def refusal(cls, schema: InputSchema) -> str | None:
        return "swapped: it takes no images; use saliency" if schema.kind == "image" else None

    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        if (refusal := self.refusal(self.subject.schema)) is not None:
            raise NotExplainableError(refusal)
        return super().attribute(row, baseline, target)


class WantsTheModel(Swapped):
    def __init__(self, params: Params, subject: Subject, model: object) -> None:
        super().__init__(params, subject)
        self.model = model


class OpenParams(SwappedParams, extra="ignore"):
    pass


class Opens(Swapped):
    Params: ClassVar[type[Params]] = OpenParams


class RefusesAndExplains(Swapped):
    @classmethod
    def refusal(cls, schema: InputSchema) -> str | None:
        del schema
        return "swapped: it takes no rows"


class Flat(Swapped):
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        return super().attribute(row, baseline, target).flatten(1)[:, :-1]


class NeedsAGradient(Swapped):
    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        found = super().explain(x, target)
        return replace(found, values=found.values.requires_grad_())


class Divides(Swapped):
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        change = (row - baseline).flatten(1)
        change[:, 0] = 0.0
        return super().attribute(row, baseline, target) / change.view_as(row) * change.view_as(row)


class SaysNothing(Slope):
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        return 0 * super().attribute(row, baseline, target)


class AnswersForTheModel(Slope):
    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        found = super().explain(x, target)
        return replace(found, output_value=found.output_value + 1)


class ForgetsABaseline(Slope):
    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        found = super().explain(x, target)
        one = self.subject.evaluate(self.subject.baselines[:1].expand(len(x), *x.shape[1:]), target)
        return replace(found, baseline_value=one)


class HalfOfIt(Swapped):
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        return super().attribute(row, baseline, target) / 2


class HidesWhatIsLacking(HalfOfIt):
    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        found = super().explain(x, target)
        return replace(found, convergence_delta=torch.zeros(len(x)))


class ClaimsWithoutCompleteness(Slope):
    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        return replace(super().explain(x, target), convergence_delta=torch.zeros(len(x)))


class PeeksAtTheBatch(Swapped):
    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        found = super().explain(x, target)
        return replace(found, values=found.values - found.values.mean(0))


class PeeksAtItsPlace(Slope):
    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        found = super().explain(x, target)
        place = torch.arange(1, len(x) + 1).view(-1, *[1] * (x.ndim - 1))
        return replace(found, values=found.values * place)


class Random(Slope):
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        return super().attribute(row, baseline, target) * torch.rand(row.shape)


class Remembers(Slope):
    seen = 0.0

    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        self.seen = 0.9 * self.seen + float(row.sum())
        return super().attribute(row, baseline, target) * (1 + self.seen)


class TrainsTheModel(Swapped):
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        self.subject.model.head.weight.data.mul_(1.001)
        return super().attribute(row, baseline, target)


class LeavesGradients(Swapped):
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        weight = self.subject.model.head.weight.requires_grad_()
        self.subject(*self.subject.split(row, baseline)[0], target).sum().backward()
        weight.requires_grad_(requires_grad=False)
        return super().attribute(row, baseline, target)


class LeavesAHook(Swapped):
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        self.subject.model.head.register_forward_hook(lambda *_: None)
        return super().attribute(row, baseline, target)


class LeavesTrainingMode(Swapped):
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        self.subject.model.net.train()
        return super().attribute(row, baseline, target)


class LeavesGradientsOff(Swapped):
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        torch.set_grad_enabled(False)
        return super().attribute(row, baseline, target)


class WritesIntoRows(Swapped):
    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        found = super().explain(x, target)
        if not x.is_inference():
            x.zero_()
        return found


class WritesIntoBaselines(Swapped):
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        found = super().attribute(row, baseline, target)
        baseline.add_(0.125)
        return found


class NeedsItsOwnRows(Swapped):
    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        x.requires_grad_().requires_grad_(requires_grad=False)
        return super().explain(x, target)


class SwallowsTheDeadline(Swapped):
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        try:
            return super().attribute(row, baseline, target)
        except Exception:  # noqa: BLE001 - the cheat
            return torch.zeros_like(row)

    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        try:
            return super().explain(x, target)
        except Exception:  # noqa: BLE001 - the cheat
            nothing = torch.zeros(len(x))
            return Attribution(torch.zeros_like(x), nothing, nothing, nothing)


CHEATS: dict[type[Explainer], str] = {
    WantsTheModel: "constructor_takes_params_and_subject",
    Opens: "params_are_closed",
    RefusesAndExplains: "refusal_is_kept",
    Flat: "attribution_has_the_shape_of_the_rows",
    NeedsAGradient: "attribution_has_the_shape_of_the_rows",
    Divides: "contributions_are_finite",
    SaysNothing: "contributions_are_finite",
    AnswersForTheModel: "outputs_are_the_models",
    ForgetsABaseline: "outputs_are_the_models",
    HalfOfIt: "contributions_add_up_if_complete",
    HidesWhatIsLacking: "contributions_add_up_if_complete",
    ClaimsWithoutCompleteness: "contributions_add_up_if_complete",
    PeeksAtTheBatch: "rows_are_explained_alone",
    PeeksAtItsPlace: "rows_are_explained_alone",
    Random: "explanation_is_deterministic",
    Remembers: "explaining_teaches_nothing",
    TrainsTheModel: "model_is_left_alone",
    LeavesGradients: "model_is_left_alone",
    LeavesAHook: "model_is_left_alone",
    LeavesTrainingMode: "model_is_left_alone",
    LeavesGradientsOff: "model_is_left_alone",
    WritesIntoRows: "rows_are_left_alone",
    WritesIntoBaselines: "rows_are_left_alone",
    NeedsItsOwnRows: "rows_of_inference_mode_are_explained",
    SwallowsTheDeadline: "deadline_ends_an_explanation",
}


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("explainer", [Swapped, Slope, RefusesImages])
def test_honest_explainer_passes(explainer: type[Explainer], kind: Any, task: Any) -> None:
    """An explainer that keeps every promise fails no check on any kind of input."""
    assert failing(explainer_checks(explainer, kind=kind, task=task)) == set()


@pytest.mark.parametrize(("cheat", "check"), CHEATS.items(), ids=lambda x: getattr(x, "__name__", None))
@pytest.mark.parametrize("kind", ["tabular", "tensor"])
def test_cheating_explainer_is_caught(cheat: type[Explainer], check: str, kind: Any) -> None:
    """An explainer that breaks one promise fails the check that holds it."""
    grad_mode = torch.is_grad_enabled()
    try:
        assert check in failing(explainer_checks(cheat, kind=kind))
    finally:
        torch.set_grad_enabled(grad_mode)


def test_every_explainer_check_has_a_cheat() -> None:
    """Each check is shown to fail for some cheat."""
    assert set(CHEATS.values()) == set(explainer_checks(Swapped, kind="tensor"))


def test_a_refused_kind_is_spared_the_explanations() -> None:
    """For a kind of input that the explainer refuses, the checks see that it keeps to the refusal, and no more."""
    checks = explainer_checks(RefusesImages, kind="image")
    assert checks.keys() == {"constructor_takes_params_and_subject", "params_are_closed", "refusal_is_kept"}
    assert "refusal_is_kept" in failing(explainer_checks(RefusesAndExplains, kind="image"))


@explainer_conformance(Swapped, SwappedParams(), kinds=("tensor",), task="regression")
class TestDecoratedExplainer:
    """The decorator's methods are collected and pass; this class is the proof."""


def test_explained_table_has_missing_and_unseen_values() -> None:
    """The rows to explain have what a table's rows may have, and are the same at each call."""
    one, two = explained("tabular"), explained("tabular")
    assert torch.equal(one.x.nan_to_num(7), two.x.nan_to_num(7))
    assert one.x[0, 0].isnan()
    assert one.x[1, -1] == -1
    assert one.x[2, -1].isnan()
    assert len(one.subject.baselines) == 2
