"""`ciad attack` and `ciad inspect` on small pictures and an untrained system."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ciad_engine import attacks, bundles, imaging, inspection, systems
from ciad_engine.attacks.base import AttackResult
from ciad_engine.domain import CIFAR10

Ciad = Callable[..., tuple[int, str, str]]


def label_of(bundle: Path, picture: Path) -> str:
    """What the bundle's classifier says of a picture."""
    import torch

    system = systems.load(bundle, torch.device("cpu"))
    return CIFAR10.classes[int(system.inspect(imaging.read(picture, 32).pixels[None]).y1[0])]


def test_attack_saves_what_it_reports(ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    code, text, err = ciad("attack", *pictures, "--attack", "fgsm", "--eps", 128, "--bundle", bundle, "--out", out)
    assert code == 0, err
    lines = text.splitlines()
    assert len(lines) == 4
    saved = sorted(path.name for path in out.iterdir())
    assert lines[3].startswith(f"{len(saved)} of 3 fooled the classifier")
    assert saved, "a step of half the range must fool an untrained network at least once"
    for path, line in zip(pictures, lines, strict=False):
        target = out / f"{path.stem}-fgsm.png"
        assert line.startswith(f"{path.name}: {label_of(bundle, path)}")
        assert (target.name in saved) == (" became " in line) == (f"-> {target}" in line)
        if target.name in saved:
            before, after = (np.asarray(Image.open(p).convert("RGB"), dtype=int) for p in (path, target))
            assert f"Linf {np.abs(after - before).max()}/255" in line
            assert f"became {label_of(bundle, target)} (" in line


def test_attack_on_a_wrong_label_changes_nothing(
    ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path
) -> None:
    said = label_of(bundle, pictures[0])
    wrong = next(name for name in CIFAR10.classes if name != said)
    words = ("--attack", "fgsm", "--label", wrong, "--bundle", bundle, "--out", tmp_path / "out")
    code, text, _ = ciad("attack", pictures[0], *words)
    assert code == 0
    assert text.splitlines()[0] == f"{pictures[0].name}: {said}, unchanged: already misclassified"
    assert list((tmp_path / "out").iterdir()) == []


def test_pictures_of_one_name_do_not_overwrite_each_other(ciad: Ciad, bundle: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    paths = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "same.png")
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(paths[-1])
    code, text, _ = ciad(
        "attack", *paths, "--attack", "fgsm", "--eps", 255, "--bundle", bundle, "--out", tmp_path / "out"
    )
    assert code == 0
    written = [line.split(" -> ")[1] for line in text.splitlines() if " -> " in line]
    assert sorted(written) == sorted(str(path) for path in (tmp_path / "out").iterdir())
    assert len(set(written)) == 2, text


def test_a_bad_picture_is_named_and_the_others_go_on(
    ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "broken.png"
    bad.write_bytes(pictures[0].read_bytes()[:60])
    for command in (["attack", "--attack", "fgsm", "--out", tmp_path / "out"], ["inspect"]):
        code, text, err = ciad(*command, pictures[0], bad, pictures[1], tmp_path / "missing.png", "--bundle", bundle)
        assert code == 1
        assert len([line for line in text.splitlines() if line.startswith("picture")]) == 2
        complaints = [line for line in err.splitlines() if line.startswith("ciad: ")]
        assert len(complaints) == 2
        assert "broken.png" in complaints[0]
        assert "missing.png" in complaints[1]


def test_inspect_says_a_sentence_for_each(ciad: Ciad, bundle: Path, pictures: list[Path]) -> None:
    code, text, err = ciad("inspect", *pictures, "--bundle", bundle)
    assert code == 0, err
    lines = text.splitlines()
    assert len(lines) == 4 * len(pictures)
    for number, path in enumerate(pictures):
        line, *others = lines[4 * number : 4 * number + 4]
        assert line.startswith(f"{path.name}: ")
        assert label_of(bundle, path) in line
        titles = ("f2 on the shuffled mask: ", "f2 on a constant mask: ", "f1's confidence: ")
        for other, title in zip(others, titles, strict=True):  # those that do not decide
            assert other.startswith(f"  {title}")


def test_inspect_writes_where_f1_looks(ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path) -> None:
    import torch

    out = tmp_path / "looks"
    words = ("--attack", "fgsm", "--eps", 128, "--bundle", bundle, "--out", out)
    code, text, err = ciad("inspect", *pictures, *words)
    assert code == 0, err
    system = systems.load(bundle, torch.device("cpu"))
    sentences = [line for line in text.splitlines() if not line.startswith(" ")]
    fooled = [p for p, line in zip(pictures, sentences, strict=True) if "found no adversarial" not in line]
    assert fooled
    names = {f"{path.stem}-looks.png" for path in pictures}
    for kind in ("fgsm", "fgsm-looks", "fgsm-difference"):
        names |= {f"{path.stem}-{kind}.png" for path in fooled}
    assert {path.name for path in out.iterdir()} == names
    for path in pictures:
        mask = system.inspect(imaging.read(path, 32).pixels[None]).masks[0]
        seen = np.asarray(Image.open(out / f"{path.stem}-looks.png").convert("L"))
        assert seen.shape == (256, 256)
        assert np.array_equal(seen[::8, ::8], np.rint(255 * (1 - mask)).astype(np.uint8))
    changed = (
        imaging.read(out / f"{fooled[0].stem}-fgsm.png", 32).pixels.astype(int) - imaging.read(fooled[0], 32).pixels
    )
    shown = np.asarray(Image.open(out / f"{fooled[0].stem}-fgsm-difference.png").convert("RGB"))[::8, ::8]
    assert np.array_equal(shown, np.clip(128 + 16 * changed, 0, 255).transpose(1, 2, 0))


def test_inspect_writes_over_nothing_of_this_call(
    ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path
) -> None:
    """An attacked picture beside its original has the name that the original's result would get."""
    first, second = tmp_path / "a.png", tmp_path / "a-fgsm.png"
    for path, source in ((first, pictures[0]), (second, pictures[1])):
        path.write_bytes(source.read_bytes())
    before = second.read_bytes()
    words = ("--attack", "fgsm", "--eps", 128, "--bundle", bundle, "--out", tmp_path)
    code, _, err = ciad("inspect", first, second, *words)
    assert code == 0, err
    written = [
        name for line in err.splitlines() if line.startswith("Wrote ") for name in line[6:].split(" to ")[0].split(", ")
    ]
    assert len(written) == len(set(written)) > 2
    assert all((tmp_path / name).is_file() for name in written)
    assert second.read_bytes() == before
    assert not {"a.png", "a-fgsm.png"} & set(written)


@pytest.mark.parametrize("command", ["attack", "inspect"])
def test_a_file_in_the_place_of_the_folder_is_said_at_once(
    command: str, ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("mine")
    code, text, err = ciad(command, pictures[0], "--attack", "fgsm", "--bundle", bundle, "--out", tmp_path / "out")
    assert (code, text) == (2, "")
    assert f"--out: {tmp_path / 'out'} is a file; name a folder." in err
    assert (tmp_path / "out").read_text() == "mine"


def test_an_older_result_is_not_taken_for_this_attacks(
    ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path
) -> None:
    old = tmp_path / f"{pictures[0].stem}-fgsm.png"
    old.write_bytes(b"of another attack")
    words = ("--attack", "fgsm", "--eps", 0, "--bundle", bundle, "--out", tmp_path)
    code, _, err = ciad("attack", pictures[0], *words)
    assert code == 0
    assert f"{old} is there from before; it is not of this attack." in err
    assert old.read_bytes() == b"of another attack"


def test_a_target_class_by_name_needs_no_second_flag(
    ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path
) -> None:
    goal = next(name for name in CIFAR10.classes if name != label_of(bundle, pictures[0]))
    words = ("--attack", "cw", "--target-class", goal, "--initial-c", 10, "--search-steps", 2, "--iterations", 100)
    code, text, err = ciad("attack", pictures[0], *words, "--bundle", bundle, "--out", tmp_path / "out")
    assert code == 0, err
    assert f"became {goal} (" in text


def test_inspect_as_json(ciad: Ciad, bundle: Path, pictures: list[Path]) -> None:
    words = ("--attack", "fgsm", "--eps", "128", "--rule", "graded", "--label", "CAT", "--json")
    code, text, err = ciad("inspect", *pictures[:2], "--bundle", bundle, *words)
    assert code == 0, err
    records = json.loads(text)
    assert [record["name"] for record in records] == [path.name for path in pictures[:2]]
    for record, path in zip(records, pictures, strict=False):
        assert record["label"]["class"] == "cat"
        assert record["attack"]["settings"]["eps"] == 128
        assert (record["benign"]["detector"], record["benign"]["rule"]) == ("mask", "graded")
        assert record["benign"]["threshold"] == {"value": 1.0, "source": "invented for a test"}
        assert record["benign"]["classifier"]["class"] == label_of(bundle, path)


@pytest.mark.parametrize(
    ("flags", "detector", "rule"),
    [
        ([], "mask", "disagreement"),
        (["--rule", "paper"], "mask", "disagreement"),
        (["--rule", "disagreement"], "mask", "disagreement"),
        (["--rule", "graded"], "mask", "graded"),
        (["--detector", "shuffled-mask"], "shuffled-mask", "disagreement"),
        (["--detector", "shuffled-mask", "--rule", "graded"], "shuffled-mask", "graded"),
        (["--detector", "confidence"], "confidence", "graded"),
        (["--detector", "confidence", "--rule", "graded"], "confidence", "graded"),
    ],
)
def test_another_detector_or_rule_decides(
    flags: list[str], detector: str, rule: str, ciad: Ciad, bundle: Path, pictures: list[Path]
) -> None:
    import torch

    words = ("inspect", pictures[0], "--attack", "fgsm", "--eps", 128, "--bundle", bundle, *flags)
    code, text, err = ciad(*words, "--json")
    assert code == 0, err
    (record,) = json.loads(text)
    expected = inspection.inspect(
        systems.load(bundle, torch.device("cpu")),
        imaging.read(pictures[0], 32).pixels,
        pictures[0].name,
        attack=attacks.create("fgsm", eps=128),
        detector=detector,
        rule=rule,
    )
    assert record["adversarial"] is not None
    for key, verdict in (("benign", expected.benign), ("adversarial", expected.adversarial)):
        assert (record[key]["detector"], record[key]["rule"]) == (detector, rule)
        assert record[key]["score"] == pytest.approx(verdict.score[0])
        assert record[key]["adversarial"] == verdict.adversarial[0]
    assert record["sentence"] == inspection.sentence(expected)
    lines = ciad(*words)[1].splitlines()
    assert lines == [
        f"{pictures[0].name}: {record['sentence']}",
        *(f"  {line}" for line in inspection.explain(expected).others),
    ]
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--detector", "magic"], "detector: 'magic' is none of mask, shuffled-mask, constant-mask, confidence."),
        (
            ["--detector", "confidence", "--rule", "paper"],
            "rule: the detector 'f1's confidence' cannot decide by the rule 'disagreement': it has no class of its"
            " own.",
        ),
        (
            ["--detector", "constant-mask", "--rule", "graded"],
            "rule: the detector 'f2 on a constant mask' cannot decide by the rule 'graded': the bundle's card has no"
            " threshold for it.",
        ),
    ],
)
def test_a_detector_that_cannot_decide_is_refused_once(
    flags: list[str], sentence: str, ciad: Ciad, bundle: Path, pictures: list[Path]
) -> None:
    assert ciad("inspect", *pictures, "--bundle", bundle, *flags) == (1, "", f"ciad: {sentence}\n")


def test_a_rule_that_does_not_exist_is_wrong_use(ciad: Ciad, bundle: Path, pictures: list[Path]) -> None:
    code, text, err = ciad("inspect", pictures[0], "--bundle", bundle, "--rule", "best")
    assert (code, text) == (2, "")
    assert "argument --rule: invalid choice: 'best' (choose from" in err


EVADES = [
    (["mask"], ["mask"]),
    (["mask:paper"], ["mask:disagreement"]),
    (["mask:graded"], ["mask:graded"]),
    (["shuffled-mask:disagreement", "confidence"], ["shuffled-mask:disagreement", "confidence:graded"]),
]


def evading(bundle: Path, pictures: list[Path], evade: list[str]) -> tuple[systems.System, AttackResult]:
    """What FGSM with eps = 128 makes of the pictures if it has to evade these detectors."""
    import torch

    system = systems.load(bundle, torch.device("cpu"))
    batch = np.stack([imaging.read(path, 32).pixels for path in pictures])
    classes = system.inspect(batch).y1
    network = system.network(bundles.CLASSIFIER)
    return system, attacks.create("fgsm", eps=128).run(network, batch, classes, evade=system.evasions(evade))


@pytest.mark.parametrize(("words", "evade"), EVADES)
def test_attack_evades_detectors(
    words: list[str], evade: list[str], ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path
) -> None:
    system, expected = evading(bundle, pictures, evade)
    flags = [flag for one in words for flag in ("--evade", one)]
    out = tmp_path / "out"
    code, text, err = ciad(
        "attack", *pictures, "--attack", "fgsm", "--eps", 128, "--bundle", bundle, "--out", out, *flags
    )
    assert code == 0, err
    *lines, last = text.splitlines()
    names = ", ".join(words).replace("paper", "disagreement")
    fooled, evaded = expected.fooled.sum(), expected.success.sum()
    assert fooled == 3, "the test needs images that fool f1"
    assert evade != ["mask"] or 0 < evaded < 3, "the test needs images that are flagged, and one that is not"
    assert last.startswith(f"{fooled} of 3 fooled the classifier, {evaded} of them also evaded {names} (")
    for row, (path, line) in enumerate(zip(pictures, lines, strict=True)):
        saved = imaging.read(out / f"{path.stem}-fgsm.png", 32).pixels
        assert np.array_equal(saved, expected.images[row])  # also one that is flagged
        assert (", flagged by a detector -> " in line) == (not expected.evaded[row])
        flagged = [bool(system.inspect(saved[None]).by(*one.split(":")).adversarial[0]) for one in evade]
        assert expected.evaded[row] == (not any(flagged))


@pytest.mark.parametrize(("words", "evade"), EVADES[1::2])
def test_inspect_attacks_detectors_too(
    words: list[str], evade: list[str], ciad: Ciad, bundle: Path, pictures: list[Path]
) -> None:
    _, expected = evading(bundle, pictures, evade)
    flags = [flag for one in words for flag in ("--evade", one)]
    asked = ("inspect", *pictures, "--attack", "fgsm", "--eps", 128, "--bundle", bundle, *flags)
    code, text, err = ciad(*asked, "--json")
    assert code == 0, err
    for row, record in enumerate(json.loads(text)):
        assert record["attack"]["fooled"] is True
        assert record["attack"]["evaded"] == expected.evaded[row]
        assert record["attack"]["linf"] == expected.linf[row]
        assert record["attack"]["l2"] == pytest.approx(expected.l2[row])
        failed = "The attack fooled the classifier, but it did not evade what it had to"
        assert (failed in record["sentence"]) == (not expected.evaded[row])
        for one in evade if expected.evaded[row] else ():
            name, _, rule = one.partition(":")
            assert record["adversarial"]["detectors"][name]["flagged"][rule or "disagreement"] is False


@pytest.mark.parametrize("command", ["attack", "inspect"])
@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            ["--attack", "fgsm", "--evade", "magic"],
            "evade: bundle 'tiny' has no detector 'magic'; it has mask, shuffled-mask, constant-mask, confidence.",
        ),
        (["--attack", "fgsm", "--evade", "mask:best"], "evade: 'best' is none of disagreement, graded."),
        (
            ["--attack", "fgsm", "--evade", "confidence:paper"],
            "evade: the detector 'f1's confidence' cannot decide by the rule 'disagreement': it has no class of its"
            " own.",
        ),
        (
            ["--attack", "fgsm", "--evade", "constant-mask:graded"],
            "evade: the detector 'constant-mask' gives every image the same class: no attack can evade it; choose"
            " another.",
        ),
        (
            ["--attack", "deepfool", "--evade", "mask", "--evade", "confidence"],
            "DeepFool cannot evade a detector (mask, confidence); choose another attack.",
        ),
    ],
)
def test_what_cannot_be_evaded_is_refused_once(
    command: str, flags: list[str], sentence: str, ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path
) -> None:
    out = ["--out", tmp_path / "out"] if command == "attack" else []
    code, text, err = ciad(command, *pictures, "--bundle", bundle, *out, *flags)
    assert (code, text, err) == (1, "", f"ciad: {sentence}\n")
    assert not (tmp_path / "out").exists()


