"""Images that a model was not made for, made from clean images (n, 1, s, s) in [0, 1]."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

__all__ = ["corruptions", "foreign"]

SEVERITIES = (1, 2, 3, 4, 5)
DEVIATION, CONTRAST, BRIGHTNESS = 0.06, 0.16, 0.1
"""Of one step of severity: the noise's standard deviation, the lost share of the contrast, and the added brightness."""


def foreign(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Make sensor noise of three strengths, inverted images, uniform noise, and images with permuted pixels."""
    noise = torch.randn(x.shape, generator=generator)
    order = torch.randperm(x[0].numel(), generator=generator)
    return {
        **{f"noise {scale}": (x + scale * noise).clamp(0, 1) for scale in (0.1, 0.2, 0.3)},
        "inverted": 1 - x,
        "uniform noise": torch.rand(x.shape, generator=generator),
        "permuted": x.flatten(1)[:, order].reshape(x.shape),
    }


def corruptions(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Make noise, blur, lower contrast, brightness and coarse pixels of severity 1 to 5."""
    noise = torch.randn(x.shape, generator=generator)
    made: dict[str, Tensor] = {}
    for severity in SEVERITIES:
        size = x.shape[-1] - 3 * severity
        blurred = x
        for _ in range(severity):
            blurred = avg_pool2d(blurred, 3, 1, 1, count_include_pad=False)
        made |= {
            f"noise {severity}": (x + DEVIATION * severity * noise).clamp(0, 1),
            f"blur {severity}": blurred,
            f"contrast {severity}": (x - 0.5) * (1 - CONTRAST * severity) + 0.5,
            f"brightness {severity}": (x + BRIGHTNESS * severity).clamp(0, 1),
            f"coarse {severity}": interpolate(interpolate(x, size=(size, size), mode="area"), size=x.shape[-2:]),
        }
    return made
