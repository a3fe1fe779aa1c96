"""How far 8-bit images are apart: counts of changed values, norms, and structural similarity."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from ciad_engine.domain import Pixels

Floats = npt.NDArray[np.float64]

WINDOW, SIGMA = 11, 1.5  # of SSIM's Gaussian, in pixels
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # keep SSIM finite where an image is black or flat


def measure(before: Pixels, after: Pixels) -> dict[str, npt.NDArray[Any]]:
    """How far images, uint8 (N, C, H, W) each, are apart, by the names in `AttackResult`.

    Returns:
        Of shape (N,) each: "l0_values" and "l0_pixels" (int64, changed channel values and pixels), "l2"
        (float64, Euclidean, images in [0, 1]), "linf" (int64, in units of 1/255), "ssim" (float64).
    """
    change = after.astype(np.int16) - before
    moved = change != 0
    return {
        "l0_values": moved.sum((1, 2, 3)),
        "l0_pixels": moved.any(1).sum((1, 2)),
        "l2": np.sqrt(np.square(change, dtype=np.int32).sum((1, 2, 3))) / 255,
        "linf": np.abs(change).max((1, 2, 3)).astype(np.int64),
        "ssim": ssim(before, after),
    }


def ssim(before: Pixels, after: Pixels) -> Floats:
    """Mean structural similarity of images, uint8 (N, C, H, W) each: float64 (N,), 1 for equal images, at least -1.

    Wang et al. 2004 (IEEE Trans. Image Processing 13 (4), section III): Gaussian window of 11x11 pixels with a
    standard deviation of 1.5, K1 = .01, K2 = .03, values from 0 to 255, wherever the window fits into the image;
    averaged over places and colour channels. Images smaller than the window get the largest odd one that fits.
    """
    rows, columns = (_smoothing(size) for size in before.shape[2:])

    def local_mean(images: Floats) -> Floats:
        # Image by image: one large product would wake numpy's own threads, which then spin beside torch's.
        return rows @ images @ columns.T

    x, y = before.astype(np.float64), after.astype(np.float64)
    mean_x, mean_y = local_mean(x), local_mean(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    variances = local_mean(x**2 + y**2) - squares
    covariance = local_mean(x * y) - product
    luminance = (2 * product + C1) / (squares + C1)
    structure = (2 * covariance + C2) / (variances + C2)
    return (luminance * structure).mean((1, 2, 3))


@functools.cache
def _smoothing(size: int) -> Floats:
    """The Gaussian window at each place along a side of `size` pixels, as a matrix (places, size)."""
    width = min(WINDOW, size - (size + 1) % 2)
    weights = np.exp(-((np.arange(width) - width // 2) ** 2) / (2 * SIGMA**2))
    weights /= weights.sum()
    matrix = np.zeros((size - width + 1, size))
    for place, row in enumerate(matrix):
        row[place : place + width] = weights
    return matrix
