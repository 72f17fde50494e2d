"""Faulty images against a reference of clean ones."""

import pytest
import torch
from torch import Tensor

from guards import Batch, InputSchema, Reference
from guards.detectors.image_quality import ImageQuality, ImageQualityParams

SCHEMA = InputSchema(kind="image", shape=(1, 24, 24))


def images(n: int, seed: int) -> Tensor:
    """Smooth images of eight bits, of many exposures and contrasts."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand((n, 1, 12, 12), generator=generator) ** (0.5 + 2 * torch.rand((n, 1, 1, 1), generator=generator))
    smooth = torch.nn.functional.interpolate(rough, size=(24, 24), mode="bicubic").clamp(0, 1)
    return (255 * smooth).round() / 255


def fitted() -> ImageQuality:
    return ImageQuality(ImageQualityParams()).fit(Reference(Batch(images(3000, 0)), None, SCHEMA))


def test_faulty_images_are_stranger_than_clean_ones() -> None:
    """Blur, noise, low contrast and a blank image score above 99 of a hundred clean images, and say why."""
    detector, clean = fitted(), images(1000, 1)
    bound = torch.quantile(detector.score(Batch(clean)), 0.99)
    generator = torch.Generator().manual_seed(2)
    some = clean[:200]
    faults = {
        "sharpness: low": torch.nn.functional.avg_pool2d(some, 5, 1, 2, count_include_pad=False),
        "noise: high": (some + 0.1 * torch.randn(some.shape, generator=generator)).clamp(0, 1),
        "brightest: low": 0.5 + 0.1 * (some - 0.5),
        "blankness: high": torch.zeros_like(some),
    }
    names = detector.cause_names()
    for cause, x in faults.items():
        found = detector.examine(Batch(x), causes=True)
        assert (found.score > bound).float().mean() > 0.95
        assert found.causes is not None
        assert found.causes[:, names.index(cause)].float().mean() > 0.9


def test_clean_images_have_few_causes() -> None:
    """A measure of a clean image is a cause for about one image in 200 on each side."""
    causes = fitted().causes(Batch(images(2000, 3)))
    assert causes is not None
    assert causes[:, :18].float().mean(0).max() < 0.02


def test_an_image_that_is_not_finite_cannot_be_judged() -> None:
    """An image with NaN scores NaN or infinity, which counts as strangest."""
    x = images(2, 4)
    x[0, 0, 3, 3] = torch.nan
    score = fitted().score(Batch(x))
    assert not score[0].isfinite()
    assert score[1].isfinite()


@pytest.mark.parametrize(
    ("schema", "x", "problem"),
    [
        (InputSchema(kind="tensor", shape=(4,)), torch.rand(200, 4), "judges images"),
        (InputSchema(kind="image", shape=(1, 2, 9)), torch.rand(200, 1, 2, 9), "at least 3 x 3 pixels"),
        (SCHEMA, images(50, 5), "at least 100 reference images, and there are 50"),
        (SCHEMA, images(200, 6) / 0, "finite pixels"),
    ],
)
def test_what_it_cannot_judge_is_refused(schema: InputSchema, x: Tensor, problem: str) -> None:
    """Another kind of input, tiny or few images, and pixels that are not finite are refused with a sentence."""
    with pytest.raises(ValueError, match=problem):
        ImageQuality(ImageQualityParams()).fit(Reference(Batch(x), None, schema))
