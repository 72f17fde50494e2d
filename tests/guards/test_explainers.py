"""Integrated gradients: exact on a linear model, complete on others, honest where it has no gradient."""

from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn

from guards import TorchModel
from guards.explainer import NotExplainableError
from guards.explainers.integrated_gradients import IntegratedGradients, IntegratedGradientsParams
from guards.model import Imputation
from guards.schema import Column, InputSchema


def explainer(model: TorchModel, schema: InputSchema, steps: int = 32) -> IntegratedGradients:
    return IntegratedGradients(IntegratedGradientsParams(steps=steps), model=model, schema=schema)


def linear(outputs: int, **options: Any) -> tuple[nn.Linear, TorchModel]:
    net = toys.seeded(lambda: nn.Linear(5, outputs))
    return net, TorchModel(net, example=torch.rand(2, 5), outputs=None, **options)


TENSOR = toys.schema("tensor")


@pytest.mark.parametrize("steps", [1, 32])
def test_linear_model_is_explained_exactly(steps: int) -> None:
    """On a linear model each input's contribution is its weight times its distance from the baseline."""
    net, model = linear(3)
    x, target = torch.randn(7, 5), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    found = explainer(model, TENSOR, steps).explain(x, target)
    assert torch.allclose(found.values, net.weight[target] * x, atol=1e-5)
    assert torch.allclose(found.baseline_value, net.bias[target], atol=1e-6)
    assert torch.allclose(found.output_value, net(x).gather(1, target[:, None])[:, 0], atol=1e-5)
    assert found.convergence_delta.abs().max() < 1e-5


def test_table_is_explained_from_its_imputed_values() -> None:
    """A table's baseline is a row with nothing known, and a missing value contributes nothing."""
    net = toys.seeded(lambda: nn.Linear(3, 2))
    columns = tuple(
        Column(name=name, kind="numeric", fill=fill) for name, fill in (("a", 1.0), ("b", -2.0), ("c", 0.5))
    )
    fill = torch.tensor([1.0, -2.0, 0.5])
    blank = torch.zeros(3, dtype=torch.bool)
    model = TorchModel(net, example=torch.rand(2, 3), outputs=2, imputation=Imputation(fill, blank, blank))
    schema = InputSchema(kind="tabular", shape=(3,), columns=columns)
    x = torch.tensor([[2.0, torch.nan, 4.0]])
    found = explainer(model, schema).explain(x, torch.tensor([1]))
    expected = net.weight[1] * torch.tensor([1.0, 0.0, 3.5])
    assert torch.allclose(found.values[0], expected, atol=1e-5)
    assert torch.allclose(found.baseline_value, net(fill)[1], atol=1e-6)


@pytest.mark.parametrize(("kind", "lack"), [("image", 0.03), ("tensor", 1e-4)])
def test_contributions_are_complete(kind: str, lack: float) -> None:
    """Contributions add up to the change of the logit, nearly so at a rectifier's kinks; delta says how nearly."""
    model, x = toys.model(kind), toys.inputs(kind, 20, 5)
    found = explainer(model, toys.schema(kind), 64).explain(x, model(x).logits.argmax(1))
    change = found.output_value - found.baseline_value
    assert found.values.shape == x.shape
    lacking = found.values.flatten(1).sum(1) - change
    assert torch.allclose(found.convergence_delta, lacking, atol=1e-4)
    assert lacking.abs().max() < lack


def test_column_that_does_not_matter_gets_nothing() -> None:
    """An input that the model ignores has no part."""

    class Ignores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x[:, :4] ** 2)

    model = TorchModel(toys.seeded(Ignores), example=torch.rand(2, 5), outputs=2)
    found = explainer(model, TENSOR).explain(torch.randn(3, 5), torch.zeros(3, dtype=torch.int64))
    assert found.values[:, 4].tolist() == [0, 0, 0]


def test_binary_model_is_explained_for_either_class() -> None:
    """With one logit z, the second class's output is z and the first's is -z."""
    net, model = linear(1)
    x = torch.randn(2, 5).repeat(2, 1)
    found = explainer(model, TENSOR).explain(x, torch.tensor([1, 1, 0, 0]))
    assert torch.allclose(found.values[:2], net.weight * x[:2], atol=1e-5)
    assert torch.allclose(found.values[2:], -found.values[:2], atol=1e-6)
    assert torch.allclose(found.output_value[:2], net(x[:2])[:, 0], atol=1e-5)


def test_regression_is_explained_by_its_value() -> None:
    """Of a regression the value is explained, with target 0."""
    net, model = linear(1)
    regression = TorchModel(net, example=torch.rand(2, 5), outputs=1)
    x = torch.randn(4, 5)
    found = explainer(regression, TENSOR).explain(x, torch.zeros(4, dtype=torch.int64))
    assert torch.allclose(found.values, net.weight * x, atol=1e-5)
    assert model.binary


def test_embedded_category_is_refused() -> None:
    """Where a category that matters has no gradient, the explanation is refused with the column's name."""
    model, schema = toys.model("tabular"), toys.schema("tabular")
    x = torch.tensor([[0.5, -0.5, 1.0, 2.0]])
    with pytest.raises(NotExplainableError, match=r"no gradient in the categorical columns \['colour'\]"):
        explainer(model, schema).explain(x, torch.tensor([0]))


def test_category_at_its_baseline_is_explained() -> None:
    """A row whose category is the imputed one, or missing, loses nothing and is explained."""
    model, schema = toys.model("tabular"), toys.schema("tabular")
    x = torch.tensor([[0.1, 0.2, 0.3, 1.0], [0.1, 0.2, 0.3, torch.nan]])
    found = explainer(model, schema).explain(x, torch.tensor([0, 0]))
    assert torch.allclose(found.values[0], found.values[1])
    assert found.values[:, 3].tolist() == [0, 0]
    assert found.convergence_delta.abs().max() < 1e-2


def test_explanations_leave_the_rows_alone() -> None:
    """Rows made in inference mode are explained, and nothing is written into them."""
    model = toys.model("tensor")
    with torch.inference_mode():
        x = torch.randn(3, 5)
    before = x.clone()
    found = explainer(model, TENSOR).explain(x, torch.tensor([0, 1, 2]))
    assert torch.equal(x, before)
    assert not found.values.requires_grad


def test_bundle_makes_its_explainer() -> None:
    """A bundle gives the config's explainer, with parameters changed within their bounds."""
    bundle = toys.fitted("tensor", explain={"method": "integrated_gradients", "steps": 5}).bundle
    assert bundle.explainer().params.model_dump()["steps"] == 5
    assert bundle.explainer({"steps": 7}).params.model_dump()["steps"] == 7
    with pytest.raises(ValueError, match="less than or equal to 1024"):
        bundle.explainer({"steps": 5000})
    with pytest.raises(ValueError, match="Extra inputs"):
        bundle.explainer({"stepss": 5})
