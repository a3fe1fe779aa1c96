"""The mask generator g: a Latent Attention Network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ciad_engine.networks.mlp import MLP


class LatentAttentionNetwork(MLP):
    """Fully connected 3072-500-500-500-1024 for 32x32 images, leaky ReLU, sigmoid; 2.55 M parameters.

    Grimm et al. 2017 (arXiv 1706.00536 v1), appendix B. A mask value of 1 means "may be corrupted,
    unimportant" and 0 "important"; the program shows importance = 1 - mask.

    Input: float (N, 3, size, size) in [0, 1]. Output: mask (N, 1, size, size) in [0, 1], which broadcasts
    over the three colours ("tiled").
    """

    def __init__(self, size: int = 32, widths: Sequence[int] = (500, 500, 500)) -> None:
        super().__init__(size**2, size, widths)
        self.size = size

    def mask_logits(self, images: Tensor) -> Tensor:
        """The mask before the sigmoid, (N, 1, size, size)."""
        return super().forward(images).view(-1, 1, self.size, self.size)

    def forward(self, images: Tensor) -> Tensor:
        # In float32: where the mask saturates, bfloat16 would round it to exactly 0 or 1.
        return torch.sigmoid(self.mask_logits(images).float())
