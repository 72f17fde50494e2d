"""Detects images on which the model changes its mind once details are taken away: feature squeezing."""

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from guards.detectors.base import Detector, Params
from guards.input.schema import InputSchema
from guards.types import Batch, Reference

__all__ = ["Squeeze", "SqueezeParams"]

VALUES_AT_ONCE = 2**24
"""The most values that are sorted at once for medians: each pixel needs the 25 values of its square."""


class SqueezeParams(Params):
    """How an image is squeezed: each way is one more view of the image, which the model judges too."""

    kind: Literal["squeeze"] = "squeeze"
    bits: int | None = Field(default=4, ge=1, le=7, description="bits of a colour that are kept; null: no such view")
    median: Literal[3, 5] | None = Field(
        default=3, description="side of the square whose median replaces each pixel; null: no such view"
    )

    @model_validator(mode="after")
    def _squeezes(self) -> Self:
        if self.bits is None and self.median is None:
            raise ValueError("`bits` and `median` are both null, so that nothing is squeezed: give at least one")
        return self


class Squeeze(Detector):
    """The largest L1 distance between the probabilities of an image and those of its squeezed views, from 0 to 2.

    A view keeps what a person sees, and takes away what small perturbations use. Xu, Evans & Qi 2018, "Feature
    squeezing: detecting adversarial examples in deep neural networks". The views ride in the model's one pass over a
    batch, so that the pass has so many times more rows.
    """

    Params: ClassVar[type[Params]] = SqueezeParams
    needs_output: ClassVar[bool] = True
    reads_views: ClassVar[bool] = True
    blind_spots: ClassVar[str] = (
        "It sees an image only if the model's answer to the squeezed image differs. An attacker who knows the views "
        "finds images on which all answers agree (He et al. 2017), so it is an anomaly signal and no defence. Clean "
        "images with fine, needed detail look squeezed, too."
    )

    def __init__(self, params: SqueezeParams) -> None:
        super().__init__()
        self.params = params

    def check_schema(self, schema: InputSchema) -> None:
        """Refuse tables and tensors.

        Raises:
            ValueError: the input is no image.
        """
        if schema.kind != "image":
            raise ValueError(f"squeeze judges images, and the input is of kind {schema.kind}: use `gaussian`")

    def fit(self, reference: Reference) -> Self:
        """Learn nothing: what is strange follows from the calibration rows.

        Raises:
            ValueError: the input is no image, or the model predicts a number.
        """
        if reference.batch.output is not None and reference.batch.output.logits.shape[1] == 1:
            raise ValueError("squeeze compares probabilities of labels, and the model predicts a number: leave it out")
        self.check_schema(reference.schema)
        return self

    def views(self, x: Tensor) -> Tensor:
        """Squeeze images (n, c, h, w) with values from 0 to 1: (v, n, c, h, w).

        Backwards, fewer bits count as the identity, since an attacker would do so (Athalye et al. 2018, "Obfuscated
        gradients give a false sense of security").
        """
        made = []
        if self.params.bits is not None:
            levels = 2**self.params.bits - 1
            kept = (x * levels).round() / levels
            made.append(kept.detach() + (x - x.detach()))  # see `views`
        if self.params.median is not None:
            made.append(_median(x, self.params.median))
        return torch.stack(made)

    def score(self, batch: Batch) -> Tensor:
        """Compare the model's probabilities for each row with those for its views."""
        output = batch.output
        assert output is not None  # noqa: S101 - needs_output
        if output.views is None:
            return output.logits.new_full((len(batch),), torch.nan)
        seen = torch.softmax(output.logits, 1)[:, None]
        return (torch.softmax(output.views, 2) - seen).abs().sum(2).amax(1)


def _median(x: Tensor, side: int) -> Tensor:
    """Replace each pixel of images (n, c, h, w) by the median of the square around it; the edge repeats."""
    padded = nn.functional.pad(x, [side // 2] * 4, mode="replicate")
    if side == 3:  # noqa: PLR2004
        return _median_of_nine(padded)
    at_once = max(1, VALUES_AT_ONCE // max(1, x[:1].numel() * side * side))
    return torch.cat([_median_of_squares(few, side) for few in torch.split(padded, at_once)])


def _median_of_nine(padded: Tensor) -> Tensor:
    """Take medians of squares of side 3, from columns of 3 that are sorted once: five times as fast as sorting squares.

    The median of nine is the middle of: the largest low end, the middle of the middles, the smallest high end.
    """
    low, middle, high = _sorted(padded[..., :-2, :], padded[..., 1:-1, :], padded[..., 2:, :])
    lowest, middles, highest = (_sorted(ends[..., :-2], ends[..., 1:-1], ends[..., 2:]) for ends in (low, middle, high))
    return _sorted(lowest[2], middles[1], highest[0])[1]


def _sorted(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    return torch.minimum(low, c), torch.maximum(low, torch.minimum(high, c)), torch.maximum(high, c)


def _median_of_squares(padded: Tensor, side: int) -> Tensor:
    squares = padded.unfold(2, side, 1).unfold(3, side, 1)
    return squares.flatten(4).median(4).values
