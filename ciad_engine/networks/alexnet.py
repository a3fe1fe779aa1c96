"""The classifier f1: the LAN paper's AlexNet for CIFAR-10."""

from __future__ import annotations

from torch import Tensor, nn

from ciad_engine.networks.norm import LocalResponseNorm


class AlexNet(nn.Module):
    """Five convolutions 64-64-64-64-32 and FC 384, 192, 10; 0.47 M parameters.

    Grimm et al. 2017 (arXiv 1706.00536 v1), appendix B: strides 2 2 1 1 2 with kernels 5 5 3 3 3, leaky ReLU, tanh in
    the fully connected layers, dropout and local response normalisation at each layer, no pooling. Not stated there and
    chosen here: SAME padding, leaky slope 0.1, the dropout rates. After the convolutions the rate is 0 by default: the
    network is small enough to fit augmented images badly rather than too well, and dropout there cost accuracy.

    Input: float (N, 3, size, size) in [0, 1]. Output: logits (N, classes).
    """

    def __init__(self, classes: int = 10, size: int = 32, dropout: float = 0.0, dense_dropout: float = 0.1) -> None:
        super().__init__()
        side = -(-size // 8)  # three strides of 2, each rounded up by the padding
        layers: list[nn.Module] = []
        channels = 3
        for width, kernel, stride in ((64, 5, 2), (64, 5, 2), (64, 3, 1), (64, 3, 1), (32, 3, 2)):
            layers += [
                nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2),
                nn.LeakyReLU(0.1),
                LocalResponseNorm(width),
                nn.Dropout(dropout),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * side**2, 384),
            nn.Tanh(),
            nn.Dropout(dense_dropout),
            nn.Linear(384, 192),
            nn.Tanh(),
            nn.Dropout(dense_dropout),
            nn.Linear(192, classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images * 4 - 1.9))  # about zero mean, unit variance
