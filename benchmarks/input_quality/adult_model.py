"""A small network for Adult's income: what the guards behind the model judge."""

import torch
from torch import Tensor, nn

from benchmarks.detection.case import Case, trained
from benchmarks.input_quality.table_errors import Adult
from guards.model.chunked_run import run_model
from guards.model.torch_model import TorchModel
from guards.types import Batch, Reference

__all__ = ["AdultModel"]

EPOCHS, RATE, BATCH = 8, 3e-3, 128


class Encoded(nn.Module):
    """Numbers in standard units, and an indicator of each category; missing and unseen values are all zeros."""

    mean: Tensor
    spread: Tensor

    def __init__(self, x: Tensor, sizes: list[int]) -> None:
        super().__init__()
        self.numeric = [place for place, size in enumerate(sizes) if not size]
        self.categorical = [(place, size) for place, size in enumerate(sizes) if size]
        numbers = x[:, self.numeric]
        self.register_buffer("mean", numbers.nanmean(0))
        self.register_buffer("spread", (numbers - numbers.nanmean(0)).square().nanmean(0).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Encode rows (n, d)."""
        parts = [((x[:, self.numeric] - self.mean) / self.spread).nan_to_num(0.0)]
        parts += [(x[:, [place]] == torch.arange(size, device=x.device)).float() for place, size in self.categorical]
        return torch.cat(parts, dim=1)


class AdultModel:
    """The trained network, and the case in which detectors that read its output are fitted."""

    def __init__(self, adult: Adult, rows: int, calibration: int) -> None:
        """Train on the first ``rows`` rows of the train part; the next ``calibration`` rows calibrate."""
        x, y = adult.train[:rows], adult.labels[:rows]
        self._model = TorchModel(_trained(adult, x, y), example=x[:4], outputs=2, early=True)
        held, held_y = (part[rows : rows + calibration] for part in (adult.train, adult.labels))
        clean = self.run(held)
        assert clean.output is not None  # noqa: S101
        self.case = Case(
            reference=Reference(self.run(x), y, adult.schema, self._model.head),
            calibration=clean,
            clean=clean,
            suspects={},
            accuracy=float((clean.output.logits.argmax(1) == held_y).double().mean()),
        )

    def run(self, x: Tensor) -> Batch:
        """Run the network on rows (n, d)."""
        return Batch(x, output=run_model(self._model, x))


@torch.inference_mode(mode=False)
def _trained(adult: Adult, x: Tensor, y: Tensor) -> nn.Module:
    encoded = Encoded(x, [len(column.categories or ()) for column in adult.schema.columns])
    net = nn.Sequential(
        *(encoded, nn.Linear(encoded(x[:1]).shape[1], 64), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)),
    )
    return trained(net, x, y, epochs=EPOCHS, rate=RATE, batch=BATCH, seed=0)
