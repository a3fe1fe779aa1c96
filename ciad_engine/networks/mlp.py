"""The control: a plain fully connected classifier of images, in place of mask generator and mask classifier."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected 3072-500-500-500-10 for CIFAR-10, leaky ReLU: the LAN's body with an answer in place of a mask.

    What the mask does for the contrast is what g and f2 do better than this network, which sees the image
    through the same layers and draws no mask (2.0 M parameters against 2.6 M).

    Input: float (N, 3, size, size) in [0, 1]. Output: logits (N, classes).
    """

    def __init__(self, classes: int = 10, size: int = 32, widths: Sequence[int] = (500, 500, 500)) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = 3 * size**2
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.LeakyReLU(0.1)]
            inputs = width
        self.body = nn.Sequential(*layers, nn.Linear(inputs, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images * 4 - 1.9)
