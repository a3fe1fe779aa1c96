"""One image's record, and its explanation in every case that a person can meet."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping

import numpy as np
import pytest

from ciad_engine import attacks, bundles, datasets, detectors, distances, inspection
from ciad_engine.attacks.base import AttackResult
from ciad_engine.attacks.words import FLAGGED, NO_ADVERSARIAL
from ciad_engine.detectors.base import Detector, Finding, Verdict
from ciad_engine.detectors.threshold import DIFFERENT_CLASSES, Threshold
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.errors import SettingError
from ciad_engine.jobs import Cancelled, Job
from tests.engine.evaluation import tiny

CLASSES = ("ship", "frog", "cat", "dog")
SHIP, FROG, CAT, DOG = range(4)
KINDS = {"mlp": "direct", **{kind: kind for kind in ("mask", "shuffled-mask", "confidence")}}


class Foreign(Detector):
    """A detector of another package."""


def finding(
    name: str,
    y1: int,
    y2: int | None,
    p2: float,
    support: float = 0.04,
    graded: float | None = None,
    kind: str = "",
    options: Mapping[str, object] = types.MappingProxyType({}),
) -> Finding:
    """What a detector found for one image; `support` is its probability of y1 if that is not y2.

    Without a class y2 the probability p2 is of y1. `graded` is the threshold of its score.
    A detector without a `kind` is of another package.
    """
    p = np.zeros((1, 4), np.float32)
    p[0, y1] = support
    p[0, y1 if y2 is None else y2] = p2
    rules = {} if graded is None else {"graded": Threshold(graded, "chosen for tests")}
    if y2 is not None:
        rules = {"disagreement": DIFFERENT_CLASSES, **rules}
    labels = None if y2 is None else np.array([y2])
    found = detectors.get(kind or KINDS[name]) if kind or name in KINDS else Foreign
    return Finding(found, options, detectors.title(name), p, labels, np.array([-math.log(p[0, y1])]), rules)


def made(y1: int, p1: float, findings: Mapping[str, Finding], detector: str, rule: str = "") -> Verdict:
    """A one-row verdict of these findings."""
    first = np.zeros((1, 4))
    first[0, y1] = p1
    masks = np.zeros((1, 32, 32), np.float32)
    return Verdict(np.array([y1]), first, masks, findings, None, detector, "").by(detector, rule)


def verdict(y1: int, p1: float, y2: int, p2: float, *, support: float = 0.04, flagged: bool | None = None) -> Verdict:
    """A one-row verdict by the mask; `flagged` makes it graded, and sets the threshold below or above the score."""
    own = -math.log(p2 if y1 == y2 else support)
    threshold = None if flagged is None else own - 0.1 if flagged else own + 0.1
    rule = "disagreement" if flagged is None else "graded"
    return made(y1, p1, {"mask": finding("mask", y1, y2, p2, support, threshold)}, "mask", rule)


def by_confidence(y1: int, p1: float, threshold: float = 0.5) -> Verdict:
    """A one-row verdict by a detector without a class: f1's confidence."""
    return made(y1, p1, {"confidence": finding("confidence", y1, None, p1, graded=threshold)}, "confidence")


def result(reason: str = "") -> AttackResult:
    """What an attack did to one image; with the reason FLAGGED it fooled the classifier, with another it did not."""
    one, images = np.ones(1, np.int64), np.full((1, 3, 32, 32), 100, np.uint8)
    fooled = reason in ("", FLAGGED)
    images[0, 0, 0, 0] += 5 if fooled else 0
    return AttackResult(
        images, images, np.array([fooled]), np.array([not reason]), np.array([reason]), one, one,
        np.ones(1, np.float32), one, one, np.ones(1), one, np.ones(1), one, one, one, 0.1, "fgsm", {"eps": 8.0},
    )  # fmt: skip


def found(
    benign: Verdict,
    adversarial: Verdict | None = None,
    label: int | None = None,
    reference: int = SHIP,
    attack: AttackResult | None = None,
) -> inspection.Inspection:
    image, attacked = np.full((3, 32, 32), 100, np.uint8), None
    if adversarial is not None:
        attack = attack or result()
        attacked = attack.images[0]
        adversarial = dataclasses.replace(adversarial, labels=np.array([reference]))
    benign = dataclasses.replace(benign, labels=None if label is None else np.array([label]))
    return inspection.Inspection("x.png", image, label, reference, benign, attack, attacked, adversarial, CLASSES)


FINE = verdict(SHIP, 0.9, SHIP, 0.6)
NO = NO_ADVERSARIAL

