"""What the model gets for a row with missing values, in its own scale, and how explanations treat such rows."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guards.bundle.load_model import make_model
from guards.config.config import parse
from guards.detectors.base import Detector, Params
from guards.explainers.baselines import baselines
from guards.explainers.explained_function import Subject
from guards.explainers.feature_ablation import FeatureAblation
from guards.explainers.integrated_gradients import IntegratedGradients
from guards.explainers.kernel_shap import KernelShap
from guards.explainers.reference_sample import Exemplars
from guards.explainers.saliency import Saliency
from guards.input.column import Column
from guards.input.imputation import Imputation
from guards.input.schema import InputSchema
from guards.model.torch_model import TorchModel
from guards.types import Batch, Reference

NAN = torch.nan
WEIGHTS = torch.tensor([2.0, -3.0])
ROWS = torch.tensor([[4.0, 1.0], [NAN, 5.0]])
SCALE = torch.tensor([0.5, 100.0])
SCHEMA = InputSchema(
    kind="tabular",
    shape=(2,),
    columns=(
        Column(name="a", kind="numeric", scale=0.5, fill=6.0),
        Column(name="b", kind="numeric", scale=100.0, fill=-1.0),
    ),
)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 1, bias=False)
        self.head.weight = nn.Parameter(WEIGHTS[None])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class First(Detector):
    """Scores a row with the value of its first column, as the guard sees it."""

    Params = Params

    def fit(self, reference: Reference) -> "First":
        del reference
        return self

    def score(self, batch: Batch) -> Tensor:
        return batch.x[:, 0]


def linear() -> nn.Module:
    return Linear()


def model() -> TorchModel:
    config = parse(
        {
            "name": "linear",
            "model": {"builder": f"{__name__}:linear", "task": "regression", "device": "cpu"},
            "input": {"kind": "tabular"},
            "reference": {"path": "a.csv"},
        }
    )
    return make_model(config, SCHEMA, outputs=1, folder=None, weights=None, program=None)


def test_rows_are_filled_and_scaled() -> None:
    """Missing values are filled, -1 stands for a kept category, and numbers are multiplied by their scale."""
    imputation = Imputation(
        fill=torch.tensor([6.0, 2.0, 0.0]),
        categorical=torch.tensor([False, True, True]),
        keep=torch.tensor([False, False, True]),
        scale=torch.tensor([0.5, 1.0, 1.0]),
    )
    prepared = imputation(torch.tensor([[4.0, 1.0, 1.0], [NAN, -1.0, NAN]]))
    assert prepared.tolist() == [[2, 1, 1], [3, 2, -1]]
    assert imputation.typical.tolist() == [[3, 2, 0]]
    assert imputation.as_sent(prepared).tolist() == [[4, 1, 1], [6, 2, -1]]
    plain = Imputation(torch.zeros(1), torch.tensor([False]), torch.tensor([False]))
    assert plain(torch.tensor([[NAN], [7.0]])).tolist() == [[0], [7]]


def test_the_model_gets_scaled_values() -> None:
    """The model gets value * scale, with missing values filled before."""
    expected = (torch.tensor([[4.0, 1.0], [6.0, 5.0]]) * SCALE) @ WEIGHTS
    assert model()(ROWS).logits[:, 0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    "method", [IntegratedGradients, FeatureAblation, KernelShap], ids=lambda method: method.__name__
)
def test_contributions_are_of_values_as_sent(method: Any) -> None:
    """A linear model's contributions are weight * scale * (value - baseline), which add up to the change."""
    found = method(method.Params(), Subject(model(), SCHEMA)).explain(ROWS, torch.zeros(2, dtype=torch.int64))
    expected = WEIGHTS * SCALE * (torch.tensor([[4.0, 1.0], [6.0, 5.0]]) - torch.tensor([6.0, -1.0]))
    assert torch.allclose(found.values, expected, atol=1e-3)
    assert torch.allclose(found.baseline_value, (WEIGHTS * SCALE * torch.tensor([6.0, -1.0])).sum().expand(2))


def test_slopes_are_per_unit_as_sent() -> None:
    """A saliency is the change of the output per unit of the value as it was sent."""
    found = Saliency(Saliency.Params(), Subject(model(), SCHEMA)).explain(ROWS[:1], torch.zeros(1, dtype=torch.int64))
    assert found.values.tolist() == [(WEIGHTS * SCALE).tolist()]


def test_a_guard_is_explained_in_its_own_scale() -> None:
    """A guard's score is explained at the values that the guard sees."""
    subject = Subject(model(), SCHEMA, detector=First())
    found = FeatureAblation(FeatureAblation.Params(), subject).explain(ROWS[:1], torch.zeros(1, dtype=torch.int64))
    assert (found.output_value.item(), found.values.tolist()) == (4, [[-2, 0]])


def test_baselines_are_scaled() -> None:
    """Baselines that come from the reference are in the model's scale."""
    wrapped = model()
    reference = Reference(Batch(ROWS, output=wrapped(ROWS)), None, SCHEMA, wrapped.head, 1.0)
    exemplars = Exemplars.of(reference, wrapped.prepare(ROWS), seed=0, store_rows=True, kept=0, show_rows=False)
    assert baselines("neutral", wrapped, SCHEMA, exemplars).tolist() == [[3, -100]]
    sample = baselines("sample", wrapped, SCHEMA, exemplars)
    assert sorted(sample.tolist()) == [[2, 100], [3, 500]]


def test_a_mean_that_is_none_is_the_typical_value_in_scale() -> None:
    """Of a column whose gaps reach the model the mean is unknown: its typical value, scaled, stands in."""
    columns = (SCHEMA.columns[0].model_copy(update={"impute": "none"}), SCHEMA.columns[1])
    schema = SCHEMA.model_copy(update={"columns": columns})
    wrapped = model()
    reference = Reference(Batch(ROWS, output=wrapped(ROWS)), None, schema, wrapped.head, 1.0)
    prepared = torch.tensor([[2.0, 100.0], [NAN, 500.0]])
    exemplars = Exemplars.of(reference, prepared, seed=0, store_rows=False, kept=0, show_rows=False)
    assert exemplars.mean.tolist() == [[3, 300]]
