"""Kernel SHAP: Shapley values estimated by a weighted regression over coalitions."""

from math import comb
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from guards.detectors.base import Params
from guards.explainers.base import Explainer, seed_of
from guards.explainers.coalitions import outputs, players_of, spread

__all__ = ["KernelShap", "KernelShapParams"]


class KernelShapParams(Params):
    """Parameters of kernel SHAP."""

    method: Literal["kernel_shap"] = "kernel_shap"
    samples: int = Field(default=1024, ge=4, le=65536, description="coalitions to run; all of them if there are fewer")
    groups: int = Field(default=64, ge=2, le=1024, description="the most patches of an image, or runs of a tensor")


class KernelShap(Explainer):
    """A regression under the constraint that contributions add up; each coalition is run beside its complement.

    The values are exact if all coalitions are run, and for additive models. Captum's implementation draws from the
    global random state, and its contributions only nearly add up.
    Lundberg & Lee 2017, "A unified approach to interpreting model predictions"; paired sampling of
    Covert & Lee 2021, "Improving KernelSHAP: practical Shapley value estimation via linear regression".
    """

    Params: ClassVar[type[Params]] = KernelShapParams
    params: KernelShapParams

    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        """Estimate each player's Shapley value, and share it among the player's inputs."""
        players = players_of(self.subject.schema, self.params.groups)
        d = int(players.max()) + 1
        ends = torch.tensor([[False] * d, [True] * d])
        at_baseline, at_row = outputs(self.subject, row, baseline, target, players, ends).tolist()
        change = at_row - at_baseline
        if d == 1:
            return spread(torch.tensor([change], dtype=torch.float64), players, row)
        present, weight = self._coalitions(d, seed_of(row))
        gain = outputs(self.subject, row, baseline, target, players, present) - at_baseline
        z = present.double()
        matrix = z.T @ (weight[:, None] * z)
        inverse = torch.linalg.pinv(matrix, hermitian=True)
        free = inverse @ (z.T @ (weight * gain))
        ones = inverse.sum(1)
        return spread(free - ones * (free.sum() - change) / ones.sum(), players, row)

    def _coalitions(self, d: int, seed: int) -> tuple[Tensor, Tensor]:
        """Give coalitions (m, d) with some players but not all, and the coalitions' weights (m,)."""
        if d <= 20 and 2**d - 2 <= self.params.samples:  # noqa: PLR2004 - for more players 2^d rows are too many
            codes = torch.arange(1, 2**d - 1)
            present = (codes[:, None] >> torch.arange(d)) & 1 == 1
            kernel = [(d - 1) / (comb(d, size) * size * (d - size)) for size in present.sum(1).tolist()]
            return present, torch.tensor(kernel, dtype=torch.float64)
        rng = np.random.default_rng(seed)
        sizes = np.arange(1, d)
        chance = 1 / (sizes * (d - sizes))
        drawn = rng.choice(sizes, size=self.params.samples // 2, p=chance / chance.sum())
        half = torch.from_numpy(rng.random((len(drawn), d)).argsort(1).argsort(1) < drawn[:, None])
        present = torch.cat([half, ~half])
        return present, torch.full((len(present),), 1 / len(present), dtype=torch.float64)
