"""A loaded bundle: the classifier f1, its detectors and its domain on one device, and the verdicts they give."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ciad_engine import bundles, compute, detectors, imaging
from ciad_engine.attacks.goal import Evasion
from ciad_engine.detectors.base import Detector, Finding, Inputs, Verdict
from ciad_engine.domain import Domain, Labels, Pixels
from ciad_engine.errors import BundleError, CiadError, SettingError
from ciad_engine.jobs import Job

BATCH, CPU_BATCH = 256, 32  # images looked at together; on a CPU that takes less than 200 ms


@dataclasses.dataclass(frozen=True)
class System:
    """The networks of a bundle by role, in eval mode, and the detectors made of them."""

    card: bundles.Card
    networks: Mapping[str, nn.Module]
    device: torch.device
    detectors: Mapping[str, Detector]

    @property
    def domain(self) -> Domain:
        return self.card.domain

    def network(self, role: str) -> nn.Module:
        """Return the network of a role.

        Raises:
            BundleError: the bundle has none.
        """
        if role not in self.networks:
            raise BundleError(f"Bundle '{self.card.name}' has no {role.replace('_', ' ')}: {self.card.folder}")
        return self.networks[role]

    def evasions(self, texts: Sequence[str]) -> tuple[Evasion, ...]:
        """Return detectors, "NAME" or "NAME:RULE" each, as an attack that knows them has to evade them.

        Raises:
            SettingError: the bundle has no such detector, it has no such rule, or it does not depend on the image.
        """
        known = [bundles.evaded(self.card, text) for text in texts]
        return tuple(
            Evasion(one.name, functools.partial(self.detectors[one.name].excess, rule=one.rule)) for one in known
        )

    def inspect(self, images: Pixels, labels: Labels | None = None, job: Job | None = None) -> Verdict:
        """Return the verdict on uint8 images (N, 3, H, W): what f1 and every detector find.

        The first detector of the card decides, by its usual rule; `Verdict.by` chooses another.

        Args:
            labels: (N,), the true classes if they are known.

        Raises:
            SettingError: no image, or images of another shape or type.
            BundleError: a network or a detector fails, or answers with NaN, infinity or another shape.
            Cancelled: through `job`, between batches.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != self.domain.shape or not len(images):
            wanted = f"uint8 of shape (N, {', '.join(map(str, self.domain.shape))}), N >= 1"
            given = f"{images.dtype} {images.shape}"
            raise SettingError(f"images: bundle '{self.card.name}' expects {wanted}; got {given}.")
        own = (network for detector in self.detectors.values() for network in detector.networks.values())
        with contextlib.ExitStack() as stack:
            for network in {self.network(bundles.CLASSIFIER), *own}:
                stack.enter_context(compute.borrowed(network))
            size = CPU_BATCH if self.device.type == "cpu" else BATCH
            parts = list(
                compute.in_batches(lambda rows: self._look(images[rows]), len(images), size, job, "Inspecting")
            )
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        p1, masks = columns.pop(""), columns.pop("masks", None)
        findings = {
            name: _finding(detector, columns[name], columns[f"{name} score"])
            for name, detector in self.detectors.items()
        }
        first, finding = next(iter(findings.items()))
        rule = next(iter(finding.rules), detectors.GRADED)
        return Verdict(p1.argmax(1), p1, masks, findings, None if labels is None else np.asarray(labels), first, rule)

    @torch.inference_mode()
    def _look(self, images: Pixels) -> dict[str, npt.NDArray[Any]]:
        """Return f1's probabilities (""), each detector's log probabilities and score, and the masks, of a batch."""
        inputs = Inputs(imaging.to_unit(torch.tensor(np.ascontiguousarray(images), device=self.device)))
        # In double: the distance of a confident prediction from 1 would be lost in single precision.
        found = {"": self._logits(bundles.CLASSIFIER, inputs).double().softmax(1)}
        classes = found[""].argmax(1)
        count, height, width = len(images), *images.shape[2:]
        for name, detector in self.detectors.items():
            with self._told(f"detector '{name}'"):
                # The logarithm of a probability of 0 is minus infinity, and that is sound.
                log_p = _sound(inputs.log_probabilities(detector), (count, len(self.domain.classes)), logarithms=True)
                score = _sound(detector.score(inputs, classes), (count,))
                masks = detector.masks(inputs)
                if masks is not None:
                    found.setdefault("masks", _sound(masks, (count, 1, height, width))[:, 0])
            found[name], found[f"{name} score"] = log_p, score.double()
        return {name: tensor.cpu().numpy() for name, tensor in found.items()}

    def _logits(self, role: str, inputs: Inputs) -> Tensor:
        with self._told(role.replace("_", " ")):
            return _sound(inputs.through(self.network(role)), (len(inputs.images), len(self.domain.classes)))

    @contextlib.contextmanager
    def _told(self, part: str) -> Iterator[None]:
        """Name the part of the bundle that fails."""
        try:
            with compute.foreign("It fails"):
                yield
        except (BundleError, SettingError):
            raise
        except CiadError as error:
            raise BundleError(
                f"The {part} of bundle '{self.card.name}' in {self.card.folder} cannot be used: {error} Its card or "
                "its weights are damaged; install the bundle again, or train it again."
            ) from error

    def try_out(self) -> None:
        """Ask every network that gives a verdict or is attacked about a grey image.

        Raises:
            BundleError: as `inspect`.
        """
        grey = np.full((1, *self.domain.shape), 128, np.uint8)
        self.inspect(grey)
        if bundles.SECOND_CLASSIFIER in self.networks:
            with torch.inference_mode(), compute.borrowed(self.network(bundles.SECOND_CLASSIFIER)):
                self._logits(bundles.SECOND_CLASSIFIER, Inputs(imaging.to_unit(torch.tensor(grey, device=self.device))))


