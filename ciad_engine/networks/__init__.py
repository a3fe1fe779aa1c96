"""The networks by name, one file each; a bundle's card names them with their arguments.

They are made for a domain by the arguments `size` and, of classifiers, `classes`; the defaults are CIFAR-10's.

Importing this package imports no torch.
"""

from __future__ import annotations

import inspect
import pkgutil
from typing import TYPE_CHECKING, Any

from ciad_engine.errors import DAMAGE, SettingError

if TYPE_CHECKING:
    from torch import nn

_REGISTRY = {
    "alexnet": "ciad_engine.networks.alexnet:AlexNet",
    "vgg-like": "ciad_engine.networks.vgg_like:VGGLike",
    "lan": "ciad_engine.networks.lan:LatentAttentionNetwork",
    "lenet": "ciad_engine.networks.lenet:LeNet",
    "unet": "ciad_engine.networks.unet:UNet",
    "resnet": "ciad_engine.networks.resnet:ResNet",
    "mlp": "ciad_engine.networks.mlp:MLP",
    "gaussian": "ciad_engine.networks.gaussian:Gaussian",
}


def names() -> tuple[str, ...]:
    """The names of all networks."""
    return tuple(_REGISTRY)


def create(name: str, /, **arguments: Any) -> nn.Module:
    """Return a freshly initialised network, in float32 whatever torch's default type is.

    Raises:
        SettingError: no such network, or arguments it does not take.
    """
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        return _class(name)(**arguments)
    except (*DAMAGE, AssertionError, MemoryError, RuntimeError) as error:
        raise SettingError(f"network '{name}' does not take the arguments {arguments}: {error}") from error
    finally:
        torch.set_default_dtype(before)


def needed(name: str, /, **arguments: Any) -> dict[str, Any]:
    """Return those of the arguments that the network takes and that are not its defaults."""
    takes = inspect.signature(_class(name)).parameters
    return {key: value for key, value in arguments.items() if key in takes and takes[key].default != value}


def _class(name: str) -> type[nn.Module]:
    if name not in _REGISTRY:
        raise SettingError(f"network: '{name}' is none of {', '.join(_REGISTRY)}.")
    return pkgutil.resolve_name(_REGISTRY[name])
