"""The detectors by kind: what judges whether an image is adversarial. A bundle's card lists those it has.

Another package adds a kind through the entry point group "ciad.detectors", in its pyproject.toml:

    [project.entry-points."ciad.detectors"]
    squeeze = "my_package.squeeze:Squeeze"

where `Squeeze` is a `Detector` (`base.py`). Importing this package imports no torch; a detector's module is imported
when a system is loaded.
"""

from __future__ import annotations

import functools
import importlib.metadata
import pkgutil
from typing import TYPE_CHECKING, Any

from ciad_engine.errors import SettingError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from ciad_engine.detectors.base import Detector

GROUP = "ciad.detectors"  # of entry points: kinds of detectors in other installed packages
MASK = "mask"  # the paper's detector, which leads wherever detectors are listed

# The two rules by which a detector decides.
DISAGREEMENT = "disagreement"  # the paper's: its class is not that of f1
GRADED = "graded"  # its score is above a threshold
RULES = (DISAGREEMENT, GRADED)
CONSTANT = "the detector '{}' gives every image the same class: no attack can evade it; choose another."

_REGISTRY = {
    "mask": "ciad_engine.detectors.mask:MaskDetector",
    "direct": "ciad_engine.detectors.direct:DirectDetector",
    "shuffled-mask": "ciad_engine.detectors.controls:ShuffledMask",
    "constant-mask": "ciad_engine.detectors.controls:ConstantMask",
    "confidence": "ciad_engine.detectors.direct:Confidence",
    "evidence": "ciad_engine.detectors.evidence:EvidenceDetector",
    "stability": "ciad_engine.detectors.evidence:Stability",
    "combined": "ciad_engine.detectors.combined:Combined",
    "squeezing": "ciad_engine.detectors.squeezing:Squeezing",
    "mahalanobis": "ciad_engine.detectors.mahalanobis:Mahalanobis",
    "unfamiliar": "ciad_engine.detectors.unfamiliar:Unfamiliar",
}
_TITLES = {
    "combined": "combined",
    "evidence": "what the mask keeps",
    "mask": "f2 on the mask",
    "mlp": "MLP on the image",
    "shuffled-mask": "f2 on the shuffled mask",
    "constant-mask": "f2 on a constant mask",
    "stability": "f1 without the rest",
    "whole": "robust classifier, whole image",
    "natural": "second classifier, whole image",
    "confidence": "f1's confidence",
    "squeezing": "feature squeezing",
    "mahalanobis": "Mahalanobis distance",
    "unfamiliar": "unlike the training images",
}
SHIPPED = tuple(_TITLES)  # detectors of the shipped bundles, in the order in which they are shown


def title(name: str) -> str:
    """Return the title of the detector `name` for people; of one that is not known here it is the name."""
    return _TITLES.get(name, name)


def in_order(names: Any) -> list[str]:
    """Return detector names in the order in which they are shown: the known ones as above, then the others by name."""
    return sorted(set(names), key=lambda n: (SHIPPED.index(n) if n in SHIPPED else len(SHIPPED), n))


def get(kind: str) -> type[Detector]:
    """Return the class of a kind of detector.

    Raises:
        SettingError: there is no such kind, or another package's cannot be used.
    """
    if kind in _REGISTRY:
        return pkgutil.resolve_name(_REGISTRY[kind])
    if kind not in _plugins():
        raise SettingError(f"detector: '{kind}' is none of {', '.join([*_REGISTRY, *sorted(_plugins())])}.")
    return _load(_plugins()[kind])


@functools.cache
def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> type[Detector]:
    from ciad_engine.detectors.base import Detector

    package = entry.dist.name if entry.dist else entry.value
    try:
        found = entry.load()
    except Exception as error:  # whatever another package's import may raise
        raise SettingError(f"detector: '{entry.name}' of the package {package} cannot be loaded ({error}).") from error
    if not (isinstance(found, type) and issubclass(found, Detector)):
        raise SettingError(f"detector: '{entry.name}' of the package {package} is not a `Detector`.")
    return found
