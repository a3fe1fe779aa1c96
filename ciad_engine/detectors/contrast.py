"""The paper's detector: contrast what f1 says of the image with what f2 says of its mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ciad_engine import compute, imaging
from ciad_engine.detectors.base import Detector, Threshold, Verdict
from ciad_engine.jobs import Job

PAPER = "paper"
GRADED = "graded"
RULES = (PAPER, GRADED)
FIXED_RULE = Threshold(0.5, "fixed rule of the paper: adversarial where f1 and f2 disagree")


class ContrastDetector(Detector):
    """Nguyen et al. 2017 (arXiv 1712.00558), section 2.

    Two scores behind one call:
        "paper": 1 where f1 and f2 name different classes, else 0, against the fixed threshold 1/2.
        "graded": -log p2[y1], how surprising f1's class is to f2, against a benign quantile.
    """

    def __init__(
        self,
        classifier: nn.Module,
        mask_generator: nn.Module,
        mask_classifier: nn.Module,
        rule: str = PAPER,
        threshold: Threshold | None = None,
        batch_size: int = 256,
    ) -> None:
        self.classifier = classifier
        self.mask_generator = mask_generator
        self.mask_classifier = mask_classifier
        self.rule = rule
        self.threshold = threshold or FIXED_RULE
        self.batch_size = batch_size

    def score(self, images: npt.NDArray[np.uint8], job: Job | None = None) -> npt.NDArray[np.float64]:
        return self.inspect(images, job=job).score

    def inspect(
        self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64] | None = None, job: Job | None = None
    ) -> Verdict:
        device = next(self.classifier.parameters()).device

        @torch.inference_mode()
        def look(rows: slice) -> tuple[npt.NDArray[np.float64 | np.float32], ...]:
            batch = imaging.to_unit(torch.tensor(np.ascontiguousarray(images[rows]), device=device))
            mask = self.mask_generator(batch)
            # In double: how far a sure answer is from 1 would be lost otherwise.
            p1, log_p2 = self.classifier(batch).double().softmax(1), self.mask_classifier(mask).log_softmax(1)
            return p1.cpu().numpy(), log_p2.cpu().numpy(), mask[:, 0].cpu().numpy()

        with (
            compute.borrowed(self.classifier),
            compute.borrowed(self.mask_generator),
            compute.borrowed(self.mask_classifier),
        ):
            parts = list(compute.in_batches(look, len(images), self.batch_size, job, "Inspecting"))
        p1, log_p2, masks = (np.concatenate(column) for column in zip(*parts, strict=True))
        y1, y2 = p1.argmax(1), log_p2.argmax(1)
        if self.rule == PAPER:
            score = (y1 != y2).astype(np.float64)
        else:
            score = -log_p2[np.arange(len(y1)), y1].astype(np.float64)
        return Verdict(
            y1=y1,
            y2=y2,
            p1=p1,
            p2=np.exp(log_p2),
            masks=masks,
            score=score,
            threshold=self.threshold,
            adversarial=score > self.threshold.value,
            recovers=None if labels is None else y2 == np.asarray(labels),
            rule=self.rule,
        )
