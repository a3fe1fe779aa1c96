"""The controls see what they are said to see."""

import numpy as np
import pytest
import torch
from torch import nn

from ciad_engine.detectors import controls
from ciad_engine.detectors.contrast import ContrastDetector
from ciad_engine.detectors.controls import CONFIDENCE, CONSTANT, MLP, SHUFFLED, second_opinions
from ciad_engine.evaluation import opinions
from tests.engine.evaluation import tiny


class Watched(nn.Module):
    """Keeps what it is given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, []

    def forward(self, x):
        self.seen.append(x.clone())
        return self.inner(x)


@pytest.fixture
def images():
    return tiny.data(20).images


@pytest.fixture
def verdict(images):
    return ContrastDetector(tiny.Classifier(1), tiny.MaskGenerator(), tiny.MaskClassifier()).inspect(images)


def test_a_control_answers_for_f2(images, verdict):
    """Class and score are those of the network's softmax; the score is of f1's class, as the graded contrast's."""
    control = tiny.Classifier(7)
    found = second_opinions(verdict, images, tiny.MaskClassifier(), control)[MLP]
    with torch.no_grad():
        log_p = control(torch.from_numpy(images) / 255).log_softmax(1).numpy()
    np.testing.assert_array_equal(found.y, log_p.argmax(1))
    np.testing.assert_allclose(found.score, -log_p[np.arange(20), verdict.y1], rtol=1e-6)
    assert MLP not in second_opinions(verdict, images, tiny.MaskClassifier(), None)


def test_the_shuffled_mask_has_the_masks_values_in_one_order_for_all(images, verdict, monkeypatch):
    monkeypatch.setattr(controls, "BATCH", 7)
    watched = Watched(tiny.MaskClassifier())
    found = second_opinions(verdict, images, watched, None)
    seen = torch.cat(watched.seen)[:20].flatten(1).numpy()
    masks = verdict.masks.reshape(20, -1)
    np.testing.assert_array_equal(np.sort(seen, 1), np.sort(masks, 1))
    assert (seen != masks).any(1).all()
    moved = np.arange(1024, dtype=np.float32)[None].repeat(20, 0).reshape(20, 32, 32)
    other = Watched(tiny.MaskClassifier())
    second_opinions(type(verdict)(**{**vars(verdict), "masks": moved}), images, other, None)
    order = torch.cat(other.seen)[:20].flatten(1).long()
    assert (order == order[0]).all()
    np.testing.assert_array_equal(seen, masks[:, order[0].numpy()])
    assert set(found) == {SHUFFLED, CONSTANT}


def test_the_constant_mask_says_the_same_of_every_image(images, verdict):
    found = second_opinions(verdict, images, tiny.MaskClassifier(), None)[CONSTANT]
    assert len(set(found.y)) == 1
    for label in set(verdict.y1):
        assert len(set(found.score[verdict.y1 == label])) == 1


def test_scores_are_the_opinions_and_f1s_doubt_of_its_own_class(images, verdict):
    networks = tiny.MaskClassifier(), tiny.Classifier(7)
    found = controls.scores(verdict, images, *networks)
    opinions = second_opinions(verdict, images, *networks)
    for name in (MLP, SHUFFLED):
        np.testing.assert_array_equal(found.pop(name), opinions[name].score)
    np.testing.assert_allclose(found.pop(CONFIDENCE), -np.log(verdict.p1[np.arange(20), verdict.y1]))
    assert not found


def test_the_table_knows_every_control():
    assert set(opinions.WORDS) == {MLP, SHUFFLED, CONSTANT}
    assert set(opinions.GRADED) == {MLP, SHUFFLED, CONFIDENCE}
