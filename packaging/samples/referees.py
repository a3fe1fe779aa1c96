"""Small classifiers trained for the samples alone: one describes training images, one judges draws."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from ciad_engine import networks
from ciad_engine.datasets import DataSet
from ciad_engine.jobs import Job
from ciad_engine.training.loop import train
from ciad_engine.training.objectives import Classify, Images
from ciad_engine.training.recipes import Schedule

WIDTHS = (32, 64, 96, 128, 128)
SCHEDULE = Schedule(steps=1000, optimizer="sgd", learning_rate=0.1, warmup=0.2, weight_decay=5e-4)


@dataclasses.dataclass(frozen=True)
class Referee:
    name: str
    seed: int


def _network() -> nn.Module:
    return networks.create("vgg-like", widths=WIDTHS)


def train_referee(referee: Referee, cifar: DataSet, work: Path) -> None:
    """Train it on the whole training set into WORK/<name>.pt; measured on the test set."""
    assert cifar.train is not None
    assert cifar.test is not None
    device = torch.device("cpu")
    fit, test = (Images.of(part, device) for part in (cifar.train, cifar.test))
    torch.manual_seed(referee.seed)
    network = _network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective = Classify(referee.name, network, SCHEDULE, fit, test)
    print(train(objective, work, device, referee.seed, Job(), resume=True)["validation"], flush=True)
    torch.save(network.state_dict(), work / f"{referee.name}.pt")


def load_referee(referee: Referee, work: Path) -> nn.Module:
    network = _network()
    network.load_state_dict(torch.load(work / f"{referee.name}.pt", weights_only=True))
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