SENTENCES = [
    # attacked
    (
        found(FINE, verdict(FROG, 0.93, SHIP, 0.61), SHIP),
        "ADVERSARIAL: The classifier says frog (93%). The mask says ship (61%). Restored: ship.",
    ),
    (
        found(FINE, verdict(FROG, 0.93, CAT, 0.61), SHIP),
        "ADVERSARIAL: The classifier says frog (93%). The mask says cat (61%). Not restored: the true class is ship.",
    ),
    (
        found(FINE, verdict(FROG, 0.93, CAT, 0.61)),
        "ADVERSARIAL: The classifier says frog (93%). The mask says cat (61%)."
        " Not restored: before the attack the classifier said ship.",
    ),
    (
        found(FINE, verdict(FROG, 0.93, FROG, 0.41), SHIP),
        "MISSED: This adversarial image is not flagged. The classifier says frog (93%). The mask agrees"
        " (41%). The true class is ship.",
    ),
    (
        found(FINE, verdict(FROG, 0.93, FROG, 0.41)),
        "MISSED: This adversarial image is not flagged. The classifier says frog (93%). The mask agrees"
        " (41%). Before the attack the classifier said ship.",
    ),
    # opened by somebody, truth unknown
    (found(verdict(CAT, 0.88, CAT, 0.47)), "BENIGN: The classifier says cat (88%). The mask agrees (47%)."),
    (
        found(verdict(CAT, 0.88, DOG, 0.47)),
        "ADVERSARIAL: The classifier says cat (88%). The mask says dog (47%).",
    ),
    # known label: benign in truth
    (
        found(verdict(CAT, 0.88, DOG, 0.47), label=CAT),
        "FALSE ALARM: This benign image is flagged. The classifier says cat (88%). The mask says dog (47%).",
    ),
    (
        found(verdict(CAT, 0.88, CAT, 0.47), label=DOG),
        "BENIGN: The classifier says cat (88%). The mask agrees (47%)."
        " The classifier is wrong here: the true class is dog.",
    ),
    # failed attacks
    (
        found(FINE, label=SHIP, attack=result(NO)),
        "BENIGN: The attack found no adversarial image within its limits."
        " The classifier says ship (90%). The mask agrees (60%).",
    ),
    (
        found(FINE, attack=result("lost when rounded to 8 bits")),
        "BENIGN: The attack found no adversarial image: lost when rounded to 8 bits."
        " The classifier says ship (90%). The mask agrees (60%).",
    ),
    (
        found(verdict(CAT, 0.88, CAT, 0.47), label=SHIP, attack=result("already misclassified")),
        "BENIGN: The attack found no adversarial image: already misclassified. The classifier says cat (88%). The"
        " mask agrees (47%). The classifier is wrong here: the true class is ship.",
    ),
    # graded
    (
        found(FINE, verdict(FROG, 0.93, FROG, 0.31, flagged=True), SHIP),
        "ADVERSARIAL: The classifier says frog (93%). The mask supports that too weakly (31%)."
        " Not restored: the true class is ship.",
    ),
    (
        found(FINE, verdict(FROG, 0.93, SHIP, 0.5, support=0.4, flagged=False), SHIP),
        "MISSED: This adversarial image is not flagged. The classifier says frog (93%). The mask says ship"
        " (50%), but still gives frog 40%. Yet the detector still says ship, as it should.",
    ),
    (
        found(verdict(CAT, 0.88, DOG, 0.5, support=0.4, flagged=False), label=CAT),
        "BENIGN: The classifier says cat (88%). The mask says dog (50%), but still gives cat 40%.",
    ),
    (
        found(verdict(CAT, 0.88, CAT, 0.3, flagged=True), label=CAT),
        "FALSE ALARM: This benign image is flagged. The classifier says cat (88%)."
        " The mask supports that too weakly (30%).",
    ),
    # decided by a detector without a class: nothing is restored
    (
        found(by_confidence(SHIP, 0.9), by_confidence(FROG, 0.4), SHIP),
        "ADVERSARIAL: The classifier says frog (40%). That is too little confidence for a benign image.",
    ),
    (
        found(by_confidence(SHIP, 0.9), by_confidence(FROG, 0.93), SHIP),
        "MISSED: This adversarial image is not flagged. The classifier says frog (93%). That is enough"
        " confidence for a benign image.",
    ),
    (
        found(by_confidence(CAT, 0.4), label=CAT),
        "FALSE ALARM: This benign image is flagged. The classifier says cat (40%). That is too little"
        " confidence for a benign image.",
    ),
    (
        found(by_confidence(CAT, 0.88)),
        "BENIGN: The classifier says cat (88%). That is enough confidence for a benign image.",
    ),
    # an attack that fools the classifier, but does not evade the detector
    (
        found(FINE, verdict(FROG, 0.93, SHIP, 0.61), SHIP, attack=result(FLAGGED)),
        "ADVERSARIAL: The attack fooled the classifier, but it did not evade what it had to."
        " The classifier says frog (93%). The mask says ship (61%). Restored: ship.",
    ),
    # an attacked image that does not fool the classifier, e.g. made for another one: the truth is unknown
    (
        found(FINE, verdict(SHIP, 0.8, SHIP, 0.5), SHIP),
        "BENIGN: The attacked image does not fool the classifier, which still says ship. The classifier says ship"
        " (80%). The mask agrees (50%).",
    ),
    (
        found(FINE, verdict(SHIP, 0.8, CAT, 0.5), SHIP),
        "ADVERSARIAL: The attacked image does not fool the classifier, which still says ship. The classifier says ship"
        " (80%). The mask says cat (50%).",
    ),
]


