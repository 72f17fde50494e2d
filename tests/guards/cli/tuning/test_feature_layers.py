"""Layers whose outputs may be features: found in a module, and read as a fit would read them."""

from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor, nn

from guards.cli.tuning.feature_layers import DEFAULT, FeatureLayers
from guards.model.torch_model import TorchModel


class Odd(nn.Module):
    """Layers that run twice, that never run, and that give no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.body, self.head = (nn.Linear(5, 5) for _ in range(4))
        self.pair = Pair()
        self.same = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.body(x))
        return self.head(self.same(self.pair(self.twice(self.twice(hidden)))["out"]))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": x * 2}


def wrapped(net: nn.Module, example: Tensor, **options: Any) -> TorchModel:
    return TorchModel(net, example=example, outputs=None, **options)


def test_unusable_layers_are_left_out() -> None:
    """A layer that runs twice or never, gives no tensor, or only repeats other features is no candidate."""
    layers = FeatureLayers(wrapped(Odd(), torch.randn(4, 5)), torch.randn(8, 5))
    assert layers.names == [DEFAULT, "body"]


@pytest.mark.parametrize("most", [None, 3])
def test_features_are_those_of_a_fit(most: int | None) -> None:
    """Features read in one pass equal those of a model with that layer as `model.features`, also in pieces."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 3))
    x = torch.rand(10, 1, 6, 6)
    model = wrapped(net, x[:2], most_rows=most)
    layers = FeatureLayers(model, x)
    assert layers.names == [DEFAULT, "0", "1", "2", "3"]  # 4 gives the default features, 5 the logits
    found = layers.outputs(x)
    for name in layers.names[1:]:
        again = wrapped(net, x[:2], feature_layer=name, most_rows=most)(x)
        assert torch.equal(found[name].features, again.features)
        assert torch.equal(found[name].logits, again.logits)
    assert torch.equal(found[DEFAULT].features, model(x).features)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_module_has_its_own_features_alone() -> None:
    """The layers of a scripted module cannot be read, so there is nothing to choose."""
    net = torch.jit.script(tiny_models.tensor_net())
    model = wrapped(net, tiny_models.inputs("tensor", 2, 0))
    assert FeatureLayers(model, tiny_models.inputs("tensor", 8, 0)).names == [DEFAULT]
