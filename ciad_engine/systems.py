"""A loaded bundle: the classifier f1, its detectors and its domain on one device, and the verdicts they give."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ciad_engine import bundles, compute, detectors, imaging
from ciad_engine.attacks.goal import Evasion
from ciad_engine.detectors.base import Detector, Finding, Inputs, Verdict
from ciad_engine.domain import Domain, Labels, Pixels
from ciad_engine.errors import BundleError, SettingError
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
            labels: int64 (N,), the true classes if they are known.

        Raises:
            Cancelled: through `job`, between batches.
        """
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
        found = {"": inputs.through(self.network(bundles.CLASSIFIER)).double().softmax(1)}
        classes = found[""].argmax(1)
        for name, detector in self.detectors.items():
            found[name] = inputs.log_probabilities(detector)
            found[f"{name} score"] = detector.score(inputs, classes).double()
            masks = detector.masks(inputs)
            if masks is not None:
                found.setdefault("masks", masks[:, 0])
        return {name: tensor.cpu().numpy() for name, tensor in found.items()}


def _finding(detector: Detector, log_p: npt.NDArray[np.floating[Any]], scores: npt.NDArray[np.float64]) -> Finding:
    labels = log_p.argmax(1) if detector.classifies else None
    p = np.exp(log_p).astype(np.float32)
    return Finding(type(detector), detector.options, detector.title, p, labels, scores, detector.rules)


def load(name: str | Path, device: torch.device) -> System:
    """Load a bundle by name or path.

    Raises:
        BundleError: missing or damaged, or its weights do not fit the networks on the card, or a detector on the card
            cannot be made.
    """
    card = bundles.read_card(bundles.find(str(name)))
    return assemble(card, bundles.load_networks(card, device), device)


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
