"""The rows within eps of a batch of rows, as points that gradient steps move."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from guards.attacks.query_attack import Norm
from guards.attacks.space import Rows, Space

__all__ = ["Ball"]

TINY = 1e-12


class Ball:
    """Points (n, w) are changes of rows (n, ...) in the units of a space; a value that must not change has none."""

    def __init__(self, space: Space, x: Rows, eps: float, norm: Norm, device: torch.device) -> None:
        unit, low, high = (part.to(device).flatten(1) for part in space.tensors(x))
        self._x, self._unit, self._free = torch.from_numpy(x).to(device), unit, unit > 0
        self._count = self._free.sum(1, keepdim=True).clamp_min(1)
        self._eps, self._norm = eps, norm
        flat, most = self._x.flatten(1), eps if norm == "linf" else torch.inf
        self._low = torch.where(self._free, (low - flat) / unit, 0.0).clamp(-most, 0)
        self._high = torch.where(self._free, (high - flat) / unit, 0.0).clamp(0, most)
        self._reach = torch.maximum(self._high, -self._low).amax(1, keepdim=True).clamp_max(eps)

    def rows(self, points: Tensor) -> Tensor:
        """Give the rows (n, ...) of points, with gradients."""
        flat = self._x.flatten(1)
        return torch.where(self._free, flat.nan_to_num() + points * self._unit, flat).reshape(self._x.shape)

    def centre(self) -> Tensor:
        """Give the points of the rows themselves."""
        return torch.zeros_like(self._low)

    def random(self, generators: Sequence[np.random.Generator]) -> Tensor:
        """Draw a point for each row, with the row's own generator."""
        drawn = np.stack([generator.uniform(-self._eps, self._eps, self._low.shape[1]) for generator in generators])
        return self._project(torch.from_numpy(drawn).to(self._low))

    def descend(self, points: Tensor, gradient: Tensor, share: float) -> Tensor:
        """Step against a gradient (n, w) by a share of eps, or of nearer bounds, and stay within the ball."""
        step = gradient.sign() if self._norm == "linf" else gradient / self._rms(gradient).clamp_min(TINY)
        return self._project(points - share * self._reach * step)

    def _project(self, points: Tensor) -> Tensor:
        if self._norm == "rms":
            points = points * (self._eps / self._rms(points).clamp_min(TINY)).clamp_max(1)
        return points.clamp(self._low, self._high)

    def _rms(self, values: Tensor) -> Tensor:
        return torch.where(self._free, values, 0.0).square().sum(1, keepdim=True).div(self._count).sqrt()
