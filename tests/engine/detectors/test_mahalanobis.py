"""Distances to Gaussians by hand, Gaussians fitted to features that are known, and the detector made of both."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from ciad_engine import bundles, detectors, networks
from ciad_engine.detectors.base import Inputs
from ciad_engine.detectors.mahalanobis import Mahalanobis, penultimate
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.domain import Domain
from ciad_engine.jobs import Cancelled, Job
from ciad_engine.networks.gaussian import Gaussian
from tests.engine.training.tiny import image_set


class Means(nn.Module):
    """A classifier whose features are the mean red, the mean green and a constant."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(0.9), nn.Linear(3, 2))

    def forward(self, images):
        red, green, _ = images.mean((2, 3)).unbind(1)
        return self.head(torch.stack([red, green, torch.ones_like(red)], 1))


@pytest.fixture
def f1():
    return Means().eval().requires_grad_(False)


@pytest.fixture
def training():
    """Two classes of any colours."""
    some = image_set(60, 4, "some")
    colours = np.random.default_rng(0).integers(0, 256, (60, 3, 1, 1), dtype=np.uint8)
    return dataclasses.replace(some, images=some.images // 4 + colours // 2, labels=some.labels % 2,
                               domain=Domain(("first", "second"), 32))  # fmt: skip


def by_hand() -> Gaussian:
    gaussian = Gaussian(2, classes=2)
    gaussian.means.copy_(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    gaussian.precision.copy_(torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
    return gaussian


def test_distances_are_squared_and_weighed_by_the_inverse_covariance():
    found = by_hand()(torch.tensor([[1.0, 1.0], [3.0, 0.5], [2.0, 0.0]]))
    assert found.tolist() == [[5, 5], [10, 2], [4, 0]]


def test_correlated_features_are_near_along_their_correlation():
    gaussian = by_hand()
    gaussian.precision.copy_(torch.linalg.inv(torch.tensor([[1.0, 0.5], [0.5, 1.0]])))
    along, across = gaussian(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))[:, 0].tolist()
    assert (along, across) == pytest.approx((4 / 3, 4))


def test_means_are_those_of_classes_and_the_covariance_is_common():
    draw = np.random.default_rng(0)
    labels = np.arange(300) % 3
    features = draw.normal(size=(300, 4)) @ draw.normal(size=(4, 4)) + 5 * labels[:, None]
    gaussian = Gaussian(4, classes=3)
    gaussian.fit(torch.from_numpy(features), torch.from_numpy(labels))
    means = np.stack([features[labels == k].mean(0) for k in range(3)])
    np.testing.assert_allclose(gaussian.means, means)
    covariance = sum(np.cov(features[labels == k].T, bias=True) for k in range(3)) / 3
    np.testing.assert_allclose(gaussian.precision, np.linalg.inv(covariance), rtol=1e-8)


def test_a_feature_that_does_not_vary_does_not_count():
    features = torch.tensor([[0.0, 7.0], [2.0, 7.0], [10.0, 7.0], [12.0, 7.0]])
    gaussian = Gaussian(2, classes=3)
    gaussian.fit(features, torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(gaussian.precision, torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double())
    assert gaussian.means.tolist() == [[1, 7], [11, 7], [6, 7]]  # nothing is known of the third class: the mean of all
    assert gaussian(torch.tensor([[3.0, 100.0]])).tolist() == [[4, 64, 9]]


@pytest.mark.parametrize(("name", "features"), [("alexnet", 192), ("vgg-like", 256), ("resnet", 256), ("mlp", 500)])
def test_features_of_every_classifier_are_what_its_last_layer_is_given(name, features):
    network = networks.create(name, classes=7).eval()
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = penultimate(network, images)
    assert found.shape == (2, features)
    torch.testing.assert_close(last(found), network(images))
    assert torch.autograd.grad(found.square().sum(), images)[0].abs().amax((1, 2, 3)).min() > 0
    assert not last._forward_pre_hooks


def test_it_is_fitted_to_the_features_of_training_images(f1, training):
    ((name, (kind, arguments, gaussian)),) = Mahalanobis("m", f1.train(), {}).fitted(training).items()
    assert (name, kind, arguments) == ("gaussian", "gaussian", {"features": 3, "classes": 2})
    assert f1.training  # as before; while it was fitted, nothing was dropped
    features = np.concatenate([training.images.mean((2, 3))[:, :2] / 255, np.ones((60, 1))], 1)
    means = [features[training.labels == k].mean(0) for k in range(2)]
    np.testing.assert_allclose(gaussian.means, means, rtol=1e-5)
    away = (features - np.stack(means)[training.labels])[:, :2]
    np.testing.assert_allclose(gaussian.precision[:2, :2], np.linalg.inv(away.T @ away / 60), rtol=1e-4)
    assert gaussian.precision[2].abs().max() < 1e-6


def test_fitting_can_be_cancelled(f1, training):
    job = Job()
    job.cancel()
    with pytest.raises(Cancelled):
        Mahalanobis("m", f1, {}).fitted(training, job)


def test_the_score_is_the_distance_to_the_nearest_class(f1):
    gaussian = Gaussian(3, classes=2)
    gaussian.means.copy_(torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]]))
    gaussian.precision.copy_(torch.diag(torch.tensor([1.0, 2.0, 3.0])))
    detector = Mahalanobis("m", f1, {"gaussian": gaussian})
    images = torch.tensor([0.25, 0.5, 0.0])[None, :, None, None].expand(1, 3, 8, 8)
    inputs = Inputs(images)
    for classes in (0, 1):  # whichever class f1 predicts
        assert detector.score(inputs, torch.tensor([classes])).item() == pytest.approx(0.25**2 + 2 * 0.5**2)
    odds = detector.log_probabilities(inputs)[0]
    assert (odds[0] - odds[1]).item() == pytest.approx((0.75**2 - 0.25**2) / 2)
    assert odds.exp().sum().item() == pytest.approx(1)


def test_an_attack_gets_the_same_values_and_a_gradient(f1, training):
    ((_, (_, _, gaussian)),) = Mahalanobis("m", f1, {}).fitted(training).items()
    detector = Mahalanobis("m", f1, {"gaussian": gaussian}, {0.05: Threshold(3.0, "")})
    images, classes = torch.from_numpy(training.images[:4]) / 255, torch.zeros(4, dtype=torch.int64)
    x = images.clone().requires_grad_()
    score = detector.score(Inputs(x, followed=True), classes)
    torch.testing.assert_close(score, detector.score(Inputs(images), classes), rtol=0, atol=0)
    assert torch.autograd.grad(score.sum(), x)[0].abs().amax((1, 2, 3)).min() > 0
    torch.testing.assert_close(detector.excess(images, classes, detectors.GRADED), score.detach() - 3)
    assert list(detector.rules) == [detectors.GRADED]


def test_no_digit_is_lost_in_the_file(tmp_path):
    gaussian = by_hand()
    gaussian.precision[0, 0] = 1 / 3
    content = {"name": "x", "domain": {"classes": ["a", "b"], "size": 32}, "detectors": [], "networks": {
        bundles.CLASSIFIER: {"network": "gaussian", "arguments": {"features": 2, "classes": 2}, "file": "g",
                             "sha256": bundles.save_network(gaussian, tmp_path / "g")}}}  # fmt: skip
    loaded = bundles.load_networks(bundles.card_of(tmp_path, content), torch.device("cpu"))[bundles.CLASSIFIER]
    assert torch.equal(loaded.precision, gaussian.precision)