def test_a_detector_that_ignores_the_image_cannot_be_evaded(
    ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path
) -> None:
    """f2 on a constant mask does not depend on the image."""
    words = ("--attack", "fgsm", "--evade", "constant-mask", "--bundle", bundle)
    sentence = "evade: the detector 'constant-mask' gives every image the same class: no attack can evade it; choose"
    sentence += " another."
    code, text, err = ciad("attack", pictures[0], *words, "--out", tmp_path / "out")
    assert (code, text, err) == (1, "", f"ciad: {sentence}\n")
    code, text, err = ciad("inspect", pictures[0], *words)
    assert (code, text, err) == (1, "", f"ciad: {sentence}\n")


def test_nothing_evades_without_an_attack(ciad: Ciad, bundle: Path, pictures: list[Path]) -> None:
    code, text, err = ciad("inspect", pictures[0], "--bundle", bundle, "--evade", "mask")
    assert (code, text) == (2, "")
    assert err.endswith("ciad inspect: error: --evade goes with --attack: it is the attack that evades.\n")


def test_json_is_valid_even_where_nothing_could_be_read(ciad: Ciad, bundle: Path, tmp_path: Path) -> None:
    code, text, err = ciad("inspect", tmp_path / "none.png", "--json", "--bundle", bundle)
    assert (code, json.loads(text)) == (1, [])
    assert "none.png" in err


