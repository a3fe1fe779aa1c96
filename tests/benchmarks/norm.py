"""How much faster the band-matrix response norm is than PyTorch's, side by side.

python tests/benchmarks/norm.py
"""

from __future__ import annotations

import time

import torch
from torch import nn

from ciad_engine.networks.norm import LocalResponseNorm


def seconds(norm: nn.Module, x: torch.Tensor, repeats: int = 20) -> float:
    """Median time of one forward and backward pass."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.autograd.grad(norm(x).sum(), x)
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def main() -> None:
    torch.manual_seed(0)
    print("shape                 torch ms   ours ms   ratio")
    for shape in ((128, 64, 16, 16), (128, 64, 8, 8), (128, 32, 4, 4)):
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last).requires_grad_()
        slow = seconds(nn.LocalResponseNorm(9, alpha=1e-3), x)
        fast = seconds(LocalResponseNorm(shape[1]), x)
        print(f"{shape!s:20} {1e3 * slow:9.2f} {1e3 * fast:9.2f} {slow / fast:7.1f}")


if __name__ == "__main__":
    main()
