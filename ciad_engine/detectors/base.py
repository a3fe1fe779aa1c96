"""The contract of a detector, and the verdict that a system's detectors give on images."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from ciad_engine import compute, detectors
from ciad_engine.counting import capitalised, listed, percent
from ciad_engine.detectors.threshold import DIFFERENT_CLASSES, RATES, Threshold
from ciad_engine.errors import SettingError

if TYPE_CHECKING:
    from ciad_engine.datasets import ImageSet
    from ciad_engine.jobs import Job


class Inputs:
    """Float images (N, 3, H, W) in [0, 1], and what was computed of them: detectors that share a network run it once.

    Args:
        followed: an attack will follow the gradients; a network or detector whose own gradients vanish replaces them
            (BPDA, Athalye et al. 2018, arXiv 1802.00420, section 4.1). The values stay the same.
    """

    def __init__(self, images: Tensor, followed: bool = False) -> None:
        self.images, self.followed = images, followed
        self._known: dict[Hashable, Tensor] = {}

    def through(self, network: nn.Module) -> Tensor:
        """Return the network's output for the images."""
        return self.once(network, lambda: compute.apply(network, self.images))

    def log_probabilities(self, detector: Detector) -> Tensor:
        """Return the detector's log probabilities (N, classes)."""
        return self.once(detector, lambda: detector.log_probabilities(self))

    def once(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Return what `compute` returns; compute it only the first time that `key` is asked for."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]


class Detector(abc.ABC):
    """A second opinion on an image: a distribution over the classes, and a score, higher for adversarial images.

    Args:
        name: by which the bundle's card lists it.
        f1: the classifier that is protected.
        networks: the detector's own, by the names that the card gives them.
        thresholds: of its score, by false positive rate on benign validation images.
        options: further settings on the card.
        others: the bundle's detectors by name, this one included; they are complete when it is first used.

    Class attributes: `title` of another package's kind, for people (its detectors add their names); `voice`, its name
    within a sentence, such as "the mask"; `classifies`, whether it has a class of its own (without one there is no
    disagreement with f1); `grades`, whether its score depends on the image and not on f1's class alone (else no
    threshold fits a rate); `familiar`, whether what it flags may still be of the kind of the training images (if not,
    no verdict on it means much).
    """

    title: str = ""
    voice: ClassVar[str] = ""
    classifies: ClassVar[bool] = True
    grades: ClassVar[bool] = True
    familiar: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        f1: nn.Module,
        networks: Mapping[str, nn.Module],
        thresholds: Mapping[float, Threshold] | None = None,
        options: Mapping[str, Any] | None = None,
        others: Mapping[str, Detector] | None = None,
    ) -> None:
        self.name, self.f1, self.networks = name, f1, dict(networks)
        self.title = f"{self.title} ({name})" if self.title else detectors.title(name)
        self.thresholds, self.options = dict(thresholds or {}), dict(options or {})
        self.others = {} if others is None else others

    @abc.abstractmethod
    def log_probabilities(self, inputs: Inputs) -> Tensor:
        """Return the logarithms of the class probabilities, (N, classes), differentiable in the images."""

    def masks(self, inputs: Inputs) -> Tensor | None:
        """Return the masks (N, 1, H, W) that it looks at, 1 for unimportant; None if it has none."""
        return None

    def score(self, inputs: Inputs, classes: Tensor) -> Tensor:
        """Return the graded score (N,) if f1 predicts `classes`, int64 (N,): -log of the probability of that class."""
        return -inputs.log_probabilities(self).gather(1, classes[:, None])[:, 0]

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the other detectors whose scores or classes it uses, given its options on the card."""
        return ()

    def fitted(self, training: ImageSet, job: Job | None = None) -> Mapping[str, tuple[str, dict[str, Any], nn.Module]]:
        """Return networks to be computed from benign training images, by its own names of them.

        Each with its name and its arguments in `networks`. They join its other ones and are files of the bundle.
        """
        return {}

    def calibrated(self, scores: Mapping[str, npt.NDArray[np.float64]]) -> Mapping[str, Any]:
        """Return the options for the card, given other detectors' scores of benign validation images, (N,) each."""
        return self.options

    @property
    def rules(self) -> dict[str, Threshold]:
        """The rules by which it can decide, each with its threshold; the first is the usual one."""
        return self.rules_with(self.thresholds)

    @classmethod
    def rules_with(cls, thresholds: Mapping[float, Threshold]) -> dict[str, Threshold]:
        """Return `rules` of a detector of this kind with these thresholds on the card."""
        graded = {detectors.GRADED: thresholds[RATES[0]]} if RATES[0] in thresholds else {}
        return {detectors.DISAGREEMENT: DIFFERENT_CLASSES, **graded} if cls.classifies else graded

    @classmethod
    def to_evade(cls, name: str, thresholds: Mapping[float, Threshold], rule: str = "") -> tuple[str, Threshold]:
        """Return the rule that an attack has to evade, by default the usual one, and its threshold.

        Raises:
            SettingError: the detector `name` has no such rule, or does not depend on the image.
        """
        if not cls.grades:
            raise SettingError(f"evade: {detectors.CONSTANT.format(name)}")
        rules = cls.rules_with(thresholds)
        rule = rule or next(iter(rules), detectors.GRADED)
        return rule, threshold_of(detectors.title(name), rules, rule, "evade")

    @classmethod
    def called(cls, name: str) -> str:
        """Return the name of the detector `name` of this kind within a sentence."""
        return cls.voice or f"the detector '{name}'"

    @classmethod
    def sentence(cls, verdict: Verdict, classes: Sequence[str]) -> str:
        """Return a sentence about the finding that decides a one-row verdict; one about f1's class goes before it."""
        found = verdict.chosen
        if found.labels is None:
            above = "above" if verdict.adversarial[0] else "not above"
            return f"The score of {verdict.called} is {above} its threshold."
        return opinion(verdict, classes, int(found.labels[0]), {verdict.called: found.probabilities[0]})

    def excess(self, images: Tensor, classes: Tensor, rule: str) -> Tensor:
        """Return score - threshold (N,), differentiable in the images: positive if flagged while f1 predicts `classes`.

        The 0/1 score of the rule "disagreement" has no gradient; its margin takes its place, with the same sign.

        Raises:
            SettingError: the detector has no such rule.
        """
        limit = threshold_of(self.title, self.rules, rule).value
        inputs = Inputs(images, followed=True)
        if rule == detectors.GRADED:
            return self.score(inputs, classes) - limit
        return margin(inputs.log_probabilities(self), classes)


