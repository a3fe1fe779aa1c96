"""One image's record, and the sentence made of it in every case a person can meet."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from ciad_engine import attacks, bundles, datasets, inspection
from ciad_engine.attacks.base import AttackResult
from ciad_engine.attacks.words import NO_ADVERSARIAL
from ciad_engine.detectors.base import Threshold, Verdict
from ciad_engine.errors import BundleError, SettingError
from ciad_engine.jobs import Cancelled, Job
from tests.engine.evaluation import tiny

CLASSES = ("ship", "frog", "cat", "dog")
SHIP, FROG, CAT, DOG = range(4)


def verdict(y1: int, p1: float, y2: int, p2: float, *, support: float = 0.04, called: bool | None = None) -> Verdict:
    """A one-row verdict; `support` is f2's probability of y1 where y1 is not y2; `called` makes it graded."""
    first, second = np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32)
    second[0, y1], first[0, y1], second[0, y2] = support, p1, p2
    adversarial = y1 != y2 if called is None else called
    return Verdict(
        y1=np.array([y1]),
        y2=np.array([y2]),
        p1=first,
        p2=second,
        masks=np.zeros((1, 32, 32), np.float32),
        score=np.array([float(y1 != y2)]),
        threshold=Threshold(0.5, "fixed"),
        adversarial=np.array([adversarial]),
        recovers=None,
        rule="paper" if called is None else "graded",
    )


def result(reason: str = "") -> AttackResult:
    one, images = np.ones(1, np.int64), np.full((1, 3, 32, 32), 100, np.uint8)
    images[0, 0, 0, 0] += 0 if reason else 5
    return AttackResult(
        images, np.array([not reason]), np.array([reason]), one, one, np.ones(1, np.float32), one, one,
        np.ones(1), one, np.ones(1), one, one, one, 0.1, "fgsm", {"eps": 8.0},
    )  # fmt: skip


def found(
    benign: Verdict,
    adversarial: Verdict | None = None,
    label: int | None = None,
    reference: int = SHIP,
    attack: AttackResult | None = None,
) -> inspection.Inspection:
    image = np.full((3, 32, 32), 100, np.uint8)
    if adversarial is not None:
        attack = result()
    return inspection.Inspection("x.png", image, label, reference, benign, attack, adversarial, CLASSES)


FINE = verdict(SHIP, 0.9, SHIP, 0.6)
NO = NO_ADVERSARIAL

