"""Second opinions to hold against the mask's: if one of them contrasts as well, the mask does not do the work."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ciad_engine import compute, imaging
from ciad_engine.detectors.base import Verdict

MLP = "mlp"  # a fully connected classifier of the image itself, in place of g and f2
SHUFFLED = "shuffled-mask"  # f2 on the mask's values in another order, the same for every image
CONSTANT = "constant-mask"  # f2 on a mask of one half everywhere
CONFIDENCE = "confidence"  # no second opinion: f1's own probability of its class
BATCH = 256


@dataclasses.dataclass(frozen=True)
class SecondOpinion:
    """What a control says of N images.

    Attributes:
        y: int64 (N,), its class.
        score: float64 (N,), -log of its probability of f1's class: the graded contrast with it in f2's place.
    """

    y: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]


def second_opinions(
    verdict: Verdict, images: npt.NDArray[np.uint8], mask_classifier: nn.Module, control: nn.Module | None
) -> dict[str, SecondOpinion]:
    """The controls' opinions of images, uint8 (N, 3, H, W), by name; that of MLP where there is a `control`.

    `verdict` is the contrast detector's of the same images.
    """
    masks = verdict.masks[:, None]
    places = masks[0].size
    order = np.random.RandomState(0).permutation(places)
    shuffled = masks.reshape(len(masks), places)[:, order].reshape(masks.shape)
    found = {
        SHUFFLED: _opinion(mask_classifier, shuffled, verdict.y1, torch.from_numpy),
        CONSTANT: _of_constant(mask_classifier, masks[:1].shape, verdict.y1),
    }
    if control is not None:
        found[MLP] = _opinion(control, images, verdict.y1, lambda part: imaging.to_unit(torch.from_numpy(part)))
    return found


def scores(
    verdict: Verdict, images: npt.NDArray[np.uint8], mask_classifier: nn.Module, control: nn.Module | None
) -> dict[str, npt.NDArray[np.float64]]:
    """The scores of images that a threshold can be chosen for, float64 (N,), higher where likelier adversarial.

    Those of `second_opinions` but for CONSTANT's, which are ten numbers and fit no rate, and that of CONFIDENCE: -log
    of the probability f1 gives its class.
    """
    opinions = second_opinions(verdict, images, mask_classifier, control)
    found = {name: opinion.score for name, opinion in opinions.items() if name != CONSTANT}
    return {**found, CONFIDENCE: -np.log(verdict.p1.max(1))}


def _of_constant(network: nn.Module, shape: tuple[int, ...], y1: npt.NDArray[np.int64]) -> SecondOpinion:
    one = np.full(shape, 0.5, np.float32)
    log_p = _log_p(network, one, torch.from_numpy)[0]
    return SecondOpinion(np.full(len(y1), log_p.argmax()), -log_p[y1].astype(np.float64))


def _opinion(
    network: nn.Module,
    inputs: npt.NDArray[np.generic],
    y1: npt.NDArray[np.int64],
    prepare: Callable[[npt.NDArray[np.generic]], Tensor],
) -> SecondOpinion:
    log_p = _log_p(network, inputs, prepare)
    return SecondOpinion(log_p.argmax(1), -log_p[np.arange(len(y1)), y1].astype(np.float64))


def _log_p(
    network: nn.Module, inputs: npt.NDArray[np.generic], prepare: Callable[[npt.NDArray[np.generic]], Tensor]
) -> npt.NDArray[np.float32]:
    """The network's log probabilities, float32 (N, classes)."""
    device = next(network.parameters()).device

    @torch.inference_mode()
    def look(rows: slice) -> npt.NDArray[np.float32]:
        out: Tensor = network(prepare(np.ascontiguousarray(inputs[rows])).to(device))
        found: npt.NDArray[np.float32] = out.float().log_softmax(1).cpu().numpy()
        return found

    with compute.borrowed(network):
        return np.concatenate(list(compute.in_batches(look, len(inputs), BATCH)))
