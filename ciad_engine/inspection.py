"""One image through attack and detectors: the record that the window, the command line and the demo share.

Its explanation is what the whole program is for; it is written for people who know neither networks nor statistics.
Importing this module imports no torch.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ciad_engine import bundles, datasets, detectors, distances
from ciad_engine.attacks.base import Attack, AttackResult, FittedAttack
from ciad_engine.attacks.words import NO_ADVERSARIAL
from ciad_engine.counting import capitalised, percent
from ciad_engine.errors import DataError, SettingError
from ciad_engine.jobs import Job

if TYPE_CHECKING:
    from torch import nn

    from ciad_engine.detectors.base import Verdict
    from ciad_engine.systems import System

Image = npt.NDArray[np.uint8]

# How a detector's decision relates to the truth, if the truth is known. Also the explanation's first word.
ADVERSARIAL = "ADVERSARIAL"
BENIGN = "BENIGN"
FALSE_ALARM = "FALSE ALARM"
MISSED = "MISSED"
UNFAMILIAR = "UNFAMILIAR"  # a picture of unknown truth that is unlike the training images: no verdict means much

_MID_GREY = 128
# Attacks that were fitted, by the classifier they are for; forgotten with it.
_fitted: weakref.WeakKeyDictionary[nn.Module, dict[Attack, FittedAttack]] = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Everything known of one image, before and after an attack.

    Attributes:
        name: file name or the data set's name of the image.
        image: uint8 (3, H, W), the original image.
        label: its true class if that is known.
        reference: the class that the attack worked against: `label`, else the classifier's own class.
        benign: verdict on `image` (one row); its labels are None if no label is known.
        attack: what the attack did (one row), or None if none was run here.
        attacked_image: uint8 (3, H, W), the image after an attack that fooled the classifier; or None.
        adversarial: verdict on `attacked_image` (one row), with `reference` as its label; or None.
        classes: class names in label order.
        evade: detectors that the attack had to evade, each "NAME" or "NAME:RULE".
    """

    name: str
    image: Image
    label: int | None
    reference: int
    benign: Verdict
    attack: AttackResult | None
    attacked_image: Image | None
    adversarial: Verdict | None
    classes: tuple[str, ...]
    evade: tuple[str, ...] = ()

    @property
    def distances(self) -> dict[str, float] | None:
        """How far the attacked image is from the original, by names as in `ciad_engine.distances`; None without one."""
        if self.attacked_image is None:
            return None
        measured = distances.measure(self.image[None], self.attacked_image[None])
        return {key: value[0].item() for key, value in measured.items()}

    def by(self, detector: str, rule: str = "") -> Inspection:
        """Return the same record, decided by another detector. Raises SettingError as `Verdict.by` does."""
        after = None if self.adversarial is None else self.adversarial.by(detector, rule)
        return dataclasses.replace(self, benign=self.benign.by(detector, rule), adversarial=after)

    def without_attack(self) -> Inspection:
        """Return the record of the original image alone."""
        return dataclasses.replace(self, attack=None, attacked_image=None, adversarial=None, evade=())


def inspect(
    system: System,
    image: Image,
    name: str = "",
    label: int | None = None,
    attack: Attack | None = None,
    job: Job | None = None,
    *,
    detector: str = "",
    rule: str = "",
    evade: Sequence[str] = (),
) -> Inspection:
    """Inspect an image and, with `attack`, its adversarial version.

    Args:
        system: a loaded bundle; its classifier is attacked.
        image: uint8 (3, H, W), of the bundle's size.
        name: for people.
        label: true class if it is known; else the attack works against the classifier's own class.
        attack: what to run, or None.
        job: progress and cancellation of the attack.
        detector, rule: what decides; by default the bundle's first detector by its usual rule.
        evade: detectors that the attacker knows, each "NAME" or "NAME:RULE".

    Raises:
        SettingError: the image has another shape or type, the label is not a class, there is no such detector or rule,
            the attack cannot evade a detector, or it has to be fitted and cannot learn from the bundled samples.
        DataError: the attack has to be fitted on the bundled samples, and they are missing.
        Cancelled: through `job`.
    """
    classes, shape = system.domain.classes, system.domain.shape
    if image.shape != shape or image.dtype != np.uint8:
        raise SettingError(f"image {name}: expected uint8 of shape {shape}, got {image.dtype} {image.shape}.")
    if label is not None and not 0 <= label < len(classes):
        raise SettingError(f"label = {label} of image {name} is not a class number from 0 to {len(classes) - 1}.")
    system.evasions(evade)  # what is wrong with it is said before anything is computed
    job = job or Job()
    job.checkpoint()
    benign = system.inspect(image[None], None if label is None else np.array([label]))
    benign = benign.by(detector or benign.detector, rule)
    reference = int(benign.y1[0]) if label is None else label
    found = Inspection(name, image, label, reference, benign, None, None, None, classes)
    return found if attack is None else attacked(system, found, attack, job, evade)