SENTENCES = [
    # attacked
    (
        found(FINE, verdict(FROG, 0.93, SHIP, 0.61), SHIP),
        "ADVERSARIAL: the classifier says frog (93 %), the mask says ship (61 %). Restored: ship.",
    ),
    (
        found(FINE, verdict(FROG, 0.93, CAT, 0.61), SHIP),
        "ADVERSARIAL: the classifier says frog (93 %), the mask says cat (61 %). Not restored: the true class is ship.",
    ),
    (
        found(FINE, verdict(FROG, 0.93, CAT, 0.61)),
        "ADVERSARIAL: the classifier says frog (93 %), the mask says cat (61 %)."
        " Not restored: before the attack the classifier said ship.",
    ),
    (
        found(FINE, verdict(FROG, 0.93, FROG, 0.41), SHIP),
        "MISSED: this adversarial image is called benign, because classifier (frog, 93 %) and mask (frog, 41 %)"
        " agree. The true class is ship.",
    ),
    # opened by somebody, truth unknown
    (found(verdict(CAT, 0.88, CAT, 0.47)), "BENIGN: classifier (cat, 88 %) and mask (cat, 47 %) agree."),
    (
        found(verdict(CAT, 0.88, DOG, 0.47)),
        "ADVERSARIAL: the classifier says cat (88 %), the mask says dog (47 %).",
    ),
    # known label: benign in truth
    (
        found(verdict(CAT, 0.88, DOG, 0.47), label=CAT),
        "FALSE ALARM: this benign image is called adversarial, because the classifier says cat (88 %),"
        " the mask says dog (47 %).",
    ),
    (
        found(verdict(CAT, 0.88, CAT, 0.47), label=DOG),
        "BENIGN: classifier (cat, 88 %) and mask (cat, 47 %) agree."
        " The classifier is wrong here: the true class is dog.",
    ),
    # failed attacks
    (
        found(FINE, label=SHIP, attack=result(NO)),
        "The attack found no adversarial image within its limits."
        " BENIGN: classifier (ship, 90 %) and mask (ship, 60 %) agree.",
    ),
    (
        found(FINE, attack=result("lost when rounded to 8 bits")),
        "The attack found no adversarial image: lost when rounded to 8 bits."
        " BENIGN: classifier (ship, 90 %) and mask (ship, 60 %) agree.",
    ),
    (
        found(verdict(CAT, 0.88, CAT, 0.47), label=SHIP, attack=result("already misclassified")),
        "The attack found no adversarial image: already misclassified. BENIGN: classifier (cat, 88 %) and mask"
        " (cat, 47 %) agree. The classifier is wrong here: the true class is ship.",
    ),
    # graded
    (
        found(FINE, verdict(FROG, 0.93, FROG, 0.31, called=True), SHIP),
        "ADVERSARIAL: the classifier says frog (93 %), and the mask supports that too weakly (31 %)."
        " Not restored: the true class is ship.",
    ),
    (
        found(FINE, verdict(FROG, 0.93, SHIP, 0.5, support=0.4, called=False), SHIP),
        "MISSED: this adversarial image is called benign, because classifier (frog, 93 %) and mask (ship, 50 %)"
        " differ, but the mask still gives frog 40 %. Yet the mask still says ship, as it should.",
    ),
    (
        found(verdict(CAT, 0.88, DOG, 0.5, support=0.4, called=False), label=CAT),
        "BENIGN: classifier (cat, 88 %) and mask (dog, 50 %) differ, but the mask still gives cat 40 %.",
    ),
    (
        found(verdict(CAT, 0.88, CAT, 0.3, called=True), label=CAT),
        "FALSE ALARM: this benign image is called adversarial, because the classifier says cat (88 %),"
        " and the mask supports that too weakly (30 %).",
    ),
]


@pytest.mark.parametrize(("record", "text"), SENTENCES)
def test_sentence(record: inspection.Inspection, text: str) -> None:
    assert inspection.sentence(record) == text


def test_benign_sentence_leaves_the_attack_out() -> None:
    record = found(FINE, verdict(FROG, 0.93, SHIP, 0.61), SHIP)
    assert inspection.benign_sentence(record) == "BENIGN: classifier (ship, 90 %) and mask (ship, 60 %) agree."


@pytest.mark.parametrize(
    ("called", "truth", "text"),
    [
        (True, True, "ADVERSARIAL"),
        (True, None, "ADVERSARIAL"),
        (True, False, "FALSE ALARM"),
        (False, False, "BENIGN"),
        (False, None, "BENIGN"),
        (False, True, "MISSED"),
    ],
)
def test_headline(called: bool, truth: bool | None, text: str) -> None:
    assert inspection.headline(verdict(SHIP, 0.5, SHIP, 0.5, called=called), truth) == text


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.0, "<1 %"),
        (0.004, "<1 %"),
        (0.01, "1 %"),
        (0.934, "93 %"),
        (0.997, ">99 %"),
        (0.9999, "100 %"),
        (1.0, "100 %"),
    ],
)
def test_percent(probability: float, text: str) -> None:
    assert inspection.percent(probability) == text


def test_difference_is_magnified_around_mid_grey() -> None:
    record = found(FINE, verdict(FROG, 0.93, SHIP, 0.61))
    shown = inspection.difference(record, 16)
    assert shown.dtype == np.uint8
    assert shown[0, 0, 0] == 128 + 16 * 5
    assert (shown.ravel()[1:] == 128).all()
    assert inspection.difference(record, 64)[0, 0, 0] == 255
    darker = dataclasses.replace(record, image=np.full((3, 32, 32), 110, np.uint8))
    assert inspection.difference(darker, 4)[1, 1, 1] == 128 - 40
    assert (inspection.difference(found(FINE, attack=result(NO)), 16) == 128).all()
    assert (inspection.difference(found(FINE), 16) == 128).all()


