"""A small residual network, for classifiers that are trained robustly on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class ResNet(nn.Module):
    """Pre-activation residual blocks (He et al. 2016, arXiv 1603.05027), batch norm then SiLU.

    A convolution of `stride` comes first. With stride 2 no block works on the whole image: on a CPU what is computed
    there for every pixel would take most of the time. With stride 1 it is slower and more accurate. Each further group
    begins with a 2x2 convolution of stride 2. A smooth activation instead of ReLU makes adversarial training better
    (Xie et al. 2020, arXiv 2006.14536).

    Input: float (N, 3, size, size) in [0, 1], `size` a multiple of stride * 2 ** (len(widths) - 1). Output: logits
    (N, classes).
    """

    def __init__(
        self,
        classes: int = 10,
        size: int = 32,
        widths: Sequence[int] = (64, 128, 256),
        depths: Sequence[int] = (2, 2, 1),
        stride: int = 2,
    ) -> None:
        super().__init__()
        if size % (smallest := stride * 2 ** (len(widths) - 1)):
            raise ValueError(f"size = {size}, but it takes multiples of {smallest}")
        layers: list[nn.Module] = []
        channels = 3
        for width, depth in zip(widths, depths, strict=True):
            layers.append(nn.Conv2d(channels, width, *((2, 2, 0) if layers else (stride + 2, stride, 1)), bias=False))
            layers += [_Block(width) for _ in range(depth)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = F.silu(self.norm(self.features(images * 4 - 2)))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.silu(self.norm2(inner)))
        return out
