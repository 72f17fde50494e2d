"""Explanations of the digits: they add up, find the pixels that matter, and depend on the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr
from torch import Tensor, nn

from guards import TorchModel
from guards.config.plugins import registered
from guards.explainers.explained_function import Subject
from guards.input.schema import InputSchema

FOLDER = Path(__file__).parents[2] / "examples" / "digits"
SCHEMA = InputSchema(kind="image", shape=(1, 8, 8))
ROWS = 60


def network() -> nn.Module:
    names: dict[str, Any] = {}
    exec((FOLDER / "model.py").read_text(), names)  # noqa: S102 - each example calls its module `model`
    net: nn.Module = names["build"]()
    return net


@pytest.fixture(scope="module")
def digits(trained_digits: tuple[Path, str]) -> tuple[Subject, Tensor, Tensor]:
    """Give the trained network with test images and their predicted labels."""
    out, _ = trained_digits
    net = network()
    net.load_state_dict(load_file(out / "model.safetensors"))
    x = torch.from_numpy(np.load(out / "test.npz")["x"][:ROWS]).float()
    x = x / 255 if x.max() > 1 else x
    model = TorchModel(net, example=x[:2], outputs=10)
    return Subject(model, SCHEMA), x, model(x).logits.argmax(1).clone()


def attributions(subject: Subject, x: Tensor, target: Tensor, method: str, **parameters: Any) -> Any:
    kind: Any = registered("explainers")[method]
    return kind(kind.Params.model_validate({"method": method, **parameters}), subject).explain(x, target)


def test_contributions_of_a_trained_network_add_up(digits: tuple[Subject, Tensor, Tensor]) -> None:
    """95 % of rows lack less than 1e-4 of the change of their logit after 128 gradient evaluations."""
    found = attributions(*digits, "integrated_gradients", max_steps=128)
    change = (found.output_value - found.baseline_value).abs()
    assert (found.convergence_delta.abs() / change).quantile(0.95) < 1e-4


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_shap", "kernel_shap"])
def test_deleting_what_matters_beats_deleting_at_random(digits: tuple[Subject, Tensor, Tensor], method: str) -> None:
    """The logit falls sooner when the pixels go that spoke for it, for at least 95 % of the rows."""
    subject, x, target = digits
    found = attributions(subject, x, target, method).values
    generator = torch.Generator().manual_seed(0)
    better = []
    for row, label, values in zip(x, target, found, strict=True):
        ours = _deletion(subject, row, label, values.flatten().argsort(descending=True))
        random = [_deletion(subject, row, label, torch.randperm(64, generator=generator)) for _ in range(5)]
        better.append(ours < np.mean(random))
    assert np.mean(better) >= 0.95


def _deletion(subject: Subject, row: Tensor, label: Tensor, order: Tensor) -> float:
    """Give the mean logit while pixels are deleted in an order."""
    gone = order.argsort()[None] < torch.arange(65)[:, None]
    deleted = torch.where(gone.view(-1, 1, 8, 8), 0.0, row[None])
    return float(subject.evaluate(deleted, label.expand(65)).mean())


def test_another_model_has_other_explanations(digits: tuple[Subject, Tensor, Tensor]) -> None:
    """With random weights the signed contributions differ from the contributions of the trained network."""
    subject, x, target = digits
    torch.manual_seed(3)
    unlike = Subject(TorchModel(network(), example=x[:2], outputs=10), SCHEMA)
    one = attributions(subject, x, target, "integrated_gradients").values.flatten(1).numpy()
    other = attributions(unlike, x, target, "integrated_gradients").values.flatten(1).numpy()
    correlation = np.mean([spearmanr(a, b).statistic for a, b in zip(one, other, strict=True)])
    assert abs(correlation) < 0.3