@pytest.mark.parametrize(("record", "text"), SENTENCES)
def test_sentence(record: inspection.Inspection, text: str) -> None:
    assert inspection.sentence(record) == text
    explained = inspection.explain(record)
    assert f"{explained.headline}: {explained.text}" == text


def test_the_sentence_without_the_attack_is_of_the_original_image() -> None:
    record = found(FINE, verdict(FROG, 0.93, SHIP, 0.61), SHIP).without_attack()
    assert inspection.sentence(record) == "BENIGN: The classifier says ship (90%). The mask agrees (60%)."
    assert record.attack is record.attacked_image is record.adversarial is record.distances is None


def test_a_detector_of_another_package_is_called_by_its_name() -> None:
    record = found(made(CAT, 0.88, {"squeeze": finding("squeeze", CAT, DOG, 0.47)}, "squeeze"))
    assert inspection.sentence(record) == (
        "ADVERSARIAL: The classifier says cat (88%). The detector 'squeeze' says dog (47%)."
    )


@pytest.mark.parametrize(
    ("threshold", "headline", "above"), [(0.1, "ADVERSARIAL", "above"), (0.2, "BENIGN", "not above")]
)
def test_a_detector_without_a_class_is_not_taken_for_the_confidence(
    threshold: float, headline: str, above: str
) -> None:
    record = found(made(CAT, 0.88, {"squeeze": finding("squeeze", CAT, None, 0.88, graded=threshold)}, "squeeze"))
    assert inspection.sentence(record) == (
        f"{headline}: The classifier says cat (88%). The score of the detector 'squeeze' is {above} its threshold."
    )


KEEPS, WHOLE, NATURAL = "evidence", "whole", "natural"
OF_KIND = {"evidence": "evidence", "whole": "direct", "natural": "direct"}
FIT = {"fit": {KEEPS: [-3.0, 1.0], WHOLE: [-3.0, 1.0], NATURAL: [-3.0, 2.0]}}


def by_combined(threshold: float, **parts: tuple[int, float, float]) -> Verdict:
    """A verdict on an image that f1 takes for a frog, by parts with class, probability and score each.

    Together they say ship, and their score is 4.
    """
    findings = {
        name: dataclasses.replace(finding(name, FROG, y2, p2, kind=OF_KIND[name]), scores=np.array([score]))
        for name, (y2, p2, score) in parts.items()
    }
    together = finding("combined", FROG, SHIP, 0.9, 0.05, threshold, kind="combined", options=FIT)
    findings = {"combined": dataclasses.replace(together, scores=np.array([4.0])), **findings}
    return made(FROG, 0.87, findings, "combined", "graded")


def by_stability(y2: int, p2: float, flagged: bool) -> Verdict:
    """A verdict on an image that f1 takes for a frog, by what f1 says of it without its unimportant part."""
    one = finding("stability", FROG, y2, p2, support=0.3, kind="stability")
    rules = {"graded": Threshold(float(one.scores[0]) + (-0.1 if flagged else 0.1), "chosen for tests")}
    return made(FROG, 0.87, {"stability": dataclasses.replace(one, labels=None, rules=rules)}, "stability")


def alone(name: str, y2: int, p2: float) -> Verdict:
    return made(FROG, 0.87, {name: finding(name, FROG, y2, p2, kind=OF_KIND.get(name, "direct"))}, name)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (alone(KEEPS, SHIP, 0.98), "What the mask keeps says ship (98%)."),
        (alone(KEEPS, FROG, 0.98), "What the mask keeps agrees (98%)."),
        (alone(WHOLE, SHIP, 0.98), "The robust classifier says ship (98%)."),
        (alone("mlp", SHIP, 0.98), "The MLP on the image says ship (98%)."),
        (alone("other", SHIP, 0.98), "The detector 'other' says ship (98%)."),
        (
            by_combined(3.0, evidence=(SHIP, 0.98, 4.0), whole=(SHIP, 0.95, 3.0), natural=(FROG, 0.9, -3.0)),
            "What the mask keeps and the robust classifier say ship (98%, 95%).",
        ),
        (
            by_combined(3.0, evidence=(SHIP, 0.98, 4.0), whole=(DOG, 0.5, 3.0), natural=(DOG, 0.6, 6.0)),
            "What the mask keeps says ship (98%). The robust classifier and the second classifier say dog (50%, 60%).",
        ),
        (
            # Two standard deviations above the mean are less than half of seven.
            by_combined(3.0, evidence=(SHIP, 0.98, 4.0), whole=(FROG, 0.4, -1.0), natural=(DOG, 0.6, 1.0)),
            "What the mask keeps says ship (98%).",
        ),
        (
            by_combined(3.0, evidence=(FROG, 0.4, 1.0), whole=(FROG, 0.3, 1.0), natural=(FROG, 0.99, -9.0)),
            "What the mask keeps and the robust classifier support that too weakly (40%, 30%).",
        ),
        (
            by_combined(5.0, evidence=(SHIP, 0.98, 4.0), whole=(SHIP, 0.95, 3.0), natural=(FROG, 0.9, -3.0)),
            "The combined detector says ship (90%), but still gives frog 5%.",
        ),
        (by_stability(SHIP, 0.6, True), "Without what the mask calls unimportant it says ship (60%)."),
        (by_stability(FROG, 0.4, True), "Without what the mask calls unimportant it supports that too weakly (40%)."),
        (by_stability(FROG, 0.8, False), "Without what the mask calls unimportant it still says frog (80%)."),
        (
            by_stability(SHIP, 0.4, False),
            "Without what the mask calls unimportant it says ship (40%), but still gives frog 30%.",
        ),
    ],
)
def test_each_kind_says_in_its_own_words_who_disagrees(verdict: Verdict, words: str) -> None:
    assert inspection.explain(found(verdict)).text == f"The classifier says frog (87%). {words}"


