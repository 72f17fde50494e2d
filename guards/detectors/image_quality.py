"""Detects faulty images: blur, noise, wrong exposure or contrast, saturation, blank images."""

import math
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from guards.detectors.base import Detector, Params
from guards.detectors.input_quality.combinations import Combinations
from guards.detectors.input_quality.image_measures import image_measures, measure_names
from guards.input.schema import InputSchema
from guards.statistics.surprise import Surprise
from guards.types import Batch, Finding, Reference

__all__ = ["ImageQuality", "ImageQualityParams"]

LEAST_ROWS = 100
"""Fewer images say too little about which measures are odd."""
LEAST_PIXELS = 3
ODD = math.log(200)
"""A measure is a cause if no more than one in 200 reference images has a stranger one."""


class ImageQualityParams(Params):
    """The image quality detector has nothing to set: what is strange follows from the reference."""

    kind: Literal["image_quality"] = "image_quality"


class ImageQuality(Detector):
    """The surprise of an image's strangest measure, in nats, or of the combination of its measures.

    Each of the measures of :func:`image_measures` is strange if it is unusually low or unusually high. In addition,
    :class:`Combinations` finds measures that are ordinary, and odd beside the image's other measures: a blurred image
    of a rich texture may be as sharp as a clean image of a plain one.
    """

    Params: ClassVar[type[Params]] = ImageQualityParams
    blind_spots: ClassVar[str] = (
        "It measures light, sharpness and noise, and no meaning: a sharp, well-lit image of a foreign thing passes, "
        "and so does a shifted, turned or mirrored image. Mild overexposure passes if clean images are saturated, too."
    )

    def __init__(self, params: ImageQualityParams) -> None:
        super().__init__()
        self.params = params
        self.sides, self.combinations = Surprise(), Combinations()
        self._names: tuple[str, ...] = ()

    def check_schema(self, schema: InputSchema) -> None:
        """Refuse tables and tensors, and images of few pixels.

        Raises:
            ValueError: the input is no image, or the images are too small.
        """
        if schema.kind != "image":
            raise ValueError(
                f"image_quality judges images, and the input is of kind {schema.kind}: use `ranges`, which judges "
                "every kind of input"
            )
        if min(schema.shape[1:]) < LEAST_PIXELS:
            raise ValueError(
                f"image_quality needs images of at least {LEAST_PIXELS} x {LEAST_PIXELS} pixels: use `ranges`"
            )

    def fit(self, reference: Reference) -> Self:
        """Learn which measures are ordinary.

        Raises:
            ValueError: the schema is refused, there are too few images, or a pixel is not finite.
        """
        schema, x = reference.schema, reference.batch.x
        self.check_schema(schema)
        if len(x) < LEAST_ROWS:
            raise ValueError(
                f"image_quality needs at least {LEAST_ROWS} reference images, and there are {len(x)}: give more"
            )
        measures = image_measures(x)
        if not measures.isfinite().all():
            raise ValueError("image_quality needs finite pixels; some reference images have NaN or infinity")
        self.sides.fit(_sides(measures))
        self.combinations.fit(measures, torch.zeros(measures.shape[1], dtype=torch.bool, device=x.device))
        names = measure_names(schema.shape[0])
        sides = (f"{name}: {side}" for side in ("low", "high", "odd beside the other measures") for name in names)
        self._names = tuple(sides)
        return self

    def examine(self, batch: Batch, *, causes: bool) -> Finding:
        """Measure the images once, for the score and the causes."""
        measures = image_measures(batch.x)
        sides = self.sides(_sides(measures))
        lifts = self.combinations.lifts(measures, measures.isnan())
        score = torch.maximum(sides.amax(1), self.combinations.surprise(lifts))
        marks = torch.cat([sides > ODD, self.combinations.odd_values(lifts)[0]], dim=1) if causes else None
        return Finding(score, causes=marks)

    def score(self, batch: Batch) -> Tensor:
        """Give the surprise of the strangest measure of each image."""
        return self.examine(batch, causes=False).score

    def causes(self, batch: Batch) -> Tensor | None:
        """Mark the measures that are low, high, or odd beside the others."""
        return self.examine(batch, causes=True).causes

    def cause_names(self) -> tuple[str, ...]:
        """Name the measures with their sides."""
        return self._names


def _sides(measures: Tensor) -> Tensor:
    """Give each measure (n, m) as a score of low and a score of high values: (n, 2 m)."""
    return torch.cat([-measures, measures], dim=1)
