"""Local response normalisation, computed as one small matrix product."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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
        return _Normalise.apply(x, self.band)  # type: ignore[no-untyped-call]


class _Normalise(torch.autograd.Function):
    """y = x s with s = d ** -3/4 and d = 1 + band (x * x); its gradient in closed form.

    With g = dL/dy and a symmetric band, dL/dx = g s - 3/2 x band (g s x / d). Memory traffic is what
    costs here: left to autograd, the powers took a third of a training step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, band: Tensor) -> Tensor:
        band = band.to(x.dtype)
        divisor = F.conv2d(x * x, band).add_(1)
        scale = divisor.rsqrt()  # d ** -3/4 without the far slower general power
        scale = scale.sqrt().mul_(scale)
        ctx.save_for_backward(x, scale, divisor, band)
        return x * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, scale, divisor, band = ctx.saved_tensors
        scaled = gradient * scale
        spread = F.conv2d((scaled * x).div_(divisor), band)
        return scaled.sub_(spread.mul_(x), alpha=1.5), None