def test_a_combination_that_is_not_calibrated_names_no_part() -> None:
    verdict = by_combined(3.0, evidence=(SHIP, 0.98, 4.0))
    one = dataclasses.replace(verdict.findings["combined"], options={"of": [KEEPS]})
    verdict = dataclasses.replace(verdict, findings={**verdict.findings, "combined": one})
    assert inspection.explain(found(verdict)).text.endswith("The combined detector says ship (90%).")


def several(y1: int = FROG, p1: float = 0.93, confidence: float | None = 0.5) -> Verdict:
    """A verdict by the mask, with other detectors beside it; `confidence` is the threshold of f1's confidence."""
    findings = {
        "mlp": finding("mlp", y1, SHIP, 0.61),
        "mask": finding("mask", y1, SHIP, 0.7),
        "shuffled-mask": finding("shuffled-mask", y1, y1, 0.997),
        "confidence": finding("confidence", y1, None, p1, graded=confidence),
        "squeeze": finding("squeeze", y1, DOG, 0.3),
    }
    return made(y1, p1, findings, "mask")


def test_the_other_detectors_have_a_line_each() -> None:
    assert inspection.explain(found(FINE, several(), SHIP)).others == (
        "MLP on the image: ship (61%), disagrees",
        "f2 on the shuffled mask: frog (>99%), agrees",
        "f1's confidence: not flagged (score 0.07)",
        "squeeze: dog (30%), disagrees",
    )
    assert inspection.explain(found(several(p1=0.4))).others[2] == "f1's confidence: flagged (score 0.92)"
    assert inspection.explain(found(FINE)).others == ()


def test_a_detector_without_a_threshold_is_said_neither_to_flag_nor_to_pass() -> None:
    for p1 in (0.4, 0.93):
        line = inspection.explain(found(several(p1=p1, confidence=None))).others[2]
        assert line == f"f1's confidence: no threshold (score {-math.log(p1):.2f})"


def test_whoever_decides_the_others_have_the_lines() -> None:
    explained = inspection.explain(found(FINE, several().by("confidence"), SHIP))
    assert explained.headline == "MISSED"
    assert explained.others == (
        "MLP on the image: ship (61%), disagrees",
        "f2 on the mask: ship (70%), disagrees",
        "f2 on the shuffled mask: frog (>99%), agrees",
        "squeeze: dog (30%), disagrees",
    )


EVIDENCE = [
    (
        found(FINE, verdict(FROG, 0.93, SHIP, 0.61), SHIP),
        "Score 1 is above the threshold 0.5 (the paper's rule: adversarial if the classes differ)."
        " The mask recovers the true class (ship).",
    ),
    (
        found(FINE, verdict(FROG, 0.93, FROG, 0.41)),
        "Score 0 is not above the threshold 0.5 (the paper's rule: adversarial if the classes differ)."
        " The mask does not recover the class before the attack (ship).",
    ),
    (
        found(verdict(CAT, 0.88, DOG, 0.5, support=0.4, flagged=False), label=DOG, reference=DOG),
        "Score 0.916 is not above the threshold 1.02 (chosen for tests). The mask recovers the true class (dog).",
    ),
    (
        found(verdict(CAT, 0.88, DOG, 0.47)),  # no class to recover is known
        "Score 1 is above the threshold 0.5 (the paper's rule: adversarial if the classes differ).",
    ),
    (
        found(by_confidence(SHIP, 0.9), by_confidence(FROG, 0.4), SHIP),  # it has no class
        "Score 0.916 is above the threshold 0.5 (chosen for tests).",
    ),
]


@pytest.mark.parametrize(("record", "text"), EVIDENCE)
def test_evidence_is_score_threshold_and_recovery(record: inspection.Inspection, text: str) -> None:
    assert inspection.explain(record).evidence == text


