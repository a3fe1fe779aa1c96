"""The objectives by the name that a recipe's stage has: it gives the networks they use in order, options by name."""

from __future__ import annotations

from ciad_engine.training.objectives import Classify, ClassifyMasks, ImageObjective, Mask
from ciad_engine.training.robust import Evidence, Explain, Robust

LOSSES: dict[str, type[ImageObjective]] = {
    "classify": Classify,
    "mask": Mask,
    "classify-masks": ClassifyMasks,
    "classify-robustly": Robust,
    "classify-evidence": Evidence,
    "explain": Explain,
}