@pytest.mark.parametrize("command", ["attack", "inspect"])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--attack", "fgsm", "--theta", "1"], "--theta is a setting of jsma, not of fgsm."),
        (["--attack", "fgsm", "--eps", "300"], "fgsm: eps = 300.0 is not a number from 0 to 255 grey levels."),
        (
            ["--attack", "nonsense"],
            "attack: 'nonsense' is none of fgsm, bim, pgd, opgd, square, jsma, cw, lbfgs, deepfool, ddn, universal.",
        ),
        (["--attack", "fgsm", "--label", "banana"], "--label: 'banana' is none of airplane, "),
    ],
)
def test_wrong_settings_are_wrong_use(
    command: str, words: list[str], sentence: str, ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path
) -> None:
    out = ["--out", tmp_path / "out"] if command == "attack" else []
    code, text, err = ciad(command, pictures[0], "--bundle", bundle, *out, *words)
    assert (code, text) == (2, "")
    assert f"ciad {command}: error: {sentence}" in err
    assert not (tmp_path / "out").exists()


def test_an_unknown_bundle_fails_with_what_there_is(ciad: Ciad, pictures: list[Path]) -> None:
    code, text, err = ciad("inspect", pictures[0], "--bundle", "nonsense")
    assert (code, text) == (1, "")
    assert err.startswith("ciad: No bundle called 'nonsense'")
    assert err.count("\n") == 1