def attacked(
    system: System, found: Inspection, attack: Attack, job: Job | None = None, evade: Sequence[str] = ()
) -> Inspection:
    """Return the record with another attack on its original image, decided as before; arguments and errors: `inspect`.

    `found` is a record of this system; an attack that it has already is replaced.
    """
    from ciad_engine.attacks import running
    from ciad_engine.attacks.checks import check

    evasions, image, job = system.evasions(evade), found.image, job or Job()
    attack = prepared(system, attack, job)
    # Not `run`, which refuses an image of the target class: here that is a result like any other.
    network, labels = system.network(bundles.CLASSIFIER), np.array([found.reference])
    result = running.run_checked(attack, network, image[None], labels, job, 1, evasions)
    result = dataclasses.replace(result, notes=check(network, image[None], labels, evasions))
    found = dataclasses.replace(found.without_attack(), attack=result, evade=tuple(evade))
    return with_attacked(system, found, result.images[0]) if result.fooled[0] else found


def with_attacked(system: System, found: Inspection, attacked: Image) -> Inspection:
    """Return the record with an image after an attack, uint8 (3, H, W), and the verdict on it by the same detector."""
    after = system.inspect(attacked[None], np.array([found.reference])).by(found.benign.detector, found.benign.rule)
    return dataclasses.replace(found, attacked_image=attacked, adversarial=after)