def _sound(found: Tensor, shape: tuple[int, ...], logarithms: bool = False) -> Tensor:
    """Return what a network or detector found, checked: of this shape, and finite (`logarithms`: or minus infinity).

    Raises:
        CiadError: says what it is instead.
    """
    if not isinstance(found, Tensor):
        raise CiadError(f"It gives a {type(found).__name__}, not a tensor.")
    if tuple(found.shape) != shape:
        raise CiadError(f"It gives numbers of shape {tuple(found.shape)}, not {shape}.")
    if not compute.finite(found.exp() if logarithms else found):
        raise CiadError("It gives NaN or infinity.")
    return found


def _finding(detector: Detector, log_p: npt.NDArray[np.floating[Any]], scores: npt.NDArray[np.float64]) -> Finding:
    labels = log_p.argmax(1) if detector.classifies else None
    p = np.exp(log_p).astype(np.float32)
    return Finding(type(detector), detector.options, detector.title, p, labels, scores, detector.rules)


def load(name: str | Path, device: torch.device) -> System:
    """Load a bundle by name or path.

    Raises:
        BundleError: missing or damaged, or its weights do not fit the networks on the card, or a detector on the card
            cannot be made, or a network or detector answers with NaN, infinity or another shape.
    """
    card = bundles.read_card(bundles.find(str(name)))
    system = assemble(card, bundles.load_networks(card, device), device)
    system.try_out()
    return system


def assemble(card: bundles.Card, networks: Mapping[str, nn.Module], device: torch.device) -> System:
    """Make a system of a card and its networks. Raises BundleError as `load` does."""
    made: dict[str, Detector] = {}
    for entry in card.detectors:
        own = {name: networks[role] for name, role in entry.networks.items()}
        try:
            kind = detectors.get(entry.kind)
        except SettingError as error:
            raise BundleError(f"The card of bundle '{card.name}' in {card.folder} is unusable: {error}") from error
        f1 = networks[bundles.CLASSIFIER]
        made[entry.name] = kind(entry.name, f1, own, entry.thresholds, entry.options, made)
    return System(card, networks, device, made)
