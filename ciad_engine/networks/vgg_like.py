"""The second classifier, for transferred attacks: a VGG-like network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class VGGLike(nn.Module):
    """Blocks of 3x3 convolutions (2, 2, 3, 3, 3), each ReLU then batch norm, with max pooling.

    After keras_compressor's CIFAR-10 example, which the paper cites [18]; it follows Zagoruyko's
    "92.45% on CIFAR-10 in Torch". Widths there: 64 128 256 512 512 (15 M parameters); the default
    here is half of that (3.8 M), a bundle has to stay small. Dropout there: .3 after the first
    convolution, .4 between the others, .5 in the head, for 300 epochs; `dropout` scales all of them
    and is 0 by default, because so few epochs as the recipe's end before a half as wide network overfits.

    Input: float (N, 3, size, size) in [0, 1]. Output: logits (N, classes).
    """

    def __init__(
        self, classes: int = 10, size: int = 32, widths: Sequence[int] = (32, 64, 128, 256, 256), dropout: float = 0.0
    ) -> None:
        super().__init__()
        if size < 32:
            raise ValueError(f"size = {size}, but it takes images of 32x32 pixels or more")
        side = size // 32  # after five poolings
        layers: list[nn.Module] = []
        channels = 3
        for block, (width, depth) in enumerate(zip(widths, (2, 2, 3, 3, 3), strict=True)):
            for i in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width)]
                if i < depth - 1:
                    layers.append(nn.Dropout(dropout * (0.3 if block == 0 else 0.4)))
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout * 0.5),
            nn.Linear(channels * side**2, channels),
            nn.ReLU(),
            nn.BatchNorm1d(channels),
            nn.Dropout(dropout * 0.5),
            nn.Linear(channels, classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images * 2 - 1))
