"""Bundles whose networks have seeded random weights: they compute, but know nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ciad_engine import bundles, networks
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.domain import CIFAR10, Domain

ROLES: Mapping[str, tuple[str, dict[str, Any]]] = {
    bundles.CLASSIFIER: ("alexnet", {}),
    bundles.MASK_GENERATOR: ("lan", {}),
    bundles.MASK_CLASSIFIER: ("lenet", {}),
}
SIGNS = Domain(tuple(f"a road sign with the number {k}" for k in range(43)), 64)
MASKS = {"generator": bundles.MASK_GENERATOR, "classifier": bundles.MASK_CLASSIFIER}


def write(
    folder: Path,
    name: str = "tiny",
    roles: Mapping[str, tuple[str, dict[str, Any]]] = ROLES,
    seed: int = 0,
    half: bool = True,
    thresholds: Mapping[float, Threshold] | None = None,
    **changes: Any,
) -> tuple[bundles.Card, dict[str, nn.Module]]:
    """Write a bundle with the detectors of a mask generator; return its card and the networks as they were saved.

    `thresholds` are those of every detector; `changes` are further keys of the card.
    """
    entries, made = {}, {}
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        for role, (network, arguments) in roles.items():
            made[role] = networks.create(network, **arguments).eval()
            digest = bundles.save_network(made[role], folder / f"{role}.safetensors", half)
            entries[role] = {
                "network": network, "arguments": arguments, "file": f"{role}.safetensors", "sha256": digest,
            }  # fmt: skip
    known = thresholds or {}
    listed = [
        bundles.DetectorEntry("mask", "mask", MASKS, known),
        bundles.DetectorEntry("shuffled-mask", "shuffled-mask", MASKS, known),
        bundles.DetectorEntry("constant-mask", "constant-mask", MASKS, {}),
        bundles.DetectorEntry("confidence", "confidence", {}, known),
    ]
    content = {
        "name": name,
        "domain": {"classes": list(CIFAR10.classes), "size": CIFAR10.size},
        "networks": entries,
        "detectors": bundles.detectors_json(listed),
        **changes,
    }
    return bundles.save_card(folder, content), made


def noise(count: int, domain: Domain = CIFAR10) -> npt.NDArray[np.uint8]:
    """Seeded random images, uint8 (count, 3, H, W)."""
    return np.random.default_rng(3).integers(0, 256, (count, *domain.shape), dtype=np.uint8)
