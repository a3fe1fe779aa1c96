"""The mean of two ends of one training, usually better than either (stochastic weight averaging)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from ciad_engine import imaging
from ciad_engine.training.augment import flip_and_shift
from ciad_engine.training.stages import Images

COUNT, BATCH = 10_000, 500  # images the batch norms are measured on


def average_into(network: nn.Module, other: Mapping[str, Tensor], images: Images, shift: int, seed: int) -> None:
    """Replace the network's weights by the mean of its own and `other`, of the same network; it ends in eval mode.

    Izmailov et al. 2018 (arXiv 1803.05407): ends of cycles lie around a wide minimum, their mean within it. The
    batch norms' statistics are no weights: they are measured anew, on flipped and shifted training images.
    """
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.lerp_(other[name].to(value), 0.5)
    with torch.random.fork_rng([images.images.device] if images.images.is_cuda else []):
        torch.manual_seed(seed)
        update_bn(_batches(images, shift), network)
    network.eval()


def _batches(images: Images, shift: int) -> Iterator[Tensor]:
    order = torch.randperm(len(images))[:COUNT].to(images.images.device)
    for rows in order.tensor_split(-(-len(order) // BATCH)):
        yield imaging.to_unit(flip_and_shift(images.images[rows], shift))
