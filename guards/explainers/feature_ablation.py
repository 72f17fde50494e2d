"""Feature ablation: what the output loses when one input takes the baseline's value."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from guards.detectors.base import Params
from guards.explainers.base import Explainer
from guards.explainers.coalitions import players_of

__all__ = ["FeatureAblation", "FeatureAblationParams"]


class FeatureAblationParams(Params):
    """Parameters of feature ablation."""

    method: Literal["feature_ablation"] = "feature_ablation"
    groups: int = Field(default=1024, ge=1, le=65536, description="the most patches of an image, or runs of a tensor")


class FeatureAblation(Explainer):
    """Captum's feature ablation: columns, patches or elements, one at a time; it needs no gradient.

    Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks".
    """

    Params: ClassVar[type[Params]] = FeatureAblationParams
    complete: ClassVar[bool] = False
    params: FeatureAblationParams

    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        """Replace one player at a time; a patch's pixels share what the output loses."""
        from captum.attr import FeatureAblation as Captum  # noqa: PLC0415 - an extra, and slow to import

        players = players_of(self.subject.schema, self.params.groups).to(row.device)
        lost: Tensor = Captum(self.subject.evaluate).attribute(
            row,
            baselines=baseline,
            additional_forward_args=(target,),
            feature_mask=players[None],
            perturbations_per_eval=64,
        )
        return lost / players.flatten().bincount()[players]
