"""The fully connected layers that the mask generator and its control share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def dense(size: int, widths: Sequence[int], outputs: int) -> nn.Sequential:
    """From an image (N, 3, size, size) through leaky ReLUs of the given `widths` to (N, outputs)."""
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = 3 * size**2
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(0.1)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
