"""Measures of an image's quality: exposure, contrast, sharpness, noise, saturation, blankness, balance of channels."""

import math

import torch
from torch import Tensor

__all__ = ["image_measures", "measure_names"]

TILE = 32
TILES = 4
"""Of a larger image, so many tiles a side are measured, each of TILE x TILE pixels in full resolution."""
WHOLE = (TILE * TILES) ** 2
"""An image of no more pixels is measured whole."""
PIXELS_AT_ONCE = 1 << 16
"""So many pixels, with all intermediate results, fit into the cache of a core."""
LEVEL = 0.5 / 255
"""Half a step of eight bits: values that differ by less are alike."""
NAMES = ("exposure", "contrast", "darkest", "brightest", "sharpness", "noise", "black", "white", "blankness")
EDGE = 0.05
"""A second difference counts no more than this as noise."""
FAINT = 1e-4
"""Added to variances before the logarithm: less is no contrast at all."""


def measure_names(channels: int) -> tuple[str, ...]:
    """Name the measures of images with so many channels."""
    return NAMES if channels == 1 else (*NAMES, *(f"channel {channel}" for channel in range(channels)))


def image_measures(x: Tensor) -> Tensor:
    """Measure images x (n, c, h, w) with at least 3 x 3 pixels: (n, m), in the order of :func:`measure_names`.

    All measures but the last ones are of the grey image. Exposure is the mean, contrast the standard deviation,
    darkest and brightest the extreme values. Sharpness is the log of the Laplacian's variance over the variance: blur
    lowers it (Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy"). Noise is the standard
    deviation estimated from second differences in both directions (Immerkaer 1996, "Fast noise variance estimation");
    each difference is bounded, because an edge is no noise, however large the edge is. Black and white are the shares
    of saturated pixels, and blankness is the share of pixels without a Laplacian. A channel's measure is its mean less
    the exposure.
    """
    rows = max(1, PIXELS_AT_ONCE // math.prod(x.shape[1:]))
    return torch.cat([_measures(part) for part in torch.split(x, rows)]) if len(x) > rows else _measures(x)


def _measures(x: Tensor) -> Tensor:
    tiles = _tiles(x)
    grey = tiles[:, 0] if x.shape[1] == 1 else tiles.mean(1)
    flat = grey.flatten(1)
    exposure = flat.mean(1)
    variance = (flat - exposure[:, None]).square().mean(1)
    across = grey[..., :, :-2] - 2 * grey[..., :, 1:-1] + grey[..., :, 2:]
    down = grey[..., :-2, 1:-1] - 2 * grey[..., 1:-1, 1:-1] + grey[..., 2:, 1:-1]
    laplacian = (across[..., 1:-1, :] + down).flatten(1)
    edges = (laplacian - laplacian.mean(1, keepdim=True)).square().mean(1)
    both = (across[..., :-2, :] - 2 * across[..., 1:-1, :] + across[..., 2:, :]).flatten(1)
    measures = [
        exposure,
        variance.sqrt(),
        flat.amin(1),
        flat.amax(1),
        ((edges + FAINT) / (variance + FAINT)).log(),
        both.abs_().clamp_max_(EDGE).mean(1) * (math.sqrt(math.pi / 2) / 6),
        (flat < LEVEL).float().mean(1),
        (flat > 1 - LEVEL).float().mean(1),
        (laplacian.abs() < LEVEL).float().mean(1),
    ]
    if x.shape[1] > 1:
        measures += (tiles.flatten(2).mean(2) - exposure[:, None]).unbind(1)
    return torch.stack(measures, dim=1)


def _tiles(x: Tensor) -> Tensor:
    """Give the whole image, or tiles spread evenly over a large image: (n, c, t, h, w)."""
    height, width = x.shape[2:]
    if height * width <= WHOLE:
        return x[:, :, None]
    for axis in (2, 3):
        size = min(TILE, x.shape[axis])
        step = max(1, (x.shape[axis] - size) // (TILES - 1))
        x = x.unfold(axis, size, step)
    return x.flatten(2, 3)
