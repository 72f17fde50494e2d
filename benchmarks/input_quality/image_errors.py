"""Fashion-MNIST and MNIST, and corruptions of their images in five severities."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["CORRUPTIONS", "images"]

Corruption = Callable[[Tensor, float, torch.Generator], Tensor]


def images(folder: Path, name: str, part: str) -> Tensor:
    """Read the images (n, 1, 28, 28) of ``fashion-mnist`` or ``mnist``, in [0, 1] and in random order."""
    content = gzip.decompress((folder / name / f"{part}-images-idx3-ubyte.gz").read_bytes())
    x = torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=16).copy()).view(-1, 1, 28, 28).float() / 255
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]


def _eight_bits(x: Tensor) -> Tensor:
    return (255 * x.clamp(0, 1)).round() / 255


def _blur(x: Tensor, sigma: float, _: torch.Generator) -> Tensor:
    """Blur with a Gaussian of ``sigma`` pixels."""
    reach = int(3 * sigma + 1)
    kernel = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    across = nn.functional.conv2d(
        nn.functional.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel[None, None, None]
    )
    down = nn.functional.pad(across, (0, 0, reach, reach), mode="replicate")
    return nn.functional.conv2d(down, kernel[None, None, :, None])


def _noise(x: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    return x + sigma * torch.randn(x.shape, generator=generator)


def _contrast(x: Tensor, factor: float, _: torch.Generator) -> Tensor:
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + factor * (x - mean)


def _scaled(x: Tensor, factor: float, _: torch.Generator) -> Tensor:
    return factor * x


def _brighter(x: Tensor, more: float, _: torch.Generator) -> Tensor:
    return x + more


KINDS: dict[str, tuple[Corruption, tuple[float, ...]]] = {
    "blur": (_blur, (0.4, 0.6, 0.8, 1.0, 1.5)),
    "noise": (_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "contrast": (_contrast, (0.75, 0.6, 0.4, 0.3, 0.15)),
    "darker": (_scaled, (0.9, 0.75, 0.6, 0.4, 0.2)),
    "brighter": (_brighter, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "overexposed": (_scaled, (1.1, 1.3, 1.6, 2.0, 3.0)),
}
"""Noise and brightness as in ImageNet-C (Hendrycks & Dietterich 2019); the others for images of 28 x 28 pixels."""


def _corrupted(corruption: Corruption, severity: float) -> Callable[[Tensor], Tensor]:
    def apply(x: Tensor) -> Tensor:
        return _eight_bits(corruption(x, severity, torch.Generator().manual_seed(1)))

    return apply


CORRUPTIONS: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    name: tuple(_corrupted(corruption, level) for level in levels) for name, (corruption, levels) in KINDS.items()
}
