"""The mean of two ends of one training, usually better than either (stochastic weight averaging)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from ciad_engine import imaging
from ciad_engine.training.objectives import ImageObjective

COUNT, BATCH = 10_000, 500  # images the batch norms are measured on


def average_into(objective: ImageObjective, other: Mapping[str, Tensor], seed: int) -> None:
    """Replace the network's weights by the mean of its own and `other`, of the same network; it ends in eval mode.

    Izmailov et al. 2018 (arXiv 1803.05407): ends of cycles lie around a wide minimum, their mean within it. The
    batch norms' statistics are not weights: they are measured anew, on flipped and shifted training images.
    """
    network, device = objective.network, objective.train.images.device
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.lerp_(other[name].to(value), 0.5)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        update_bn(_batches(objective), network)
    network.eval()


def _batches(objective: ImageObjective) -> Iterator[Tensor]:
    order = torch.randperm(objective.count)[:COUNT].to(objective.train.images.device)
    for rows in order.tensor_split(-(-len(order) // BATCH)):
        yield objective.inputs(imaging.to_unit(objective.shown(rows)))
