"""Intervals of a regression over many splits: coverage, width, and coverage where the error is expected to be large."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.confidence.pools import ValuePool
from guards.calibration.prediction_sets import Regressor
from guards.calibration.residual_scale import ResidualScale
from guards.types import ModelOutput

__all__ = ["interval_figures"]

COVERAGE, THIRDS, NEIGHBOURS = 0.9, 3, 20
MOST_ROWS = 5000


class NearestResiduals(ResidualScale):
    """The rival: the mean absolute residual of the nearest rows, of features that were standardised."""

    def fit(self, features: Tensor, residuals: Tensor) -> "NearestResiduals":
        """Keep the rows; a floor of a tenth of the median keeps the scale positive."""
        self.mean, self.deviation = features.mean(0), features.std(0) + 1e-9
        self.rows, self.sizes = (features - self.mean) / self.deviation, residuals.abs()
        self.floor = float(self.sizes.median()) / 10
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Average over the neighbours."""
        distance = torch.cdist((features - self.mean) / self.deviation, self.rows)
        nearest = distance.topk(min(NEIGHBOURS, len(self.rows)), largest=False).indices
        return self.sizes[nearest].mean(1).clamp(min=self.floor)


MEASURES: dict[str, Callable[[], ResidualScale] | None] = {
    "absolute": None, "normalised": ResidualScale, "nearest rows": NearestResiduals,
}  # fmt: skip


def interval_figures(pool: ValuePool, *, splits: int) -> dict[str, dict[str, float]]:
    """Measure every method on the same splits; thirds are of the noise if it is known, else of the fitted scale."""
    found: dict[str, list[list[float]]] = {name: [] for name in MEASURES}
    rows = min(MOST_ROWS, len(pool.y))
    for seed in range(splits):
        order = torch.randperm(len(pool.y), generator=torch.Generator().manual_seed(seed))[:rows]
        aside, calibration, fresh = torch.split(order, [rows // 5, 2 * rows // 5, rows - rows // 5 - 2 * rows // 5])
        loud = pool.noise
        if loud is None:
            loud = ResidualScale().fit(pool.features[aside], (pool.y - pool.value)[aside])(pool.features)
        third = loud[fresh].argsort().argsort() * THIRDS // len(fresh)
        for name, make in MEASURES.items():
            measure = None if make is None else make().fit(pool.features[aside], (pool.y - pool.value)[aside])
            scale = None if measure is None else measure(pool.features[calibration])
            scores = Regressor.scores(pool.value[calibration, None], pool.y[calibration], scale)
            output = ModelOutput(pool.value[fresh, None], pool.features[fresh])
            interval = Regressor(scores, coverage=COVERAGE, measure=measure)(output).interval
            assert interval is not None  # noqa: S101 - the calibration rows have values
            y = pool.y[fresh]
            held = ((interval[:, 0] <= y) & (y <= interval[:, 1])).double()
            width = float((interval[:, 1] - interval[:, 0]).mean())
            found[name].append([float(held.mean()), width, *(float(held[third == t].mean()) for t in range(THIRDS))])
    names = ("coverage", "mean width", "quiet third", "middle third", "loud third")
    return {name: dict(zip(names, torch.tensor(each).mean(0).tolist(), strict=True)) for name, each in found.items()}