def test_a_device_that_is_not_there_fails(ciad: Ciad, bundle: Path, pictures: list[Path]) -> None:
    code, _, err = ciad("inspect", pictures[0], "--bundle", bundle, "--device", "abacus")
    assert code == 1
    assert err.startswith("ciad: device: 'abacus' is none of")


def test_a_universal_perturbation_is_kept_and_used_again(
    ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path
) -> None:
    kept = tmp_path / "kept" / "v.safetensors"
    asked = ("attack", *pictures, "--attack", "universal", "--bundle", bundle, "--perturbation", kept)
    settings = ("--eps", 64, "--passes", 2, "--learns-from", 50)
    code, first, err = ciad(*asked, *settings, "--out", tmp_path / "first")
    assert code == 0, err
    assert "Universal: computed from 50 images, of which it fools " in err
    assert f"Wrote {kept}." in err
    written = kept.read_bytes()
    code, second, err = ciad(*asked, "--eps", 64, "--out", tmp_path / "second")
    assert code == 0, err
    assert f"{kept}: eps 64, computed from 50 images, of which it fools " in err
    assert "Wrote" not in err
    assert " became " in second
    assert second.replace("second", "first").splitlines()[:-1] == first.splitlines()[:-1]  # without the seconds
    assert kept.read_bytes() == written
    assert "another classifier" not in err
    code, _, err = ciad(*asked, "--bundle", "paper", "--out", tmp_path / "other")
    assert code == 0, err
    assert f"{kept} was computed for another classifier than that of the bundle 'paper'" in err

    code, _, err = ciad(*asked, "--eps", 8, "--out", tmp_path / "third")
    assert code == 2
    assert f"{kept} was computed with eps = 64.0, not 8.0" in err
    code, _, err = ciad(*asked, "--attack", "fgsm", "--out", tmp_path / "third")
    assert (code, "--perturbation goes with --attack universal, not fgsm" in err) == (2, True)
    kept.write_bytes(b"something else")
    code, _, err = ciad(*asked, "--out", tmp_path / "third")
    assert (code, "this is not a universal perturbation" in err) == (1, True)
    assert kept.read_bytes() == b"something else"