@pytest.mark.parametrize(
    ("flagged", "truth", "text"),
    [
        (True, True, "ADVERSARIAL"),
        (True, None, "ADVERSARIAL"),
        (True, False, "FALSE ALARM"),
        (False, False, "BENIGN"),
        (False, None, "BENIGN"),
        (False, True, "MISSED"),
    ],
)
def test_headline(flagged: bool, truth: bool | None, text: str) -> None:
    assert inspection.headline(verdict(SHIP, 0.5, SHIP, 0.5, flagged=flagged), truth) == text


def test_what_is_truly_adversarial() -> None:
    assert inspection.is_adversarial(found(FINE, verdict(FROG, 0.93, SHIP, 0.61))) is True
    assert inspection.is_adversarial(found(FINE, verdict(FROG, 0.9, SHIP, 0.6), attack=result(FLAGGED))) is True
    assert inspection.is_adversarial(found(FINE, verdict(SHIP, 0.8, SHIP, 0.5), SHIP)) is None
    assert inspection.is_adversarial(found(FINE, label=SHIP)) is False
    assert inspection.is_adversarial(found(FINE, label=SHIP, attack=result(NO))) is False
    assert inspection.is_adversarial(found(FINE)) is None


def test_difference_is_magnified_around_mid_grey() -> None:
    image = np.full((3, 32, 32), 100, np.uint8)
    attacked = result().images[0]
    shown = inspection.difference(image, attacked, 16)
    assert shown.dtype == np.uint8
    assert shown[0, 0, 0] == 128 + 16 * 5
    assert (shown.ravel()[1:] == 128).all()
    assert inspection.difference(image, attacked, 64)[0, 0, 0] == 255
    assert inspection.difference(np.full_like(image, 110), attacked, 4)[1, 1, 1] == 128 - 40
    assert (inspection.difference(image, result(NO).images[0], 16) == 128).all()
    assert (inspection.difference(image, None, 16) == 128).all()


def test_an_overlay_covers_what_the_mask_replaces_and_leaves_what_it_keeps() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    mask = np.zeros((4, 4), np.float32)
    mask[0, 0], mask[0, 1] = 1, 0.25
    assert np.array_equal(inspection.overlay(image, mask, 0.0, (0, 32, 76)), image)
    shown = inspection.overlay(image, mask, 1.0, (0, 32, 76))
    assert shown.dtype == np.uint8
    assert shown[:, 0, 0].tolist() == [0, 32, 76]
    assert shown[:, 0, 1].tolist() == np.rint(0.75 * image[:, 0, 1] + 0.25 * np.array([0, 32, 76])).tolist()
    assert np.array_equal(shown[:, 1:], image[:, 1:])
    half = inspection.overlay(image, mask, 0.5, (0, 32, 76))
    assert half[:, 0, 0].tolist() == np.rint(0.5 * image[:, 0, 0] + np.array([0, 16, 38])).tolist()


def test_distances_are_those_of_the_attacked_image() -> None:
    record = found(FINE, verdict(FROG, 0.93, SHIP, 0.61))
    expected = distances.measure(record.image[None], record.attacked_image[None])
    assert record.distances == {key: value[0] for key, value in expected.items()}
    assert (record.distances["linf"], record.distances["l0_pixels"]) == (5, 1)
    assert found(FINE).distances is found(FINE, attack=result(NO)).distances is None


def fooled() -> int:
    """An image of the tiny data set that FGSM fools the tiny classifier on."""
    system, data = tiny.system(), tiny.data()
    done = attacks.create("fgsm", eps=8).run(system.network(bundles.CLASSIFIER), data.images, data.labels)
    return int(np.flatnonzero(done.success)[0])


DECIDING = [("mask", "disagreement"), ("mask", "graded"), ("mlp", "graded"), ("confidence", "graded")]


@pytest.mark.parametrize(("detector", "rule"), DECIDING)
def test_inspect_is_attack_and_detector_on_one_image(detector: str, rule: str) -> None:
    system, data, k = tiny.system(), tiny.data(), fooled()
    attack = attacks.create("fgsm", eps=8)
    image, label = data.images[k], int(data.labels[k])
    record = inspection.inspect(system, image, "name", label, attack, detector=detector, rule=rule)
    alone = attack.run(system.network(bundles.CLASSIFIER), data.images[k : k + 1], data.labels[k : k + 1])
    assert record.attack is not None
    assert record.adversarial is not None
    assert np.array_equal(record.attack.images, alone.images)
    assert record.attack.notes == alone.notes
    assert np.array_equal(record.attacked_image, alone.images[0])
    before = system.inspect(data.images[k : k + 1]).by(detector, rule)
    after = system.inspect(alone.images).by(detector, rule)
    for one, expected in ((record.benign, before), (record.adversarial, after)):
        assert (one.detector, one.rule, one.threshold) == (detector, rule, expected.threshold)
        assert one.score == expected.score
        assert one.adversarial == expected.adversarial
    assert record.adversarial.y1[0] != record.reference == data.labels[k]
    assert list(record.adversarial.labels) == list(record.benign.labels) == [label]
    if detector == "confidence":
        assert record.adversarial.recovers is None
    else:
        assert record.adversarial.recovers[0] == (after.y2[0] == data.labels[k])
    assert inspection.is_adversarial(record) is True