def prepared(system: System, attack: Attack, job: Job | None = None) -> Attack:
    """Return the attack as it is run on the system's classifier: fitted on the bundled samples if it needs that.

    It is fitted once for a loaded system. So a sample is among the images it learned from.

    Raises:
        DataError: the samples are missing or damaged.
        SettingError: the attack cannot learn from them, or they have other classes or another size than the bundle.
        Cancelled: through `job`.
    """
    if not isinstance(attack, FittedAttack) or not attack.needs_fitting:
        return attack
    job = job or Job()
    known = _fitted.setdefault(system.network(bundles.CLASSIFIER), {})
    if attack not in known:
        samples = datasets.samples()
        try:
            samples = samples.matched(system.domain)
        except DataError as error:
            raise SettingError(
                f"{attack.name}: it learns from the bundled samples, which are not of the classes and size of bundle"
                f" '{system.card.name}'. Evaluate a data set with it: there it learns from images left over."
            ) from error
        known[attack] = attack.fitted(system.network(bundles.CLASSIFIER), samples.images, job)
        job.note(f"{attack.title}: {known[attack].about_fitting()}.")
    return known[attack]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The result in words.

    Attributes:
        headline: ADVERSARIAL, BENIGN, FALSE ALARM, MISSED or UNFAMILIAR.
        text: one or a few sentences.
        others: one line for each detector that does not decide.
        evidence: score, threshold and recovery of the detector that decides.
    """

    headline: str
    text: str
    others: tuple[str, ...]
    evidence: str


def headline(verdict: Verdict, truly_adversarial: bool | None) -> str:
    """Return the headline of a one-row verdict; `truly_adversarial` is None if nobody knows."""
    flagged = bool(verdict.adversarial[0])
    if truly_adversarial is None and verdict.unfamiliar[0]:
        return UNFAMILIAR
    if truly_adversarial is None or flagged == truly_adversarial:
        return ADVERSARIAL if flagged else BENIGN
    return FALSE_ALARM if flagged else MISSED


def is_adversarial(inspection: Inspection) -> bool | None:
    """Return whether the explained image is truly adversarial; None if nobody knows.

    An attacked image is if it fools the classifier, an image with a known label is taken for benign, and one that
    somebody just opened may be either.
    """
    if inspection.adversarial is not None:
        return True if _fools(inspection) else None
    return None if inspection.label is None else False


def explain(inspection: Inspection) -> Explanation:
    """Explain the adversarial image if there is one, else the original.

    E.g. "ADVERSARIAL", "The classifier says frog (93%). The mask says ship (61%). Restored: ship."
    """
    i = inspection
    verdict, truth = i.adversarial or i.benign, is_adversarial(i)
    words = [_failure(i), *_reasoning(verdict, i.classes, truth)]
    if i.adversarial is not None and not _fools(i):
        words.insert(0, f"The attacked image does not fool the classifier, which still says {i.classes[i.reference]}.")
    elif i.adversarial is not None:
        words.append(_restoration(i, i.adversarial))
    elif i.label is not None and int(i.benign.y1[0]) != i.label:
        words.append(f"The classifier is wrong here: the true class is {i.classes[i.label]}.")
    if verdict.unfamiliar[0]:
        words.insert(0, f"CIAD knows {len(i.classes)} kinds of pictures; this looks like none of them.")
    others = tuple(_other(verdict, name, i.classes) for name in verdict.findings if name != verdict.detector)
    return Explanation(headline(verdict, truth), " ".join(filter(None, words)), others, _evidence(i, verdict))


def sentence(inspection: Inspection) -> str:
    """Return headline and text in one line."""
    found = explain(inspection)
    return f"{found.headline}: {found.text}"


def _fools(i: Inspection) -> bool:
    """Return whether there is an attacked image that fools the classifier; a stored one may be made for another."""
    return i.adversarial is not None and int(i.adversarial.y1[0]) != i.reference


def _failure(i: Inspection) -> str:
    """Say why the attack did not reach its goal; "" if it did, or if none was run."""
    if i.attack is None or bool(i.attack.success[0]):
        return ""
    if i.adversarial is not None:
        return "The attack fooled the classifier, but it did not evade what it had to."
    reason = str(i.attack.reason[0])
    why = " within its limits" if reason == NO_ADVERSARIAL else f": {reason}"
    return f"The attack found no adversarial image{why}."


def _reasoning(verdict: Verdict, classes: tuple[str, ...], truly_adversarial: bool | None) -> list[str]:
    """Return three sentences: on whether the detector is wrong, on f1's class, and on the detector's finding."""
    y1, flagged = int(verdict.y1[0]), bool(verdict.adversarial[0])
    wrong = ""
    if truly_adversarial is not None and flagged != truly_adversarial:
        wrong = "This benign image is flagged." if flagged else "This adversarial image is not flagged."
    first = f"The classifier says {classes[y1]} ({percent(float(verdict.p1[0, y1]))})."
    return [wrong, first, verdict.chosen.kind.sentence(verdict, classes)]


def _other(verdict: Verdict, name: str, classes: tuple[str, ...]) -> str:
    """Return one line about a detector that does not decide: its class, or without one whether it flags the image."""
    finding = verdict.findings[name]
    if finding.labels is None:
        score, threshold = float(finding.scores[0]), finding.rules.get(detectors.GRADED)
        above = threshold is not None and score > threshold.value
        words = "no threshold" if threshold is None else "flagged" if above else "not flagged"
        return f"{finding.title}: {words} (score {score:.2f})"
    label = int(finding.labels[0])
    agrees = "agrees" if label == int(verdict.y1[0]) else "disagrees"
    return f"{finding.title}: {classes[label]} ({percent(float(finding.probabilities[0, label]))}), {agrees}"


def _restoration(i: Inspection, verdict: Verdict) -> str:
    if verdict.chosen.labels is None:
        return ""
    was, flagged = i.classes[i.reference], bool(verdict.adversarial[0])
    if int(verdict.y2[0]) == i.reference:
        # For an image without a label only the classifier's first class is known.
        return f"Restored: {was}." if flagged else f"Yet the detector still says {was}, as it should."
    known = "the true class is" if i.label is not None else "before the attack the classifier said"
    return f"Not restored: {known} {was}." if flagged else f"{known.capitalize()} {was}."


def _evidence(i: Inspection, verdict: Verdict) -> str:
    score, threshold = float(verdict.score[0]), verdict.threshold
    above = "above" if score > threshold.value else "not above"
    words = f"Score {score:.3g} is {above} the threshold {threshold.value:.3g} ({threshold.source})."
    if verdict.recovers is None:
        return words
    known = "the true class" if i.label is not None else "the class before the attack"
    recovers = "recovers" if verdict.recovers[0] else "does not recover"
    return f"{words} {capitalised(verdict.called)} {recovers} {known} ({i.classes[i.reference]})."


def difference(image: Image, attacked: Image | None, gain: float) -> Image:
    """Return the change between two images, uint8 (3, H, W) each, `gain` times magnified around mid grey.

    Grey (128) is unchanged, brighter is more of a colour, darker less. All grey without an attacked image.
    """
    changed = image if attacked is None else attacked
    shown: Image = np.clip(np.rint(_MID_GREY + gain * (changed.astype(np.float64) - image)), 0, 255).astype(np.uint8)
    return shown


def overlay(image: Image, mask: npt.NDArray[np.floating[Any]], opacity: float, cover: tuple[int, int, int]) -> Image:
    """Return an image, uint8 (3, H, W), under a mask (H, W): what the mask replaces fades into the colour `cover`.

    With opacity 0 the image is as it was; with opacity 1 nothing of it is left where the mask is 1.
    """
    colour = np.array(cover, np.float64)[:, None, None]
    shown: Image = np.rint(image + opacity * mask * (colour - image)).astype(np.uint8)
    return shown


def as_dict(inspection: Inspection) -> dict[str, Any]:
    """Return the record as plain data for `ciad inspect --json`; images and masks are left out."""
    i = inspection
    return {
        "name": i.name,
        "sentence": sentence(i),
        "label": None if i.label is None else {"index": i.label, "class": i.classes[i.label]},
        "reference": {"index": i.reference, "class": i.classes[i.reference]},
        "benign": _verdict_dict(i.benign, i.classes),
        "attack": None if i.attack is None else _attack_dict(i.attack, i.classes, i.evade),
        "distances": i.distances,
        "adversarial": None if i.adversarial is None else _verdict_dict(i.adversarial, i.classes),
        "classes": list(i.classes),
    }


def _verdict_dict(verdict: Verdict, classes: tuple[str, ...]) -> dict[str, Any]:
    def named(label: int, probabilities: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
        return {
            "index": label,
            "class": classes[label],
            "probability": float(probabilities[label]),
            "probabilities": [float(p) for p in probabilities],
        }

    return {
        "adversarial": bool(verdict.adversarial[0]),
        "detector": verdict.detector,
        "rule": verdict.rule,
        "score": float(verdict.score[0]),
        "threshold": dataclasses.asdict(verdict.threshold),
        "classifier": named(int(verdict.y1[0]), verdict.p1[0]),
        "detectors": {
            name: {
                **({} if finding.labels is None else named(int(finding.labels[0]), finding.probabilities[0])),
                "score": float(finding.scores[0]),
                "flagged": {
                    rule: bool(verdict.scored(name, rule)[0] > threshold.value)
                    for rule, threshold in finding.rules.items()
                },
            }
            for name, finding in verdict.findings.items()
        },
        "recovers": None if verdict.recovers is None else bool(verdict.recovers[0]),
    }


def _attack_dict(result: AttackResult, classes: tuple[str, ...], evade: tuple[str, ...]) -> dict[str, Any]:
    after = int(result.label_after[0])
    names = (
        "success", "fooled", "evaded", "reason", "confidence_after", "l0_values", "l0_pixels", "l2", "linf", "ssim",
        "forwards", "backwards", "steps",
    )  # fmt: skip
    return {
        "name": result.attack,
        "settings": dict(result.settings),
        "evade": list(evade),
        **{name: getattr(result, name)[0].item() for name in names},
        "notes": list(result.notes),
        "label_after": {"index": after, "class": classes[after]},
        "seconds": result.seconds,
    }
