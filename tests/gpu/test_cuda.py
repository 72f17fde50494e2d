"""What holds on a CUDA device; run with `-m gpu` on a machine that has one."""

import copy

import pytest
import torch
from torch import nn

from guards.bundle.fit_rows import Fitted, fit_rows
from guards.config.config import parse
from guards.input.schema import InputSchema
from guards.model.torch_model import TorchModel
from guards.pipeline import Pipeline
from guards.types import Batch, Result, Rows
from service.telemetry.gpu import Gpu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
SHAPE = (1, 8, 8)
CONFIG = {
    "name": "toy",
    "model": {"builder": "toy:build"},
    "input": {"kind": "image", "shape": list(SHAPE)},
    "reference": {"path": "train.npz"},
    "false_alarm_budget": 0.05,
    "guards": [
        {"name": "quality", "detector": {"kind": "ranges"}},
        {"name": "ood", "detector": {"kind": "mahalanobis"}},
        {"name": "confidence", "detector": {"kind": "confidence"}},
    ],
    "monitors": [{"name": "streams", "kind": "bins"}],
}


def _fitted(net: nn.Module, device: str) -> Fitted:
    schema = InputSchema(kind="image", shape=SHAPE)
    generator = torch.Generator().manual_seed(1)
    train, heldout = (Rows(torch.rand((n, *SHAPE), generator=generator)) for n in (400, 400))
    model = TorchModel(copy.deepcopy(net), example=schema.example_rows(4), outputs=3, device=device)
    return fit_rows(parse(CONFIG), schema=schema, classes=("a", "b", "c"), model=model, train=train, heldout=heldout)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """Make a small network."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 16), nn.ReLU(), nn.Linear(16, 3))


def _run(pipeline: Pipeline, x: torch.Tensor) -> Result:
    return pipeline(Batch(x.to(pipeline.model.device)))


def test_detectors_never_wait_for_the_device(net: nn.Module) -> None:
    """A whole pass over a batch, guards and all, copies nothing to the host."""
    pipeline = _fitted(net, "cuda").bundle.pipeline()
    x = torch.rand(32, *SHAPE, device="cuda")
    _run(pipeline, x)  # what is read from the device once is read now
    torch.cuda.set_sync_debug_mode("error")
    try:
        outcome = _run(pipeline, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(outcome.verdict.action) == 32


def test_devices_agree(net: nn.Module) -> None:
    """The same bundle gives probabilities within 1e-4 on both devices, whose convolutions round differently."""
    x = torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(2))
    on_cpu, on_gpu = (_run(_fitted(net, device).bundle.pipeline(), x) for device in ("cpu", "cuda"))
    assert on_cpu.prediction.probabilities is not None
    assert on_gpu.prediction.probabilities is not None
    torch.testing.assert_close(
        on_gpu.prediction.probabilities.cpu(), on_cpu.prediction.probabilities, rtol=0, atol=1e-4
    )


def test_stage_times_come_from_the_stream() -> None:
    """Laps on a GPU are what the device spent between the marks, read after its work is done."""
    from service.engine.stage_timer import Laps

    laps = Laps(torch.device("cuda"))
    torch.rand(4096, 4096, device="cuda") @ torch.rand(4096, 4096, device="cuda")
    laps.mark()
    torch.cuda.synchronize()
    assert 0 < laps.seconds()[0] < 1


def test_the_driver_tells_of_the_device_that_torch_uses() -> None:
    """Memory that a tensor takes shows in torch's and in the driver's figures of the same device."""
    gpu = Gpu.of(torch.device("cuda:0"))
    assert gpu is not None
    before = gpu.read()
    held = torch.zeros(2**28, dtype=torch.uint8, device="cuda:0")
    after = gpu.read()
    assert after.memory["allocated"] - before.memory["allocated"] == len(held)
    assert after.memory["used"] - before.memory["used"] >= len(held)
    assert after.memory["used"] <= after.memory["total"]
    assert after.watts is None or after.watts > 0
    assert after.utilization is None or 0 <= after.utilization <= 1
