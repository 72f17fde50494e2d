"""Measures of images, by hand and by their direction."""

import math

import pytest
import torch

from guards.detectors.input_quality.image_measures import image_measures, measure_names


def measured(x: torch.Tensor) -> dict[str, float]:
    return dict(zip(measure_names(x.shape[1]), image_measures(x)[0].tolist(), strict=True))


def textured(channels: int = 1, size: int = 28) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(
        torch.rand((1, channels, 14, 14), generator=generator), size=(size, size), mode="bilinear"
    )
    return (255 * smooth).round() / 255


def test_a_chessboard_by_hand() -> None:
    """On a chessboard of 0 and 1 half the pixels are black, half are white, and every difference is the largest."""
    board = ((torch.arange(6)[:, None] + torch.arange(6)) % 2).float()[None, None]
    found = measured(board)
    assert found["exposure"] == found["contrast"] == found["black"] == found["white"] == 0.5
    assert (found["darkest"], found["brightest"], found["blankness"]) == (0.0, 1.0, 0.0)
    assert found["sharpness"] == pytest.approx(math.log((16 + 1e-4) / (0.25 + 1e-4)), rel=1e-5)
    assert found["noise"] == pytest.approx(0.05 * math.sqrt(math.pi / 2) / 6, rel=1e-5)


def test_a_blank_image() -> None:
    """A blank image has no contrast, and is blank everywhere."""
    found = measured(torch.full((1, 1, 8, 8), 0.4))
    assert (found["contrast"], found["blankness"]) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_faults_move_their_measure() -> None:
    """Blur lowers sharpness, noise raises noise and lowers blankness, darkness lowers exposure and the brightest."""
    clean = textured()
    found = measured(clean)
    assert measured(torch.nn.functional.avg_pool2d(clean, 3, 1))["sharpness"] < found["sharpness"]
    noisy = (clean + 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert measured(noisy)["noise"] > 1.1 * found["noise"]
    dark = measured(0.5 * clean)
    assert dark["exposure"] == pytest.approx(0.5 * found["exposure"])
    assert dark["brightest"] == pytest.approx(0.5 * found["brightest"])
    half = clean.clone()
    half[..., :14] = 0.5
    assert measured(half + noisy - clean)["blankness"] < 0.1 < measured(half)["blankness"]


def test_noise_is_measured_in_units_of_the_pixels() -> None:
    """Weak noise of a known standard deviation on a plain image is measured within a tenth."""
    plain = 0.5 + 0.004 * torch.randn((1, 1, 100, 100), generator=torch.Generator().manual_seed(2))
    assert measured(plain)["noise"] == pytest.approx(0.004, rel=0.1)


def test_channels_are_compared_with_the_grey_image() -> None:
    """A channel's measure is its mean less the mean of all channels."""
    x = torch.stack([torch.full((5, 5), level) for level in (0.9, 0.5, 0.1)])[None]
    found = measured(x)
    assert [found[f"channel {channel}"] for channel in range(3)] == pytest.approx([0.4, 0.0, -0.4])


def test_a_large_image_is_measured_on_tiles() -> None:
    """Tiles of a large image of one texture give about the measures of the whole, whatever the number of images."""
    generator = torch.Generator().manual_seed(3)
    large = torch.rand((2, 1, 300, 400), generator=generator)
    small = torch.rand((1, 1, 120, 120), generator=generator)
    assert image_measures(large)[0].tolist() == pytest.approx(image_measures(small)[0].tolist(), abs=0.05)
    assert torch.equal(image_measures(large)[:1], image_measures(large[:1]))
