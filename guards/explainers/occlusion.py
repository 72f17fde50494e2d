"""Occlusion: what the output loses when a window over the input takes the baseline's values."""

import math
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from guards.detectors.base import Params
from guards.explainers.base import Explainer

__all__ = ["Occlusion", "OcclusionParams"]

SMALLEST_WINDOW, WINDOWS_ACROSS = 3, 8


class OcclusionParams(Params):
    """Parameters of occlusion."""

    method: Literal["occlusion"] = "occlusion"
    window: int | None = Field(
        default=None,
        ge=1,
        description="side of an image's window in pixels; default: an eighth of the image's side, at least 3",
    )
    positions: int = Field(
        default=1024, ge=1, le=65536, description="the most windows; the stride follows from this number"
    )


class Occlusion(Explainer):
    """Captum's occlusion: a square window slides over an image; in a table or tensor the window is one element.

    An element in several windows gets the mean of the windows' losses. A tensor with more elements than ``positions``
    has windows of several elements. Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks".
    """

    Params: ClassVar[type[Params]] = OcclusionParams
    complete: ClassVar[bool] = False
    params: OcclusionParams

    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        """Slide the window over the row, and attribute the output's loss to the elements in the window."""
        from captum.attr import Occlusion as Captum  # noqa: PLC0415 - an extra, and slow to import

        window, strides = self._window(tuple(row.shape[1:]))
        lost: Tensor = Captum(self.subject.evaluate).attribute(
            row,
            sliding_window_shapes=window,
            strides=strides,
            baselines=baseline,
            additional_forward_args=(target,),
            perturbations_per_eval=64,
        )
        return lost

    def _window(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Give the window's shape and its strides."""
        if self.subject.schema.kind != "image":
            # A long tensor's last axis is covered in runs, one beside the other.
            run = min(shape[-1], math.ceil(math.prod(shape) / self.params.positions))
            ones = (1,) * (len(shape) - 1)
            return (*ones, run), (*ones, run)
        channels, height, width = shape
        side = self.params.window or max(SMALLEST_WINDOW, round(min(height, width) / WINDOWS_ACROSS))
        side = min(side, height, width)
        stride = 1
        while math.ceil((height - side) / stride + 1) * math.ceil((width - side) / stride + 1) > self.params.positions:
            stride += 1
        # A stride beyond the window would leave pixels out.
        stride = min(stride, side)
        return (channels, side, side), (channels, stride, stride)
