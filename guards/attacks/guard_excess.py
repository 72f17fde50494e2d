"""How far rows are above the thresholds of guards with gradients: what an attacker who knows the guards pushes down."""

import math

import torch
from torch import Tensor

from guards.detectors.base import Detector
from guards.pipeline import Pipeline
from guards.types import Batch

__all__ = ["GuardExcess"]


class GuardExcess:
    """The largest excess of a score over its guard's threshold, in standard deviations of the guard's clean scores.

    ``blind`` names the guards that flag without a gradient: their scores are not differentiable. Of a guard that reads
    views, the views' gradient is taken, however roughly it tells how the score changes.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._guards: list[tuple[Detector, float, float]] = []
        self.blind: list[str] = []
        scores = None if pipeline.calibration is None else pipeline.calibration.scores
        for place, (guard, rank) in enumerate(zip(pipeline.guards, pipeline.max_ranks, strict=True)):
            if not (guard.detector.differentiable or guard.detector.reads_views):
                self.blind.append(guard.name)
                continue
            assert scores is not None  # noqa: S101 - a pipeline with guards is calibrated
            clean = scores[place]
            threshold = min(guard.limit, float(clean[len(clean) - rank]) if rank else math.inf)
            spread = float(clean[clean.isfinite()].std(correction=0))
            if threshold < math.inf:
                self._guards.append((guard.detector, threshold, spread or 1.0))

    def __len__(self) -> int:
        """Count the guards with a gradient."""
        return len(self._guards)

    @property
    def reads_views(self) -> bool:
        """Whether a guard with a gradient reads views of the rows."""
        return any(detector.reads_views for detector, _, _ in self._guards)

    def __call__(self, batch: Batch) -> Tensor:
        """Give the largest excess (n,), positive if a guard flags the row, with gradients."""
        excess = [(detector.score(batch) - threshold) / spread for detector, threshold, spread in self._guards]
        return torch.stack(excess).amax(0)
