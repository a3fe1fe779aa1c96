"""Random changes of a batch of training images, vectorised."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def flip_and_shift(images: Tensor, reach: int) -> Tensor:
    """Mirror half of the images and shift each by up to `reach` pixels (edges reflected).

    Args:
        images: uint8 (N, C, H, W).

    Returns:
        uint8 (N, C, H, W), drawn with torch's global generator.
    """
    return views(images, draw_views(len(images), reach, images.device), reach)


def view_count(reach: int) -> int:
    """In how many ways an image can be shifted by up to `reach` pixels, and mirrored."""
    return 2 * (2 * reach + 1) ** 2


def draw_views(count: int, reach: int, device: torch.device) -> Tensor:
    """A random view for each of `count` images: int64 (count,), each below `view_count(reach)`."""
    width = 2 * reach + 1
    top = torch.randint(0, width, (count, 1), device=device)
    left = torch.randint(0, width, (count, 1), device=device)
    mirrored = torch.rand(count, 1, device=device) < 0.5
    return ((top * width + left) * 2 + mirrored)[:, 0]


def views(images: Tensor, numbers: Tensor, reach: int) -> Tensor:
    """The view of each image (uint8 (N, C, H, W)) that `numbers` (int64 (N,)) names; uint8 (N, C, H, W)."""
    count, _, height, width = images.shape
    device = images.device
    padded = F.pad(images.float(), (reach,) * 4, mode="reflect").byte() if reach else images
    shift, mirrored = numbers[:, None] // 2, numbers[:, None] % 2 == 1
    rows = shift // (2 * reach + 1) + torch.arange(height, device=device)
    columns = shift % (2 * reach + 1) + torch.arange(width, device=device)
    columns = torch.where(mirrored, columns.flip(1), columns)
    # Channels last while gathering: one index reads the three colours of a pixel together.
    gathered = padded.permute(0, 2, 3, 1)[
        torch.arange(count, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return gathered.permute(0, 3, 1, 2)


def erase(images: Tensor, side: int) -> Tensor:
    """Paint a grey square over each image, of `side` pixels, anywhere: parts of it may lie outside.

    DeVries and Taylor 2017 (arXiv 1708.04552, "cutout").

    Args:
        images: uint8 (N, C, H, W).

    Returns:
        uint8 (N, C, H, W), drawn with torch's global generator; the images themselves where `side` is 0.
    """
    if not side:
        return images
    count, _, height, width = images.shape
    device = images.device

    def inside(length: int) -> Tensor:
        start = torch.randint(-(side // 2), length - side // 2, (count, 1), device=device)
        places = torch.arange(length, device=device)
        return (places >= start) & (places < start + side)

    square = inside(height)[:, None, :, None] & inside(width)[:, None, None, :]
    return images.masked_fill(square, 128)


def blurred(images: Tensor) -> Tensor:
    """Return float images (N, C, H, W) averaged over 5x5 pixels twice, edges reflected."""
    for _ in range(2):
        images = F.avg_pool2d(F.pad(images, (2,) * 4, mode="reflect"), 5, 1)
    return images
