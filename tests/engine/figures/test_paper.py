"""The paper's figures show what they say, of the shipped bundle and samples."""

import dataclasses

import numpy as np
import pytest
import torch

from ciad_engine import attacks, datasets, systems
from ciad_engine.counting import percent
from ciad_engine.errors import DataError, SettingError
from ciad_engine.figures import paper
from ciad_engine.figures.inspected import mask, of_inspection
from ciad_engine.inspection import inspect
from ciad_engine.jobs import Cancelled, Job
from tests.engine.attacks.toys import Recorder

QUICK = (attacks.create("fgsm"), attacks.create("jsma"), attacks.create("cw", iterations=30, search_steps=3))


@pytest.fixture(scope="module")
def system():
    return systems.load("paper", torch.device("cpu"))


@pytest.fixture(scope="module")
def samples():
    return datasets.samples()


@pytest.fixture(scope="module")
def figures(system, samples):
    return {figure.name: figure for figure in paper.paper_figures(system, samples, QUICK)}


def says(system, images: list[np.ndarray]):
    return system.inspect(np.stack(images)).by("mask")


def shown(row) -> list[np.ndarray]:
    return [panel.pixels for panel in row if panel is not None]


def test_they_are_the_papers(figures):
    assert list(figures) == ["figure1", "figure4", "figure3", "figure6", "figure5"]
    for figure in figures.values():
        assert all(len(row) == len(figure.rows[0]) for row in figure.rows)
        assert len(figure.sides) in (0, len(figure.rows))
        assert len(figure.heads) in (0, len(figure.rows[0]))
        assert any("paper (" in note for note in figure.notes)


def test_figure_1_has_every_class_with_its_mask(figures, system, samples):
    images, masks = (shown(row) for row in figures["figure1"].rows)
    verdict = says(system, images)
    names = list(system.card.classes)
    captions = [panel.caption[0].split(", ") for panel in figures["figure1"].rows[0]]
    assert [name for name, _ in captions] == [f"f1: {name}" for name in names]
    assert [chance for _, chance in captions] == [percent(verdict.p1[k, y]) for k, y in enumerate(verdict.y1)]
    assert [system.card.classes[y] for y in verdict.y1] == names
    for k, shown_mask in enumerate(masks):
        np.testing.assert_array_equal(shown_mask[0], np.rint(255 * (1 - verdict.masks[k])))
    known = {image.tobytes() for image in samples.images}
    assert all(image.tobytes() in known for image in images)


def test_figures_3_and_6_show_one_image_before_and_after_each_attack(figures, system):
    for name in ("figure3", "figure6"):
        images, masks = (shown(row) for row in figures[name].rows)
        assert figures[name].heads == ("original", *(attack.title for attack in QUICK))
        verdict = says(system, images)
        assert (verdict.y1[1:] != verdict.y1[0]).all()
        for k, panel in enumerate(figures[name].rows[0]):
            assert panel.caption[0].startswith(f"f1: {system.card.classes[verdict.y1[k]]}, ")
            assert figures[name].rows[1][k].caption[0].startswith(f"f2: {system.card.classes[verdict.y2[k]]}, ")
        np.testing.assert_array_equal(masks[2][0], np.rint(255 * (1 - verdict.masks[2])))
        change = np.abs(images[1].astype(int) - images[0])
        assert 0 < change.max() <= 8
    assert shown(figures["figure3"].rows[0])[0].tobytes() != shown(figures["figure6"].rows[0])[0].tobytes()


def test_figure_4_shows_masks_that_f2_takes_for_another_class(figures, system):
    verdict = says(system, [row[0].pixels for row in figures["figure4"].rows])
    assert len(verdict) == 2
    assert (verdict.y1 != verdict.y2).all()


def test_figure_5_shows_what_each_attack_made_of_each_image(figures, system):
    rows = figures["figure5"].rows
    assert len(rows) == 4
    originals = says(system, shown(rows[0]))
    chances = [percent(originals.p1[k, y]) for k, y in enumerate(originals.y1)]
    assert [panel.caption for panel in rows[0]] == [
        (system.card.classes[y], chance) for y, chance in zip(originals.y1, chances, strict=True)
    ]
    for row in rows[1:]:
        fooled = says(system, shown(row))
        assert (fooled.y1 != originals.y1).all()
        assert [panel.caption[0] for panel in row] == [system.card.classes[y] for y in fooled.y1]


