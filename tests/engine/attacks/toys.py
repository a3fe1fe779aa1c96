"""Small classifiers whose answers are known or quick, for images of 3 x 4 x 4 = 48 values.

They compute in float64, so that the same image gives the same bits in any batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ciad_engine.imaging import to_unit
from ciad_engine.jobs import Job

SHAPE = (3, 4, 4)
VALUES = 48


class Linear(nn.Module):
    """logits = x . weight + bias, with random weights (VALUES, classes)."""

    def __init__(self, classes: int = 10, seed: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(VALUES, classes, dtype=torch.float64) * scale)
        self.bias = nn.Parameter(torch.zeros(classes, dtype=torch.float64))

    def forward(self, x):
        # A sum of products per image: a matrix product may round differently with the batch size.
        return (x.double().flatten(1)[:, :, None] * self.weight).sum(1) + self.bias


class Curved(nn.Module):
    """A smooth network of two layers, with dropout that must be off under attack."""

    def __init__(self, classes: int = 10, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = Linear(24, seed, scale=0.4)
        self.drop = nn.Dropout(0.5)
        self.second = nn.Parameter(torch.randn(24, classes, dtype=torch.float64))

    def forward(self, x):
        hidden = self.drop(torch.tanh(self.first(x)))
        return (hidden[:, :, None] * self.second).sum(1)


class Wrapped(nn.Module):
    """Another network's logits through a function."""

    def __init__(self, inner: nn.Module, function) -> None:
        super().__init__()
        self.inner, self.function = inner, function

    def forward(self, x):
        return self.function(self.inner(x))


class Recorder(Job):
    """Keeps the fractions that were reported; cancels itself after `stop` reports."""

    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self.fractions: list[float] = []
        self.notes: list[str] = []
        self.stop = stop

    def on_progress(self, done: int, total: int, text: str) -> None:
        self.fractions.append(done / total)
        if self.stop is not None and len(self.fractions) >= self.stop:
            self.cancel()

    def on_note(self, text: str) -> None:
        self.notes.append(text)


def random_images(count: int, seed: int = 0, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (count, *SHAPE), dtype=np.uint8)


def answers(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """What the network says in eval mode; its mode is left as it was."""
    training = network.training
    network.eval()
    with torch.no_grad():
        said = network(to_unit(torch.tensor(images))).argmax(1).numpy()
    network.train(training)
    return said