def test_the_bundles_first_detector_decides_by_its_usual_rule() -> None:
    system, image = tiny.system(), tiny.data().images[0]
    record = inspection.inspect(system, image)
    assert (record.benign.detector, record.benign.rule) == ("mask", "disagreement")
    assert inspection.inspect(system, image, rule="graded").benign.detector == "mask"
    record = inspection.inspect(system, image, detector="confidence")
    assert (record.benign.detector, record.benign.rule) == ("confidence", "graded")


def test_by_another_detector_is_what_it_would_have_decided() -> None:
    system, data, k = tiny.system(), tiny.data(), fooled()
    words = (system, data.images[k], "name", int(data.labels[k]), attacks.create("fgsm", eps=8))
    record = inspection.inspect(*words)
    for detector, rule in DECIDING:
        again, asked = record.by(detector, rule), inspection.inspect(*words, detector=detector, rule=rule)
        assert inspection.explain(again) == inspection.explain(asked)
        assert again.benign.score == asked.benign.score
        assert again.adversarial.score == asked.adversarial.score
        assert again.attack is record.attack
        assert again.attacked_image is record.attacked_image
    assert record.by("mlp").benign.rule == "disagreement"
    alone = record.without_attack().by("mlp", "graded")
    assert alone.adversarial is None
    assert (alone.benign.detector, alone.benign.rule) == ("mlp", "graded")
    for detector, rule, message in (
        ("magic", "", "detector: 'magic' is none of mask, mlp, "),
        ("mask", "best", "rule: 'best' is none of disagreement, graded"),
        ("confidence", "disagreement", "it has no class of its own"),
    ):
        with pytest.raises(SettingError, match=message):
            record.by(detector, rule)


def test_an_image_after_an_attack_is_judged_by_the_detector_that_decides() -> None:
    system, data, k = tiny.system(), tiny.data(), fooled()
    label = int(data.labels[k])
    attacked = attacks.create("fgsm", eps=8).run(
        system.network(bundles.CLASSIFIER), data.images[k : k + 1], data.labels[k : k + 1]
    )
    record = inspection.inspect(system, data.images[k], "name", label, detector="mlp", rule="graded")
    record = inspection.with_attacked(system, record, attacked.images[0])
    assert (record.adversarial.detector, record.adversarial.rule) == ("mlp", "graded")
    assert record.adversarial.score == system.inspect(attacked.images).by("mlp", "graded").score
    assert list(record.adversarial.labels) == [label]
    assert record.attack is None
    assert inspection.is_adversarial(record) is True
    unchanged = inspection.with_attacked(system, record, data.images[k])
    assert inspection.is_adversarial(unchanged) is None
    explained = inspection.explain(unchanged)
    assert explained.headline in ("ADVERSARIAL", "BENIGN")
    assert explained.text.startswith("The attacked image does not fool the classifier, which still says ")


def test_the_attack_is_given_the_detectors_that_it_has_to_evade() -> None:
    system, data, k = tiny.system(), tiny.data(), fooled()
    image, label, attack = data.images[k : k + 1], data.labels[k : k + 1], attacks.create("pgd", eps=16, iterations=5)
    evade = ("mask:graded", "mlp")
    expected = attack.run(system.network(bundles.CLASSIFIER), image, label, evade=system.evasions(evade))
    plain = attack.run(system.network(bundles.CLASSIFIER), image, label)
    record = inspection.inspect(system, image[0], "name", int(label[0]), attack, evade=evade)
    assert np.array_equal(record.attack.images, expected.images)
    assert not np.array_equal(expected.images, plain.images), "the test needs an image for which evading matters"
    assert (record.attack.evaded, record.attack.notes) == (expected.evaded, expected.notes)
    flagged = [bool(record.adversarial.by(*one.split(":")).adversarial[0]) for one in evade]
    assert record.attack.evaded[0] == (not any(flagged))


def test_an_attack_that_does_not_evade_the_detector_still_has_an_adversarial_verdict() -> None:
    system, data = tiny.system(), tiny.data()
    attack = attacks.create("fgsm", eps=8)
    done = attack.run(system.network(bundles.CLASSIFIER), data.images, data.labels, evade=system.evasions(["mask"]))
    flagged = int(np.flatnonzero(done.fooled & ~done.evaded)[0])
    quiet = int(np.flatnonzero(done.success)[0])
    record = inspection.inspect(
        system, data.images[flagged], label=int(data.labels[flagged]), attack=attack, evade=["mask"]
    )
    assert (record.attack.fooled[0], record.attack.success[0]) == (True, False)
    assert record.attack.reason[0] == FLAGGED
    assert np.array_equal(record.attacked_image, done.images[flagged])
    assert record.adversarial.adversarial[0]
    assert inspection.sentence(record).startswith(
        "ADVERSARIAL: The attack fooled the classifier, but it did not evade what it had to"
    )
    record = inspection.inspect(
        system, data.images[quiet], label=int(data.labels[quiet]), attack=attack, evade=["mask"]
    )
    assert record.attack.success[0]
    assert inspection.sentence(record).startswith("MISSED: This adversarial image is not flagged. The classifier says ")