def margin(log_probabilities: Tensor, classes: Tensor) -> Tensor:
    """Return by how much the likeliest other class exceeds `classes` (N,), in log probabilities (N, classes): (N,)."""
    own = log_probabilities.gather(1, classes[:, None])
    return log_probabilities.scatter(1, classes[:, None], -float("inf")).amax(1) - own[:, 0]


def threshold_of(title: str, rules: Mapping[str, Threshold], rule: str, setting: str = "rule") -> Threshold:
    """Return the threshold of one of a detector's rules, which `setting` chose.

    Raises:
        SettingError: there is no such rule, or not for this detector; describes what there is.
    """
    if rule in rules:
        return rules[rule]
    if rule not in detectors.RULES:
        raise SettingError(f"{setting}: '{rule}' is none of {', '.join(detectors.RULES)}.")
    why = "the bundle's card has no threshold for it" if rule == detectors.GRADED else "it has no class of its own"
    raise SettingError(f"{setting}: the detector '{title}' cannot decide by the rule '{rule}': {why}.")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one detector computed for N images.

    Attributes:
        kind: the detector's class, which puts its finding into words.
        options: of the detector.
        title: of the detector.
        probabilities: float32 (N, classes).
        labels: int64 (N,), its class; None if it has none of its own.
        scores: float64 (N,), the graded score: higher is more adversarial.
        rules: by which it can decide, each with its threshold.
    """

    kind: type[Detector]
    options: Mapping[str, Any]
    title: str
    probabilities: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | None
    scores: npt.NDArray[np.float64]
    rules: Mapping[str, Threshold]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What f1 and every detector found for N images, and what one detector decides by one rule.

    Attributes:
        y1, p1: int64 (N,) and float64 (N, classes), f1's class and softmax probabilities.
        masks: float32 (N, H, W), attention masks as a LAN draws them (1: unimportant); None without a mask detector.
        findings: by detector, in the order in which they are shown.
        labels: int64 (N,), the true classes, or None.
        detector, rule: what decides.
    """

    y1: npt.NDArray[np.int64]
    p1: npt.NDArray[np.float64]
    masks: npt.NDArray[np.float32] | None
    findings: Mapping[str, Finding]
    labels: npt.NDArray[np.int64] | None
    detector: str
    rule: str

    def __len__(self) -> int:
        return len(self.y1)

    def by(self, detector: str, rule: str = "") -> Verdict:
        """Return the same findings, decided by another detector; by its usual rule if none is given.

        Raises:
            SettingError: there is no such detector, or it has no such rule.
        """
        if detector not in self.findings:
            raise SettingError(f"detector: '{detector}' is none of {', '.join(self.findings)}.")
        finding = self.findings[detector]
        rule = rule or next(iter(finding.rules), detectors.GRADED)
        threshold_of(finding.title, finding.rules, rule)
        return dataclasses.replace(self, detector=detector, rule=rule)

    @property
    def chosen(self) -> Finding:
        """What the detector that decides found."""
        return self.findings[self.detector]

    @property
    def called(self) -> str:
        """The name within a sentence of the detector that decides."""
        return self.chosen.kind.called(self.detector)

    @property
    def threshold(self) -> Threshold:
        """The threshold of the rule.

        Raises:
            SettingError: the card has none, so that nothing can be decided.
        """
        return threshold_of(self.chosen.title, self.chosen.rules, self.rule)

    @property
    def score(self) -> npt.NDArray[np.float64]:
        """What is compared with the threshold, float64 (N,)."""
        return self.scored(self.detector, self.rule)

    @property
    def adversarial(self) -> npt.NDArray[np.bool_]:
        """Whether the score is above the threshold, bool (N,)."""
        return self.score > self.threshold.value

    @property
    def unfamiliar(self) -> npt.NDArray[np.bool_]:
        """Return whether a detector finds that the image is unlike all training images, bool (N,)."""
        found = np.zeros(len(self), bool)
        for finding in self.findings.values():
            if not finding.kind.familiar and detectors.GRADED in finding.rules:
                found |= finding.scores > finding.rules[detectors.GRADED].value
        return found

    def scored(self, detector: str, rule: str) -> npt.NDArray[np.float64]:
        """Return the score of a detector by one of its rules, float64 (N,)."""
        finding = self.findings[detector]
        if rule == detectors.GRADED or finding.labels is None:
            return finding.scores
        return np.asarray(finding.labels != self.y1, np.float64)

    @property
    def y2(self) -> npt.NDArray[np.int64]:
        """The class of the detector that decides, int64 (N,); f1's if it has none of its own."""
        return self.y1 if self.chosen.labels is None else self.chosen.labels

    @property
    def p2(self) -> npt.NDArray[np.float32]:
        """The class probabilities of the detector that decides, float32 (N, classes)."""
        return self.chosen.probabilities

    @property
    def recovers(self) -> npt.NDArray[np.bool_] | None:
        """Whether the detector's class is the true one, bool (N,); None without labels or without a class."""
        return None if self.labels is None or self.chosen.labels is None else self.chosen.labels == self.labels


def opinion(verdict: Verdict, classes: Sequence[str], label: int, voices: Mapping[str, npt.NDArray[np.float32]]) -> str:
    """Return a sentence about how these voices classify the image of a one-row verdict, and whether they support f1.

    Args:
        label: the class that all of them give it.
        voices: their names within a sentence, each with its class probabilities (classes,).
    """
    y1, flagged = int(verdict.y1[0]), bool(verdict.adversarial[0])
    s = "s" if len(voices) == 1 else ""

    def sure(of: int) -> str:
        return ", ".join(percent(float(p[of])) for p in voices.values())

    if label != y1:
        words = f"say{s} {classes[label]} ({sure(label)})"
        words += "" if flagged else f", but still give{s} {classes[y1]} {sure(y1)}"
    else:
        words = f"support{s} that too weakly ({sure(y1)})" if flagged else f"agree{s} ({sure(y1)})"
    return capitalised(f"{listed(list(voices))} {words}.")
