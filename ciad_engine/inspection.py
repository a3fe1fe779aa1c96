"""One image through attack and detector: the record the window, the command line and the demo share.

The sentence made of it is what the whole program is for; it is written for people who know neither
networks nor statistics. Importing this module imports no torch.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ciad_engine import bundles, datasets
from ciad_engine.attacks.fitted import FittedAttack
from ciad_engine.attacks.words import NO_ADVERSARIAL
from ciad_engine.errors import SettingError
from ciad_engine.jobs import Job

if TYPE_CHECKING:
    from torch import nn

    from ciad_engine.attacks.base import Attack, AttackResult
    from ciad_engine.detectors.base import Verdict

Image = npt.NDArray[np.uint8]

# How a detector's answer relates to the truth, where the truth is known. Also the sentence's first word.
ADVERSARIAL = "ADVERSARIAL"
BENIGN = "BENIGN"
FALSE_ALARM = "FALSE ALARM"
MISSED = "MISSED"

_MID_GREY = 128
# Attacks that were fitted, by the classifier they are for; forgotten with it.
_fitted: weakref.WeakKeyDictionary[nn.Module, dict[Attack, FittedAttack]] = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Everything known of one image, before and after an attack.

    Attributes:
        name: file name or the data set's name of the image.
        image: uint8 (3, 32, 32), the benign image.
        label: its true class where that is known.
        reference: the class the attack worked against: `label`, else the classifier's own class.
        benign: verdict on `image` (one row); its `recovers` is None where no label is known.
        attack: what the attack did (one row), or None where none was run.
        adversarial: verdict on `attack.images[0]` (one row), `recovers` being whether y2 is `reference`.
            None where no attack was run or it failed (its image is then the benign one).
        classes: class names in label order.
    """

    name: str
    image: Image
    label: int | None
    reference: int
    benign: Verdict
    attack: AttackResult | None
    adversarial: Verdict | None
    classes: tuple[str, ...]

    @property
    def attacked_image(self) -> Image | None:
        """The adversarial image, uint8 (3, 32, 32), or None where there is none."""
        return None if self.attack is None or self.adversarial is None else self.attack.images[0]


def inspect(
    system: bundles.System,
    image: Image,
    name: str = "",
    label: int | None = None,
    attack: Attack | None = None,
    rule: str = "paper",
    job: Job | None = None,
) -> Inspection:
    """Pass the detector's verdict on an image and, with `attack`, on its adversarial version.

    Args:
        system: a loaded bundle; its classifier is attacked.
        image: uint8 (3, 32, 32).
        name: for people.
        label: true class, where known; else the attack works against the classifier's own class.
        attack: what to run, or None.
        rule: "paper" or "graded".
        job: progress and cancellation of the attack.

    Raises:
        SettingError: the image has another shape or type, the label is not a class, or the attack has to be
            fitted and the bundled samples teach it nothing.
        BundleError: the bundle has no threshold for the rule.
        DataError: the attack has to be fitted on the bundled samples, and they are missing.
        Cancelled: through `job`.
    """
    classes = system.card.classes
    if image.shape != (3, 32, 32) or image.dtype != np.uint8:
        raise SettingError(f"image {name}: expected uint8 of shape (3, 32, 32), got {image.dtype} {image.shape}.")
    if label is not None and not 0 <= label < len(classes):
        raise SettingError(f"label = {label} of image {name} is not a class number from 0 to {len(classes) - 1}.")
    job = job or Job()
    job.checkpoint()
    detector = system.detector(rule)
    benign = detector.inspect(image[None], None if label is None else np.array([label]))
    reference = int(benign.y1[0]) if label is None else label
    result, adversarial = None, None
    if attack is not None:
        attack = prepared(system, attack, job)
        # Not `run`, which refuses an image of the target class: here that is a result like any other.
        result = attack.run_checked(system.network(bundles.CLASSIFIER), image[None], np.array([reference]), job)
        if result.success[0]:
            adversarial = detector.inspect(result.images, np.array([reference]))
    return Inspection(name, image, label, reference, benign, result, adversarial, classes)