def test_the_seed_decides(system, samples, figures):
    again = next(iter(paper.paper_figures(system, samples, QUICK)))
    other = next(iter(paper.paper_figures(system, samples, QUICK, seed=1)))
    assert [p.pixels.tobytes() for p in again.rows[0]] == [p.pixels.tobytes() for p in figures["figure1"].rows[0]]
    assert [p.pixels.tobytes() for p in other.rows[0]] != [p.pixels.tobytes() for p in again.rows[0]]


def test_where_there_is_nothing_to_show_it_says_so(system, samples):
    weak = (attacks.create("fgsm", eps=0),)
    made = paper.paper_figures(system, samples, weak)
    assert [next(made).name, next(made).name] == ["figure1", "figure4"]
    with pytest.raises(DataError, match=r"^Figures 3, 5 and 6 are left out: .* 0 can be fooled by all of FGSM"):
        next(made)
    verdict = system.inspect(samples.images[:100]).by("mask")
    agreed = (verdict.y1 == samples.labels[:100]) & (verdict.y2 == samples.labels[:100])
    made = paper.paper_figures(system, samples.subset(np.flatnonzero(agreed)[:20]), QUICK[:2])
    assert [next(made).name for _ in range(4)] == ["figure1", "figure3", "figure6", "figure5"]
    with pytest.raises(DataError, match=r"^Figure 4 is left out: of 20 images of"):
        next(made)
    wrong = dataclasses.replace(samples.subset(np.arange(20)), labels=(samples.labels[:20] + 5) % 10)
    right = system.inspect(wrong.images).y1 == wrong.labels
    assert not right.any(), "the test needs images that f1 gets wrong"
    with pytest.raises(DataError, match=r"names no image of .* right"):
        list(paper.paper_figures(system, wrong, QUICK))


def with_detectors(system, names: list[str]) -> systems.System:
    """The system with these detectors of its own alone, in this order."""
    card = dataclasses.replace(system.card, detectors=tuple(system.card.detector(name) for name in names))
    return systems.assemble(card, system.networks, system.device)


def test_the_mask_is_shown_whichever_detector_is_the_bundles_first(system, samples, figures):
    made = next(paper.paper_figures(with_detectors(system, ["confidence", "mask"]), samples, QUICK))
    for row, expected in zip(made.rows, figures["figure1"].rows, strict=True):
        assert [panel.caption for panel in row] == [panel.caption for panel in expected]
        np.testing.assert_array_equal(shown(row), shown(expected))
    with pytest.raises(SettingError, match="detector: 'mask' is none of confidence"):
        next(paper.paper_figures(with_detectors(system, ["confidence"]), samples, QUICK))


def test_progress_and_cancel(system, samples):
    job = Recorder()
    list(paper.paper_figures(system, samples, QUICK[:1], job=job))
    assert job.fractions == sorted(job.fractions)
    assert job.fractions[-1] == 1
    job = Job()
    job.cancel()
    with pytest.raises(Cancelled):
        next(paper.paper_figures(system, samples, QUICK, job=job))


def test_an_inspection_is_a_figure_with_and_without_an_attack(system, samples):
    plain = of_inspection(inspect(system, samples.images[0], name="cat.png"))
    assert (len(plain.rows), len(plain.rows[0]), plain.heads) == (2, 1, ("original",))
    attacked = inspect(system, samples.images[0], attack=attacks.create("fgsm", eps=16))
    assert attacked.adversarial is not None
    failed = inspect(system, samples.images[0], attack=attacks.create("fgsm", eps=0))
    other = inspect(system, samples.images[0], attack=attacks.create("jsma"))
    figure = of_inspection(attacked, [("FGSM 16", attacked), ("FGSM 0", failed), ("JSMA", other)])
    assert figure.heads == ("original", "FGSM 16", "JSMA")
    for column, found in ((1, attacked), (2, other)):
        np.testing.assert_array_equal(figure.rows[0][column].pixels, found.attack.images[0])
        np.testing.assert_array_equal(figure.rows[1][column].pixels, mask(found.adversarial, 0))
        assert figure.rows[0][column].caption[0].startswith(f"f1: {found.classes[found.adversarial.y1[0]]}, ")
