"""A case: a trained model's outputs for reference rows, calibration rows, clean rows, and rows of each suspect set."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from guards.detectors.squeeze import Squeeze, SqueezeParams
from guards.input.schema import InputSchema
from guards.model.chunked_run import run_model
from guards.model.torch_model import TorchModel
from guards.types import Batch, Reference

__all__ = ["Case", "Split", "make_case", "trained"]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images (n, 1, s, s) and classes (n,) for training, calibration and testing, of known classes alone."""

    train: tuple[Tensor, Tensor]
    calibration: Tensor
    clean: tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """What detectors are fitted, calibrated and judged on; ``accuracy`` is the model's on the clean rows."""

    reference: Reference
    calibration: Batch
    clean: Batch
    suspects: Mapping[str, Batch]
    accuracy: float


def trained(net: nn.Module, x: Tensor, y: Tensor, *, epochs: int, rate: float, batch: int, seed: int) -> nn.Module:
    """Train a network whose weights were drawn with the same seed."""
    torch.manual_seed(seed)
    for layer in net:  # type: ignore[attr-defined]
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    optimiser = torch.optim.AdamW(net.train().parameters(), weight_decay=0.01)
    steps = epochs * -(-len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):  # type: ignore[no-untyped-call]  # torch's is untyped
            optimiser.zero_grad()
            cross_entropy(net(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]  # torch's is untyped
            optimiser.step()
            schedule.step()
    return net.eval()


def make_case(net: nn.Module, split: Split, suspects: Mapping[str, Tensor]) -> Case:
    """Run a trained network on all rows, as a gateway would that has every detector, also one that reads views."""
    x, y = split.train
    schema = InputSchema(kind="image", shape=tuple(x.shape[1:]))
    model = TorchModel(net, example=x[:4], outputs=int(y.max()) + 1, early=True, views=Squeeze(SqueezeParams()).views)

    def batch(rows: Tensor) -> Batch:
        return Batch(rows, output=run_model(model, rows))

    clean = batch(split.clean[0])
    assert clean.output is not None  # noqa: S101
    return Case(
        reference=Reference(batch(x), y, schema, model.head),
        calibration=batch(split.calibration),
        clean=clean,
        suspects={name: batch(rows) for name, rows in suspects.items()},
        accuracy=float((clean.output.logits.argmax(1) == split.clean[1]).double().mean()),
    )
