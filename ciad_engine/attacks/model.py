"""A classifier as an attack sees it, and what attacks ask of its logits."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools

import torch
from torch import Tensor, nn

from ciad_engine import compute, imaging
from ciad_engine.errors import CiadError

NO_GRADIENT = "The network gives no gradient with respect to its input, which this attack needs."


@dataclasses.dataclass(frozen=True)
class Look:
    """A forward pass whose gradient can still be taken.

    Attributes:
        images: float (B, 3, H, W), a leaf of the graph.
        logits: (B, classes), with their graph.
        rows: int64 (N,), the places of a model's images among these.
        keep: whether the graph outlives the next gradient, because another model will ask, too.
    """

    images: Tensor
    logits: Tensor
    rows: Tensor
    keep: bool = False


class Model:
    """A frozen classifier that counts what is spent on each image of a batch and checks its answers.

    Attributes:
        device: where the network lives.
        width: how many images the network takes at once, at most.
        memory_format: the order of an image's values in which the network is quickest.
        forwards, backwards: int64 (N,), evaluations that each image of the batch needed.
        flat: bool (N,), each gradient that was asked for was 0, or none was.
    """

    def __init__(self, network: nn.Module, count: int, width: int | None = None, look: Look | None = None) -> None:
        self._network, self._look, self._looked = network, look, False
        self.memory_format = memory_format_of(network)
        self.width = width or count
        self.device = compute.device_of(network)
        self.forwards = torch.zeros(count, dtype=torch.int64, device=self.device)
        self.backwards = torch.zeros(count, dtype=torch.int64, device=self.device)
        self.flat = torch.ones(count, dtype=torch.bool, device=self.device)
        self._any_flat = True

    def logits(self, images: Tensor, rows: Tensor) -> Tensor:
        """Class scores (n, classes) of float images (n, 3, H, W); `rows` (n,) are their places in the batch.

        Raises:
            CiadError: the answer is not one row of at least two finite logits per image.
        """
        self.forwards[rows] += 1
        return _answer(self._network, images)

    def first_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """A leaf to ask for `gradient` by, and the logits (N, classes) of all images of the batch.

        Where the network has just looked at these images to see what it gets right, that costs no further pass.
        """
        known = self._look
        if known is not None and not self._looked and torch.equal(images, known.images.detach()[known.rows]):
            self._looked = True
            return known.images, known.logits[known.rows]
        here = images.clone().requires_grad_()
        return here, self.logits(here, torch.arange(len(images), device=self.device))

    def gradient(
        self, outputs: Tensor, images: Tensor, rows: Tensor, keep_graph: bool = False, among: Tensor | None = None
    ) -> Tensor:
        """d(sum of outputs)/d(images), (n, 3, H, W); counts a backward pass for each of `rows`.

        `rows` may be fewer than the images: those whose gradient is wanted (the others of the batch
        only ride along). `among`, bool (images,), picks theirs. `keep_graph` allows another gradient of the same
        forward pass.

        Raises:
            CiadError: there is no gradient with respect to the images, or it is NaN or infinite.
        """
        self.backwards[rows] += 1
        gradient, kept = None, None if self._look is None or images is not self._look.images else self._look
        if outputs.requires_grad:
            retain = keep_graph or (kept is not None and kept.keep)
            with compute.foreign("The network's gradient cannot be computed"):
                (gradient,) = torch.autograd.grad(outputs.sum(), images, retain_graph=retain, allow_unused=True)
        if gradient is None:
            raise CiadError(NO_GRADIENT)
        if kept is not None:
            gradient = gradient[kept.rows]
        if not compute.finite(gradient):
            raise CiadError("The network's gradient is NaN or infinite: its weights are damaged or it is not smooth.")
        gradient = gradient if among is None else gradient[among]
        if self._any_flat:
            each = gradient.ndim == 4 and len(gradient) == len(rows)  # else whose is which cannot be told
            self.flat[rows] &= (gradient == 0).flatten(1).all(1) if each else gradient.new_zeros((), dtype=torch.bool)
            self._any_flat = bool(self.flat.any())
        return gradient


class Queue:
    """N images in the order of their places, of which the first are under way and the others wait for room.

    Attributes:
        waiting: how many wait.
    """

    def __init__(self, model: Model) -> None:
        self._count, self._width, self._next, self._device = len(model.forwards), model.width, 0, model.device

    @property
    def waiting(self) -> int:
        return self._count - self._next

    def take(self, most: int) -> Tensor:
        """The places, int64 (n,), of the next `most` images; of fewer where no more wait."""
        start, self._next = self._next, min(self._count, self._next + most)
        return torch.arange(start, self._next, device=self._device)

    def fill(self, rows: Tensor) -> Tensor:
        """`rows`, the images still under way, and behind them as many of those that wait as there is room for."""
        return torch.cat([rows, self.take(self._width - len(rows))])


def fingerprint(network: nn.Module) -> str:
    """SHA-256 of the network's parameters and buffers with their names: equal for the same trained network."""
    digest = hashlib.sha256()
    for name, tensor in sorted(
        itertools.chain(network.named_parameters(), network.named_buffers()), key=lambda pair: pair[0]
    ):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def classify(network: nn.Module, lattice: Tensor) -> Tensor:
    """Logits (N, classes) of uint8 images (N, 3, H, W), without a gradient.

    Raises:
        CiadError: the answer is not one row of at least two finite logits per image.
    """
    with torch.no_grad():
        return _logits(_answer(network, _floats(lattice, network)))


