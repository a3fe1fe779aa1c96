"""What the base flow is told of an image beside its class: 64 numbers in which like images are near.

    python packaging/samples/descriptions.py DATA WORK

A flow that has to learn from the label alone what a cat looks like needs far more training than a
CPU gives. So a small classifier, trained here for this alone, describes each training image: its
activations after the fourth block (2x2 places), reduced to their principal components (Li, Katabi,
He 2023, arXiv 2312.03701, condition a generator on such representations). To draw, a description is
made up: between those of two like images of the class.

WORK receives `encoder.pt` and `descriptions.pt`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from referees import Referee, load_referee, train_referee
from torch import Tensor, nn

from ciad_engine import datasets
from ciad_engine.imaging import to_unit

ENCODER = Referee("encoder", seed=202)
BLOCKS = 4  # of the encoder that are used
SIZE = 64  # numbers in a description
LIKE = 20  # a made-up description lies between an image's and one of so many nearest to it


@dataclasses.dataclass(frozen=True)
class Descriptions:
    """Of all training images: float (N, SIZE), mean 0, variance 1; `mirrored` of the mirrored images."""

    plain: Tensor
    mirrored: Tensor
    labels: Tensor


def load(work: Path) -> Descriptions:
    return Descriptions(**torch.load(work / "descriptions.pt", weights_only=True))


@torch.inference_mode()
def activations(network: nn.Module, images: Tensor) -> Tensor:
    """The encoder's activations after its fourth block, float (N, channels * 4), of uint8 images."""
    layers, blocks = [], 0
    for layer in network.features:  # type: ignore[union-attr]  # a VGGLike
        layers.append(layer)
        blocks += isinstance(layer, nn.MaxPool2d)
        if blocks == BLOCKS:
            break
    body = nn.Sequential(*layers)
    return torch.cat([body(to_unit(part) * 2 - 1).flatten(1) for part in images.split(500)])


def describe(network: nn.Module, images: Tensor, labels: Tensor) -> Descriptions:
    plain, mirrored = activations(network, images), activations(network, images.flip(-1))
    mean = plain.mean(0)
    _, lengths, directions = torch.linalg.svd(plain - mean, full_matrices=False)
    project = directions[:SIZE].T / (lengths[:SIZE] / len(plain) ** 0.5)
    return Descriptions((plain - mean) @ project, (mirrored - mean) @ project, labels)


def make_up(known: Descriptions, label: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` descriptions of images of class `label` that do not exist, float (count, SIZE)."""
    own = torch.cat([known.plain[known.labels == label], known.mirrored[known.labels == label]])
    first = own[torch.randint(len(own), (count,), generator=generator)]
    like = torch.cdist(first, own).topk(LIKE + 1, largest=False).indices[:, 1:]
    second = own[like.gather(1, torch.randint(LIKE, (count, 1), generator=generator))[:, 0]]
    return torch.lerp(first, second, 0.3 + 0.4 * torch.rand(count, 1, generator=generator))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    args = parser.parse_args()
    cifar = datasets.load(args.data)
    if cifar.train is None:
        raise SystemExit(f"{args.data} has no training images.")
    args.work.mkdir(parents=True, exist_ok=True)
    train_referee(ENCODER, cifar, args.work)
    known = describe(
        load_referee(ENCODER, args.work), torch.from_numpy(cifar.train.images), torch.from_numpy(cifar.train.labels)
    )
    torch.save(dataclasses.asdict(known), args.work / "descriptions.pt")


if __name__ == "__main__":
    main()