def prepared(system: bundles.System, attack: Attack, job: Job | None = None) -> Attack:
    """The attack as it is run on the system's classifier: fitted on the bundled samples where it needs that.

    That is done once for a loaded system and kept. So a sample is among the images it learned from.

    Raises:
        DataError: the samples are missing or damaged.
        SettingError: they teach the attack nothing.
        Cancelled: through `job`.
    """
    if not isinstance(attack, FittedAttack) or not attack.needs_fitting:
        return attack
    job = job or Job()
    known = _fitted.setdefault(system.network(bundles.CLASSIFIER), {})
    if attack not in known:
        known[attack] = attack.fitted(system.network(bundles.CLASSIFIER), datasets.samples().images, job)
        job.note(f"{attack.title}: {known[attack].about_fitting()}.")
    return known[attack]


def headline(verdict: Verdict, truly_adversarial: bool | None) -> str:
    """One word or two for a one-row verdict: ADVERSARIAL, BENIGN, FALSE ALARM or MISSED.

    `truly_adversarial` is None where nobody knows; then the detector's word is all there is.
    """
    called = bool(verdict.adversarial[0])
    if truly_adversarial is None or called == truly_adversarial:
        return ADVERSARIAL if called else BENIGN
    return FALSE_ALARM if called else MISSED


def is_adversarial(inspection: Inspection) -> bool | None:
    """Whether the image that `sentence` speaks of is adversarial in truth; None where nobody knows.

    An attacked image is, an image with a known label is taken for benign, and one that somebody just opened
    may be either.
    """
    if inspection.adversarial is not None:
        return True
    return None if inspection.label is None else False


def sentence(inspection: Inspection) -> str:
    """The whole result in words: the adversarial image's where there is one, else the benign one's.

    E.g. "ADVERSARIAL: the classifier says frog (93 %), the mask says ship (61 %). Restored: ship." or
    "BENIGN: classifier (cat, 88 %) and mask (cat, 47 %) agree."
    """
    i = inspection
    verdict = i.adversarial or i.benign
    words = [f"{headline(verdict, is_adversarial(i))}: {_evidence(verdict, i.classes, is_adversarial(i))}"]
    if i.adversarial is not None:
        words.append(_restoration(i, i.adversarial))
    elif i.label is not None and int(i.benign.y1[0]) != i.label:
        words.append(f"The classifier is wrong here: the true class is {i.classes[i.label]}.")
    if i.attack is not None and i.adversarial is None:
        reason = str(i.attack.reason[0])
        why = " within its limits" if reason == NO_ADVERSARIAL else f": {reason}"
        words.insert(0, f"The attack found no adversarial image{why}.")
    return " ".join(words)


def benign_sentence(inspection: Inspection) -> str:
    """The sentence of the benign image alone, as if no attack had been run."""
    return sentence(dataclasses.replace(inspection, attack=None, adversarial=None))


def percent(probability: float) -> str:
    """A probability as a person reads it: "93 %", "<1 %"; "100 %" only where it is no less than 99.95 %."""
    if probability < 0.01:
        return "<1 %"
    return ">99 %" if 0.99 < probability < 0.9995 else f"{100 * probability:.0f} %"


def _evidence(verdict: Verdict, classes: tuple[str, ...], truly_adversarial: bool | None) -> str:
    y1, y2 = int(verdict.y1[0]), int(verdict.y2[0])
    p1, p2, support = float(verdict.p1[0, y1]), float(verdict.p2[0, y2]), float(verdict.p2[0, y1])
    first, second = f"{classes[y1]} ({percent(p1)})", f"{classes[y2]} ({percent(p2)})"
    if bool(verdict.adversarial[0]):
        prefix = "this benign image is called adversarial, because " if truly_adversarial is False else ""
        if y1 != y2:
            return f"{prefix}the classifier says {first}, the mask says {second}."
        return f"{prefix}the classifier says {first}, and the mask supports that too weakly ({percent(support)})."
    prefix = "this adversarial image is called benign, because " if truly_adversarial else ""
    named = f"classifier ({classes[y1]}, {percent(p1)}) and mask ({classes[y2]}, {percent(p2)})"
    if y1 == y2:
        return f"{prefix}{named} agree."
    return f"{prefix}{named} differ, but the mask still gives {classes[y1]} {percent(support)}."


