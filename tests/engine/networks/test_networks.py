"""The networks have the published shapes and sizes, and the fast norm equals PyTorch's."""

import pytest
import torch
from torch import nn

from ciad_engine import networks
from ciad_engine.errors import SettingError
from ciad_engine.networks.norm import LocalResponseNorm


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# Counted by hand from the layer lists in the papers (biases included).
SIZES = {
    "alexnet": (3 * 25 + 1) * 64 + (64 * 25 + 1) * 64 + 2 * (64 * 9 + 1) * 64 + (64 * 9 + 1) * 32
    + (512 + 1) * 384 + (384 + 1) * 192 + (192 + 1) * 10,
    "lan": (3072 + 1) * 500 + 2 * (500 + 1) * 500 + (500 + 1) * 1024,
    "mlp": (3072 + 1) * 500 + 2 * (500 + 1) * 500 + (500 + 1) * 10,
    "lenet": (25 + 1) * 6 + (6 * 25 + 1) * 16 + (400 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * 10,
}  # fmt: skip


@pytest.mark.parametrize("name", list(SIZES))
def test_sizes_are_the_published_ones(name):
    assert parameters(networks.create(name)) == SIZES[name]


@pytest.mark.parametrize("size", [16, 28, 32, 33, 48, 64])
@pytest.mark.parametrize(("name", "channels"), [("alexnet", 3), ("vgg-like", 3), ("lenet", 1), ("mlp", 3)])
def test_classifiers_return_one_logit_a_class_at_any_size(name, channels, size):
    if name == "vgg-like" and size < 32:
        with pytest.raises(SettingError, match=rf"vgg-like.*size = {size}, but it takes images of 32x32"):
            networks.create(name, size=size)
        return
    network = networks.create(name, classes=7, size=size).eval()
    assert network(torch.rand(2, channels, size, size)).shape == (2, 7)


def test_a_mask_that_leaves_nothing_after_pooling_is_refused():
    with pytest.raises(SettingError, match=r"lenet.*size = 15, but it takes masks of 16x16"):
        networks.create("lenet", size=15)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_the_mask_is_one_channel_between_0_and_1(size):
    mask = networks.create("lan", size=size, widths=[8])(torch.rand(5, 3, size, size))
    assert mask.shape == (5, 1, size, size)
    assert mask.dtype == torch.float32
    assert 0 <= mask.min() <= mask.max() <= 1


@pytest.mark.parametrize(("name", "arguments"), [("resnet", {"widths": (8, 8, 16)}), ("unet", {"widths": (8, 8, 16)})])
def test_networks_of_halved_images_take_multiples_of_eight(name, arguments):
    for size in (16, 32, 40, 64):
        found = networks.create(name, size=size, **arguments)(torch.rand(2, 3, size, size))
        assert found.shape == ((2, 1, size, size) if name == "unet" else (2, 10))
    with pytest.raises(SettingError, match=rf"{name}.*size = 33, but it takes multiples of 8"):
        networks.create(name, size=33, **arguments)


def test_the_convolutional_mask_is_the_sigmoid_of_its_logits():
    network = networks.create("unet", widths=(8, 8)).eval()
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(network(images), network.mask_logits(images).sigmoid())
    # Every pixel of the image can matter to a pixel of the mask nearby.
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[:, 0, 16, 16].sum(), x)
    assert (gradient[:, :, 14:19, 14:19] != 0).all()


def test_names_and_arguments_are_checked():
    with pytest.raises(SettingError, match="nonsense"):
        networks.create("nonsense")
    with pytest.raises(SettingError, match="lenet"):
        networks.create("lenet", depth=3)


@pytest.mark.parametrize("channels", [3, 32, 64])
@pytest.mark.parametrize("alpha", [1e-3, 1.0])
def test_the_fast_norm_equals_pytorchs_with_its_gradient(channels, alpha):
    torch.manual_seed(0)
    x = (3 * torch.randn(4, channels, 5, 6, dtype=torch.float64)).requires_grad_()
    fast = LocalResponseNorm(channels, size=9, alpha=alpha).double()
    slow = nn.LocalResponseNorm(size=9, alpha=alpha, beta=0.75, k=1.0)
    torch.testing.assert_close(fast(x), slow(x), rtol=1e-6, atol=1e-9)
    weight = torch.randn_like(x)
    ours, theirs = (torch.autograd.grad((norm(x) * weight).sum(), x)[0] for norm in (fast, slow))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)
