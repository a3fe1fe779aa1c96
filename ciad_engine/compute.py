"""Where and how tensors are computed: device, precision, and batches that survive a full memory."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from ciad_engine import memory, typed_numbers
from ciad_engine.counting import counted
from ciad_engine.errors import CiadError, SettingError, said
from ciad_engine.jobs import Cancelled, Job

Result = TypeVar("Result")


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`: "auto" (CUDA where there is one, else CPU), "cpu", "cuda" or "cuda:1".

    Raises:
        SettingError: unknown name, or CUDA asked for where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    said = typed_numbers.shown(name)
    if name == "cuda" or name.startswith("cuda:"):
        if not torch.cuda.is_available():
            raise SettingError(f"device: '{said}' was asked for, but no CUDA device is available; use 'auto' or 'cpu'.")
        with contextlib.suppress(typed_numbers.NotANumberError):
            index = typed_numbers.whole(name.partition(":")[2] or "0")
            if 0 <= index < torch.cuda.device_count():
                return torch.device("cuda") if name == "cuda" else torch.device("cuda", index)
    raise SettingError(f"device: '{said}' is none of 'auto', 'cpu', 'cuda', 'cuda:0' ... on this machine.")


def device_of(network: nn.Module) -> torch.device:
    """Return where the network's parameters and buffers are; the CPU if it has none."""
    first = next(itertools.chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def describe_device(device: torch.device) -> str:
    """A short name for people, e.g. "CPU, 4 threads" or "NVIDIA H200"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {counted(threads, 'thread')}"


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 autocast for training, where the device computes it natively; else a null context.

    CPUs without native bfloat16 emulate it several times slower than float32.
    """
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16) if torch.cuda.is_bf16_supported() else contextlib.nullcontext()
    return torch.autocast("cpu", torch.bfloat16) if native_bfloat16() else contextlib.nullcontext()


def native_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 products."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@contextlib.contextmanager
def borrowed(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the network frozen and in eval mode; put mode and `requires_grad` back afterwards.

    Raises:
        SettingError: it is not a module, or it holds no numbers yet.
        CiadError: it cannot be frozen.
    """
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise SettingError(f"network: expected a torch.nn.Module, got {kind}; call it in a module's forward.")
    if device_of(network).type == "meta":
        raise SettingError("network: it is on the device 'meta', without any weights; load them first.")
    modes = [(m, m.training) for m in network.modules() if hasattr(m, "training")]  # frozen TorchScript has no modes
    wants = [(p, p.requires_grad) for p in network.parameters()]
    with foreign("The network cannot be put into eval mode and frozen; do that before"):
        if any(training for _, training in modes):
            network.eval()
        for p, _ in wants:
            p.requires_grad_(False)
    try:
        yield network
    finally:
        for m, training in modes:
            m.training = training
        for p, want in wants:
            p.requires_grad_(want)


@contextlib.contextmanager
def foreign(what: str) -> Iterator[None]:
    """Run what others wrote, a network or a detector: what it raises becomes a CiadError that begins with `what`.

    A lack of memory, a cancellation and a CiadError pass as they are.
    """
    try:
        yield
    except (CiadError, Cancelled):
        raise
    except Exception as error:
        if memory.ran_out(error):
            raise
        raise CiadError(f"{what} ({type(error).__name__}: {said(error)}).") from error


def apply(network: nn.Module, images: Tensor) -> Tensor:
    """Return what a network says of float images (N, channels, H, W); it is given a copy, in its own precision.

    So its first layer may work in place, and all its weights may be float64 or half precision.

    Raises:
        CiadError: it fails, or returns something else than a tensor of floating point numbers.
    """
    kinds = {w.dtype for w in network.parameters() if w.is_floating_point()}
    given = images.to(next(iter(kinds)) if len(kinds) == 1 else images.dtype, copy=True)
    with foreign(f"The network must take images of shape {tuple(images.shape)}, values from 0 to 1, but fails"):
        out = network(given)
    if not isinstance(out, Tensor):
        raise CiadError(
            f"The network returns a {type(out).__name__}, not a tensor: wrap it in a module that returns that alone."
        )
    if not out.is_floating_point():
        raise CiadError(f"The network returns {out.dtype}, not floating point numbers: return them before rounding.")
    return out


def finite(found: Tensor) -> bool:
    """Return whether all numbers are finite: one pass and one transfer from the device."""
    # The sum is NaN or infinite where any number is; in double it is not where none is.
    return bool(torch.isfinite(found.detach().sum(dtype=torch.double)))


@contextlib.contextmanager
def fresh_state() -> Iterator[None]:
    """Run other work in the middle of this one: torch's modes are at their defaults, all generators are put back."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with (
        torch.random.fork_rng(devices),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


def in_batches(
    work: Callable[[slice], Result], count: int, size: int, job: Job | None = None, text: str = ""
) -> Iterator[Result]:
    """Yield `work(slice)` for consecutive slices of at most `size` of `count` items.

    When the device or the computer runs out of memory the slice is halved, tried again, and stays halved. Work on
    a slice must therefore be without side effects until it returns.

    Raises:
        torch.OutOfMemoryError, MemoryError, RuntimeError: even one item does not fit; `memory.ran_out` tells.
        Cancelled: through `job`, between slices.
    """
    yield from in_chunks(lambda part, _: work(part), count, size, 1, job, text)


def in_chunks(
    work: Callable[[slice, int], Result], count: int, size: int, batches: int, job: Job | None = None, text: str = ""
) -> Iterator[Result]:
    """`in_batches` for work that takes several `batches` at once and is told the size of one: `work(slice, size)`.

    When memory runs out the whole chunk is begun again, with batches of half the size.
    """
    start, job = 0, job or Job()
    while start < count:
        job.progress(start, count, text)
        stop = min(start + size * batches, count)
        here = min(size, stop - start)
        try:
            result = work(slice(start, stop), here)
        except Exception as error:
            if here == 1 or not memory.ran_out(error):
                raise
            size = max(1, here // 2)
            torch.cuda.empty_cache()
            job.note(f"Out of memory: going on with batches of {counted(size, 'image')}.")
            continue
        yield result
        start = stop
    job.progress(count, count, text)