def _restoration(i: Inspection, verdict: Verdict) -> str:
    was = i.classes[i.reference]
    if int(verdict.y2[0]) == i.reference:
        # Of an image nobody labelled only the classifier's first word is known.
        return f"Restored: {was}." if verdict.adversarial[0] else f"Yet the mask still says {was}, as it should."
    known = "the true class is" if i.label is not None else "before the attack the classifier said"
    return f"Not restored: {known} {was}." if verdict.adversarial[0] else f"{known.capitalize()} {was}."


def difference(inspection: Inspection, gain: float) -> Image:
    """What the attack moved, `gain` times magnified around mid grey: uint8 (3, 32, 32).

    Grey (128) is unchanged, brighter is more of a colour, darker less. All grey where there is no adversarial.
    """
    changed = inspection.attacked_image
    moved = np.zeros((3, 32, 32)) if changed is None else changed.astype(np.float64) - inspection.image
    shown: Image = np.clip(np.rint(_MID_GREY + gain * moved), 0, 255).astype(np.uint8)
    return shown


def as_dict(inspection: Inspection) -> dict[str, Any]:
    """The record as plain data for `ciad inspect --json`; images and masks are left out."""
    i = inspection
    return {
        "name": i.name,
        "sentence": sentence(i),
        "label": None if i.label is None else {"index": i.label, "class": i.classes[i.label]},
        "reference": {"index": i.reference, "class": i.classes[i.reference]},
        "benign": _verdict_dict(i.benign, i.classes),
        "attack": None if i.attack is None else _attack_dict(i.attack, i.classes),
        "adversarial": None if i.adversarial is None else _verdict_dict(i.adversarial, i.classes),
        "classes": list(i.classes),
    }


def _verdict_dict(verdict: Verdict, classes: tuple[str, ...]) -> dict[str, Any]:
    def network(label: int, probabilities: npt.NDArray[np.float32]) -> dict[str, Any]:
        return {
            "index": label,
            "class": classes[label],
            "probability": float(probabilities[label]),
            "probabilities": [float(p) for p in probabilities],
        }

    return {
        "adversarial": bool(verdict.adversarial[0]),
        "rule": verdict.rule,
        "score": float(verdict.score[0]),
        "threshold": {"value": verdict.threshold.value, "source": verdict.threshold.source},
        "classifier": network(int(verdict.y1[0]), verdict.p1[0]),
        "mask": network(int(verdict.y2[0]), verdict.p2[0]),
        "recovers": None if verdict.recovers is None else bool(verdict.recovers[0]),
    }


def _attack_dict(result: AttackResult, classes: tuple[str, ...]) -> dict[str, Any]:
    after = int(result.label_after[0])
    return {
        "name": result.attack,
        "settings": dict(result.settings),
        "success": bool(result.success[0]),
        "reason": str(result.reason[0]),
        "label_after": {"index": after, "class": classes[after]},
        "confidence_after": float(result.confidence_after[0]),
        "l0_values": int(result.l0_values[0]),
        "l0_pixels": int(result.l0_pixels[0]),
        "l2": float(result.l2[0]),
        "linf": int(result.linf[0]),
        "ssim": float(result.ssim[0]),
        "forwards": int(result.forwards[0]),
        "backwards": int(result.backwards[0]),
        "steps": int(result.steps[0]),
        "seconds": result.seconds,
    }
