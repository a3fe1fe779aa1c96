import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ciad_engine.attacks.catalogue import FGSM
from ciad_engine.attacks.model import Model, look
from ciad_engine.errors import SettingError
from ciad_engine.imaging import to_unit

from .toys import Curved, Linear, answers, random_images


def test_it_is_the_sign_of_the_cross_entropys_gradient():
    network, images = Curved().eval(), random_images(20, low=20, high=235)
    labels = answers(network, images)
    x = to_unit(torch.tensor(images)).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(x), torch.tensor(labels)), x)
    expected = images + 12 * np.sign(gradient.numpy()).astype(int)
    result = FGSM(eps=12).run(network, images, labels)
    assert result.success.sum() >= 5
    np.testing.assert_array_equal(result.images[result.success], expected[result.success])
    np.testing.assert_array_equal(result.success, answers(network, expected.astype(np.uint8)) != labels)


def test_with_a_target_it_goes_down_the_targets_cross_entropy():
    network, images = Curved().eval(), random_images(40, low=20, high=235)
    labels = answers(network, images)
    x = to_unit(torch.tensor(images)).requires_grad_()
    aim = torch.tensor((labels + 1) % 10)
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(x), aim), x)
    expected = images - 20 * np.sign(gradient.numpy()).astype(int)
    result = FGSM(eps=20, target="next").run(network, images, labels)
    assert result.success.sum() >= 3
    np.testing.assert_array_equal(result.images[result.success], expected[result.success])
    np.testing.assert_array_equal(result.success, answers(network, expected.astype(np.uint8)) == aim.numpy())


def test_on_two_linear_classes_it_succeeds_exactly_where_the_optimum_does():
    """No image within eps is worse for the label than x + eps sign(difference of the weights)."""
    network, images = Linear(2, scale=0.3), random_images(60)
    labels = answers(network, images)
    weight = network.weight.detach().numpy()
    for eps in (1, 4, 16):
        worst = 0
        for label in (0, 1):
            slope = weight[:, 1 - label] - weight[:, label]
            moved = np.clip(images.reshape(60, -1) + eps * np.sign(slope), 0, 255) / 255
            worst = worst + (labels == label) * (moved @ slope)
        result = FGSM(eps=eps).run(network, images, labels)
        np.testing.assert_array_equal(result.success, worst > 0)
        assert result.linf.max() <= eps


def test_on_a_linear_model_a_larger_budget_loses_no_image():
    network, images = Linear(2, scale=0.3), random_images(60, seed=1)
    labels = answers(network, images)
    before = np.zeros(60, bool)
    rates = []
    for eps in (0, 1, 1.4, 2, 3.7, 8, 16, 64, 255):
        result = FGSM(eps=eps).run(network, images, labels)
        assert (result.success | ~before).all()
        before = result.success
        rates.append(result.success.mean())
        assert result.linf.max() <= eps
    assert rates[0] == 0
    assert rates[1] == rates[2]  # a fraction of a grey level cannot be stored
    assert rates[-1] == 1


def test_it_takes_two_forward_passes_and_one_backward_pass():
    """The gradient is that of the pass that tells what the network gets right."""
    network, images = Curved(), random_images(5)
    labels = answers(network, images)
    labels[0] = (labels[0] + 1) % 10
    result = FGSM().run(network, images, labels)
    assert result.backwards.tolist() == [0, 1, 1, 1, 1]
    assert result.forwards.tolist() == [1, 2, 2, 2, 2]
    assert result.steps.tolist() == [0, 1, 1, 1, 1]


def test_the_first_look_is_used_once_and_for_its_own_images_alone():
    network, images = Curved().eval().requires_grad_(False), random_images(4)
    seen = look(network, torch.tensor(images))
    x = to_unit(torch.tensor(images))
    model = Model(network, 4, look=seen)
    here, logits = model.first_logits(x)
    first = model.gradient(logits[:, 0], here, torch.arange(4))
    assert model.forwards.sum() == 0
    again, logits = model.first_logits(x)  # its graph is gone: another pass
    assert model.forwards.tolist() == [1] * 4
    torch.testing.assert_close(model.gradient(logits[:, 0], again, torch.arange(4)), first)
    elsewhere = Model(network, 4, look=look(network, torch.tensor(images)))
    here, logits = elsewhere.first_logits(x * 0.5)
    assert elsewhere.forwards.tolist() == [1] * 4
    torch.testing.assert_close(logits, network(x * 0.5))


@pytest.mark.parametrize("eps", [-0.1, 255.5, float("nan"), float("inf"), "8", True, None])
def test_bad_budgets(eps):
    with pytest.raises(SettingError, match="eps"):
        FGSM(eps=eps)


def test_a_whole_number_is_the_same_setting_as_its_float():
    assert FGSM(eps=8) == FGSM()
    assert isinstance(FGSM(eps=8).eps, float)


def test_a_budget_that_no_8_bit_value_can_use_is_refused():
    """Most likely somebody meant a part of 1: 0.03 for 8/255."""
    with pytest.raises(SettingError, match=r"eps = 0\.03 is less than one grey level"):
        FGSM(eps=0.03)
