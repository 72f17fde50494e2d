"""Brightness, contrast and sharpness: the same bits as torch's own functions, for any number of images."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from guards.monitors import image_statistics as module
from guards.monitors.image_statistics import image_statistics

KERNEL = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]


def images(count: int, channels: int = 1, height: int = 12, width: int = 9) -> Tensor:
    made = torch.rand((count, channels, height, width), generator=torch.Generator().manual_seed(count))
    made[0] = 0.25  # an image without contrast
    return made


def by_torch(x: Tensor) -> Tensor:
    """Give what the statistics are defined as, by torch's own variance."""
    grey = x.mean(1, keepdim=True)
    laplacian = conv2d(pad(grey, (1, 1, 1, 1), mode="replicate"), KERNEL).flatten(1)
    flat = grey.flatten(1)
    return torch.stack([flat.mean(1), flat.std(1, correction=0), laplacian.var(1, correction=0)])


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_torchs_own(channels: int) -> None:
    """Mean and deviation have the bits of torch's, and the sharpness equals a convolution's up to its last bit."""
    x = images(64, channels)
    found, known = image_statistics(x), by_torch(x)
    assert torch.equal(found[:2], known[:2])
    torch.testing.assert_close(found[2], known[2], rtol=3e-7, atol=0)
    assert found[1, 0] == found[2, 0] == 0


def test_neighbours_and_chunks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image alone, among others, and in another chunk has the same statistics."""
    x = images(33)
    whole = image_statistics(x)
    assert torch.equal(torch.cat([image_statistics(x[row : row + 1]) for row in range(33)], dim=1), whole)
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 5 * 12 * 9)
    assert torch.equal(image_statistics(x), whole)


def test_images_are_not_written_into() -> None:
    """The statistics leave the images as they are."""
    x = images(5)
    before = x.clone()
    image_statistics(x)
    assert torch.equal(x, before)