def look(network: nn.Module, lattice: Tensor) -> Look:
    """`classify` with a graph, to be asked for gradients; its `rows` are all images.

    Raises:
        CiadError: as `classify`.
    """
    images = _floats(lattice, network).requires_grad_()
    out = _logits(_answer(network, images))
    return Look(images, out, torch.arange(len(lattice), device=lattice.device))


def memory_format_of(network: nn.Module) -> torch.memory_format:
    """The order of values in which a network's convolutions hold their weights, and so are quickest."""
    last = any(
        w.ndim == 4 and w.is_contiguous(memory_format=torch.channels_last) and not w.is_contiguous()
        for w in network.parameters()
    )
    return torch.channels_last if last else torch.contiguous_format


def _floats(lattice: Tensor, network: nn.Module) -> Tensor:
    """Return 8-bit images as floats, in the network's order of values."""
    return imaging.to_unit(lattice).contiguous(memory_format=memory_format_of(network))


def _answer(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits (N, classes) of float images (N, 3, H, W), checked: every attack asks by this alone."""
    out = compute.apply(network, images)
    if out.ndim != 2 or len(out) != len(images) or out.shape[1] < 2:
        raise CiadError(
            f"The network returned shape {tuple(out.shape)} for {len(images)} images, not (N, classes), classes >= 2."
        )
    if not compute.finite(out):
        raise CiadError("The network returned NaN or infinite logits: its weights are damaged or the input is unusual.")
    return out


def _logits(out: Tensor) -> Tensor:
    """Return the same; refuse them if they look like a softmax: at the network's end it flattens every gradient."""
    seen = out.detach()
    if bool((seen >= 0).all()) and bool(((seen.sum(1) - 1).abs() < 1e-4).all()):
        raise CiadError(
            "The network returns probabilities (its outputs are not negative and sum to 1), but attacks need logits: "
            "remove the softmax at its end."
        )
    return out


def one_hot(logits: Tensor, classes: Tensor) -> Tensor:
    """bool (N, classes), true at each row's entry of `classes` (N,)."""
    return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, classes[:, None], True)


def margin(logits: Tensor, classes: Tensor) -> Tensor:
    """Z_class - max over the other classes of Z, (N,): positive where `classes` is the answer."""
    others = logits.masked_fill(one_hot(logits, classes), -torch.inf).max(1).values
    return logits.gather(1, classes[:, None])[:, 0] - others
