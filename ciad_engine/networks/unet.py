"""A convolutional mask generator g: a small U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UNet(nn.Module):
    """Ronneberger et al. 2015 (arXiv 1505.04597) in small: it begins at half size and ends there; masks are enlarged.

    A mask value of 1 means "may be replaced, unimportant", as a LAN's. Batch norm and SiLU before each convolution.

    Input: float (N, 3, size, size) in [0, 1], `size` a multiple of 2 ** len(widths). Output: mask (N, 1, size, size)
    in [0, 1].
    """

    def __init__(self, size: int = 32, widths: Sequence[int] = (32, 64, 96)) -> None:
        super().__init__()
        if size % 2 ** len(widths):
            raise ValueError(f"size = {size}, but it takes multiples of {2 ** len(widths)}")
        self.first = nn.Conv2d(3, widths[0], 4, 2, 1)
        self.down = nn.ModuleList(_Conv(a, b, 3, 2) for a, b in pairwise(widths))
        self.inner = nn.ModuleList(_Conv(width, width, 3) for width in widths)
        self.up = nn.ModuleList(_Conv(a + b, a, 3) for a, b in pairwise(widths))
        self.last = _Conv(widths[0], 1, 1)

    def mask_logits(self, images: Tensor) -> Tensor:
        """The mask before the sigmoid, (N, 1, size, size)."""
        x = self.inner[0](self.first(images * 4 - 2))
        levels = [x]
        for down, inner in zip(self.down, self.inner[1:], strict=True):
            x = inner(down(x))
            levels.append(x)
        for level, up in zip(levels[-2::-1], reversed(self.up), strict=True):
            x = up(torch.cat([level, F.interpolate(x, scale_factor=2.0, mode="nearest")], 1))
        return F.interpolate(self.last(x).float(), scale_factor=2.0, mode="bilinear", align_corners=False)

    def forward(self, images: Tensor) -> Tensor:
        # In float32: where the mask saturates, bfloat16 would round it to exactly 0 or 1.
        return torch.sigmoid(self.mask_logits(images))


class _Conv(nn.Module):
    def __init__(self, channels: int, width: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, width, side, stride, side // 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.silu(self.norm(x)))
        return out
