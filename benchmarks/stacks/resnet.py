"""A network of ResNet-50's size (He et al. 2016, table 1), with random weights: 25.6 M parameters, 4.1 GFLOP at 224."""

import torch
from torch import Tensor, nn

__all__ = ["ResNet50"]

DEPTHS = (3, 4, 6, 3)
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, and the way around them."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * EXPANSION
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.around = (
            nn.Sequential(nn.Conv2d(width_in, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            if stride != 1 or width_in != out
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the body to the way around it."""
        return torch.relu(self.body(x) + self.around(x))


class ResNet50(nn.Module):
    """Stem, four stages, average, linear."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        stages: list[nn.Module] = []
        width_in = 64
        for stage, depth in enumerate(DEPTHS):
            width = 64 * 2**stage
            for block in range(depth):
                stages.append(Bottleneck(width_in, width, 2 if stage and not block else 1))
                width_in = width * EXPANSION
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (n, classes) of images (n, 3, h, w)."""
        return self.head(self.stages(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]
