"""Local response normalisation, computed as one small matrix product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LocalResponseNorm(nn.Module):
    """Divide each channel by (1 + alpha/size * sum of squares of `size` neighbours) ** (3/4).

    Krizhevsky et al. 2012, section 3.3, with the constants of the TensorFlow CIFAR-10 tutorial,
    from which the LAN paper's fully connected layers come (radius 4, alpha .001, beta .75).

    Equal to `torch.nn.LocalResponseNorm` (a test compares them), but the window sum over channels
    is a 1x1 convolution with a band of ones: PyTorch's version pools over a reshaped 5-D tensor and
    takes most of a training step on a CPU (`tests/benchmarks/norm.py` measures both).
    """

    band: Tensor

    def __init__(self, channels: int, size: int = 9, alpha: float = 1e-3) -> None:
        super().__init__()
        index = torch.arange(channels)
        # torch's window of an even size reaches one further down than up; ours are odd.
        near = (index[:, None] - index[None]).abs() <= size // 2
        self.register_buffer("band", near.float()[:, :, None, None] * (alpha / size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        divisor = F.conv2d(x * x, self.band.to(x.dtype)) + 1
        # d ** -3/4 without the far slower general power.
        root = torch.rsqrt(divisor)
        return x * (root * root.sqrt())
