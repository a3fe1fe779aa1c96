"""The mask classifier f2: LeNet-5 on the mask."""

from __future__ import annotations

from torch import Tensor, nn


class LeNet(nn.Module):
    """LeCun et al. 1998, with ReLU and max pooling; 62 k parameters at width 1 for 32x32 masks.

    The masks of a LAN share a strong mean; a batch norm without parameters of its own removes the
    mean mask's scale before the first convolution.

    Input: mask (N, 1, size, size) in [0, 1]. Output: logits (N, classes).
    """

    def __init__(self, classes: int = 10, size: int = 32, width: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        if size < 16:
            raise ValueError(f"size = {size}, but it takes masks of 16x16 pixels or more")
        side = ((size - 4) // 2 - 4) // 2  # after the second pooling
        self.normalise = nn.BatchNorm2d(1, affine=False)
        self.body = nn.Sequential(
            nn.Conv2d(1, 6 * width, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6 * width, 16 * width, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * width * side**2, 120),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(84, classes),
        )

    def forward(self, masks: Tensor) -> Tensor:
        return self.body(self.normalise(masks))