def test_without_a_label_the_classifiers_own_class_is_attacked() -> None:
    system, data = tiny.system(), tiny.data()
    wrong = 0  # its label is not the classifier's class
    record = inspection.inspect(system, data.images[wrong], attack=attacks.create("fgsm", eps=60))
    assert record.label is None
    assert record.reference == record.benign.y1[0] != data.labels[wrong]
    assert record.benign.recovers is None
    assert record.attack.success[0]


def test_a_failed_attack_has_no_adversarial_verdict() -> None:
    system, data = tiny.system(), tiny.data()
    record = inspection.inspect(system, data.images[0], "0", int(data.labels[0]), attacks.create("fgsm"))
    assert record.attack.reason[0] == "already misclassified"
    assert record.adversarial is None
    assert record.attacked_image is None
    assert inspection.explain(record).text.startswith("The attack found no adversarial image: already misclassified.")


def test_inspect_refuses_wrong_input() -> None:
    system, image = tiny.system(threshold=None), tiny.data().images[0]
    with pytest.raises(SettingError, match=r"\(3, 32, 32\)"):
        inspection.inspect(system, image.astype(np.float32))
    with pytest.raises(SettingError, match="label = 10"):
        inspection.inspect(system, image, label=10)
    with pytest.raises(SettingError, match="no threshold"):
        inspection.inspect(system, image, rule="graded")
    with pytest.raises(SettingError, match="no threshold"):
        inspection.inspect(system, image, detector="confidence")
    with pytest.raises(SettingError, match="rule: 'best' is none of disagreement, graded"):
        inspection.inspect(system, image, rule="best")
    with pytest.raises(SettingError, match="detector: 'magic' is none of mask, mlp"):
        inspection.inspect(system, image, detector="magic")