def fooled() -> int:
    """An image of the tiny data set that FGSM fools the tiny classifier on."""
    system, data = tiny.system(), tiny.data()
    done = attacks.create("fgsm", eps=8).run(system.network(bundles.CLASSIFIER), data.images, data.labels)
    return int(np.flatnonzero(done.success)[0])


@pytest.mark.parametrize("rule", ["paper", "graded"])
def test_inspect_is_attack_and_detector_on_one_image(rule: str) -> None:
    system, data, k = tiny.system(), tiny.data(), fooled()
    attack = attacks.create("fgsm", eps=8)
    record = inspection.inspect(system, data.images[k], "name", int(data.labels[k]), attack, rule)
    alone = attack.run(system.network(bundles.CLASSIFIER), data.images[k : k + 1], data.labels[k : k + 1])
    assert record.attack is not None
    assert record.adversarial is not None
    assert np.array_equal(record.attack.images, alone.images)
    assert record.attacked_image is record.attack.images[0] or np.array_equal(record.attacked_image, alone.images[0])
    before = system.detector(rule).inspect(data.images[k : k + 1])
    after = system.detector(rule).inspect(alone.images)
    assert record.benign.score == before.score
    assert record.adversarial.score == after.score
    assert record.adversarial.y1[0] != record.reference == data.labels[k]
    assert record.adversarial.recovers[0] == (after.y2[0] == data.labels[k])
    assert inspection.is_adversarial(record) is True


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
    assert inspection.sentence(record).startswith("The attack found no adversarial image: already misclassified.")


def test_inspect_refuses_wrong_input() -> None:
    system, data = tiny.system(threshold=None), tiny.data()
    with pytest.raises(SettingError, match=r"\(3, 32, 32\)"):
        inspection.inspect(system, data.images[0].astype(np.float32))
    with pytest.raises(SettingError, match="label = 10"):
        inspection.inspect(system, data.images[0], label=10)
    with pytest.raises(BundleError, match="no threshold"):
        inspection.inspect(system, data.images[0], rule="graded")


def test_inspect_can_be_cancelled() -> None:
    job = Job()
    job.cancel()
    with pytest.raises(Cancelled):
        inspection.inspect(tiny.system(), tiny.data().images[0], job=job)


def test_record_as_plain_data() -> None:
    system, data, k = tiny.system(), tiny.data(), fooled()
    attack = attacks.create("fgsm", eps=8)
    record = inspection.inspect(system, data.images[k], "a.png", int(data.labels[k]), attack, "graded")
    content = json.loads(json.dumps(inspection.as_dict(record), allow_nan=False))
    assert content["name"] == "a.png"
    assert content["sentence"] == inspection.sentence(record)
    assert content["label"] == content["reference"]
    assert content["attack"]["settings"]["eps"] == 8
    assert content["attack"]["success"] is True
    assert content["attack"]["linf"] == 8
    for key, one in (("benign", record.benign), ("adversarial", record.adversarial)):
        assert content[key]["classifier"]["class"] == record.classes[one.y1[0]]
        assert content[key]["mask"]["probability"] == pytest.approx(one.p2[0].max())
        assert len(content[key]["mask"]["probabilities"]) == 10
        assert content[key]["threshold"] == {"value": 1.5, "source": "chosen for tests"}
        assert content[key]["score"] == one.score[0]
    bare = inspection.as_dict(inspection.inspect(system, data.images[k]))
    assert bare["label"] is bare["attack"] is bare["adversarial"] is None


def test_an_image_of_the_target_class_is_no_error() -> None:
    system, image = tiny.system(), tiny.data().images[0]
    own = int(system.detector().inspect(image[None]).y1[0])
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