@pytest.mark.parametrize(
    ("attack", "evade", "message"),
    [
        ("fgsm", "magic", "has no detector 'magic'; it has mask, mlp"),
        ("fgsm", "mask:best", "'best' is none of disagreement, graded"),
        ("fgsm", "confidence:disagreement", "has no class of its own"),
        ("deepfool", "mask", r"DeepFool cannot evade a detector \(mask\); choose another attack"),
    ],
)
def test_inspect_refuses_what_cannot_be_evaded(attack: str, evade: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        inspection.inspect(tiny.system(), tiny.data().images[1], attack=attacks.create(attack), evade=[evade])


def test_inspect_can_be_cancelled() -> None:
    job = Job()
    job.cancel()
    with pytest.raises(Cancelled):
        inspection.inspect(tiny.system(), tiny.data().images[0], job=job)


def test_record_as_plain_data() -> None:
    system, data, k = tiny.system(), tiny.data(), fooled()
    attack = attacks.create("fgsm", eps=8)
    record = inspection.inspect(system, data.images[k], "a.png", int(data.labels[k]), attack, rule="graded")
    content = json.loads(json.dumps(inspection.as_dict(record), allow_nan=False))
    assert content["name"] == "a.png"
    assert content["sentence"] == inspection.sentence(record)
    assert content["label"] == content["reference"]
    assert content["attack"]["settings"]["eps"] == 8
    assert [content["attack"][key] for key in ("success", "fooled", "evaded")] == [True] * 3
    assert content["attack"]["linf"] == content["distances"]["linf"] == 8
    assert content["attack"]["notes"] == list(record.attack.notes)
    for key, one in (("benign", record.benign), ("adversarial", record.adversarial)):
        assert content[key]["classifier"]["class"] == record.classes[one.y1[0]]
        assert (content[key]["detector"], content[key]["rule"]) == ("mask", "graded")
        assert content[key]["threshold"] == {"value": 1.5, "source": "chosen for tests"}
        assert content[key]["score"] == one.score[0]
        assert content[key]["adversarial"] == bool(one.adversarial[0])
        assert content[key]["recovers"] == bool(one.recovers[0])
        found = content[key]["detectors"]
        assert list(found) == ["mask", "mlp", "shuffled-mask", "constant-mask", "confidence"]
        assert found["mask"]["probability"] == pytest.approx(one.p2[0].max())
        for name in ("mask", "mlp", "shuffled-mask", "constant-mask"):
            assert found[name]["class"] == record.classes[one.findings[name].labels[0]]
            assert len(found[name]["probabilities"]) == 10
        for name, each in found.items():
            assert each["score"] == one.findings[name].scores[0]
            assert each["flagged"] == {
                rule: bool(one.by(name, rule).adversarial[0]) for rule in one.findings[name].rules
            }
        assert list(found["confidence"]) == ["score", "flagged"]
        assert list(found["confidence"]["flagged"]) == ["graded"]
    bare = inspection.as_dict(inspection.inspect(system, data.images[k]))
    assert bare["label"] is bare["attack"] is bare["adversarial"] is bare["distances"] is None
    assert bare["benign"]["recovers"] is None


def test_an_image_of_the_target_class_is_no_error() -> None:
    system, image = tiny.system(), tiny.data().images[0]
    own = int(system.inspect(image[None]).y1[0])
    attack = attacks.create("fgsm", target="given", target_class=own)
    record = inspection.inspect(system, image, "x.png", attack=attack)
    assert record.attack is not None
    assert record.attack.reason[0] == "the target is its own class"
    assert record.adversarial is None


def test_an_attack_that_is_fitted_learns_from_the_samples_once_for_a_system() -> None:
    system, image = tiny.system(), tiny.data().images[0]
    attack = attacks.create("universal", eps=60, passes=1, learns_from=40)
    found = inspection.prepared(system, attack)
    expected = attack.fitted(system.network(bundles.CLASSIFIER), datasets.samples().images)
    assert np.array_equal(found.perturbation.levels, expected.perturbation.levels)
    assert inspection.prepared(system, attacks.create("universal", eps=60, passes=1, learns_from=40)) is found
    assert inspection.prepared(system, found) is found
    assert inspection.prepared(tiny.system(), attack) is not found
    assert inspection.prepared(system, attacks.create("universal", eps=50, passes=1, learns_from=40)) is not found
    record = inspection.inspect(system, image, attack=attack)
    assert (
        record.attack.images[0].tolist()
        == found.run(system.network(bundles.CLASSIFIER), image[None], np.array([record.reference])).images[0].tolist()
    )


@pytest.mark.parametrize("domain", [Domain(CIFAR10.classes, 48), Domain((*CIFAR10.classes[:9], "lorry"), 32)])
def test_an_attack_that_is_fitted_says_that_the_samples_are_of_another_domain(domain: Domain) -> None:
    with pytest.raises(SettingError, match=r"not of the classes and size of bundle 'tiny'\. Evaluate a data set"):
        inspection.prepared(tiny.system(domain=domain), attacks.create("universal"))


STRANGE = "CIAD knows 4 kinds of pictures; this looks like none of them."


def _seen(score: float, label: int | None = None, attacked: bool = False) -> inspection.Explanation:
    """Explain an image on which f1 and the mask disagree, and that is so far from the training images (at most 3)."""
    first = finding("mask", SHIP, CAT, 0.8)
    far = finding("unfamiliar", SHIP, None, math.exp(-score), graded=3.0, kind="unfamiliar")
    seen = made(SHIP, 0.9, {"mask": first, "unfamiliar": far}, "mask")
    record = found(seen, label=label, reference=SHIP if label is None else label)
    return inspection.explain(dataclasses.replace(record, benign=seen))


def test_a_picture_unlike_the_training_images_gets_no_verdict() -> None:
    explained = _seen(4.0)
    assert explained.headline == "UNFAMILIAR"
    assert explained.text.startswith(f"{STRANGE} The classifier says ship (90%).")
    assert _seen(2.0).headline == "ADVERSARIAL"
    assert STRANGE not in _seen(2.0).text


def test_what_is_known_of_an_unfamiliar_picture_is_said_all_the_same() -> None:
    explained = _seen(4.0, label=SHIP)
    assert explained.headline == "FALSE ALARM"
    assert STRANGE in explained.text


def _misclassified() -> tuple[object, np.ndarray, int]:
    """Return a system, and an image that f1 misclassifies, with its label."""
    system, data = tiny.system(), tiny.data()
    verdict = system.inspect(data.images)
    wrong = int(np.flatnonzero(verdict.y1 != data.labels)[0])
    return system, data.images[wrong], int(data.labels[wrong])


def test_an_attacked_picture_without_a_label_is_judged_by_its_reference() -> None:
    system, data = tiny.system(), tiny.data()
    found = inspection.inspect(system, data.images[0])
    attacked = inspection.with_attacked(system, found, data.images[1])
    assert attacked.label is None
    assert attacked.adversarial.labels.tolist() == [found.reference] == found.benign.y1.tolist()
    assert attacked.adversarial.recovers is not None


def test_a_stored_pair_is_measured_against_the_label_and_not_against_f1s_class() -> None:
    system, image, label = _misclassified()
    data = tiny.data()
    y1 = system.inspect(data.images).y1
    correct = data.images[np.flatnonzero(y1 == label)[0]]  # f1 gives it the label of the pair
    found = inspection.with_attacked(system, inspection.inspect(system, image, label=label), correct)
    assert found.reference == label != found.benign.y1[0]
    assert inspection.is_adversarial(found) is None  # f1's class has changed, but to the label
    other = data.images[np.flatnonzero((y1 != label) & (y1 != found.benign.y1[0]))[0]]
    assert inspection.is_adversarial(inspection.with_attacked(system, found, other)) is True
