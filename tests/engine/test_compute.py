"""Devices by name, frozen networks, and batches that survive a full memory."""

import contextlib
import errno

import pytest
import torch
from torch import nn

from ciad_engine import compute
from ciad_engine.errors import SettingError
from ciad_engine.jobs import Cancelled, Job


def test_auto_is_cuda_where_there_is_one():
    assert compute.choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert compute.choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:999", "cuda:x", ""])
def test_unknown_devices_are_refused_by_name(name):
    with pytest.raises(SettingError, match="device"):
        compute.choose_device(name)


def test_batches_cover_everything_once_and_in_order():
    parts = list(compute.in_batches(lambda rows: list(range(10))[rows], 10, 4))
    assert parts == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes."),  # Windows
        RuntimeError("CUDA error: out of memory"),
    ],
    ids=str,
)
def test_a_full_memory_halves_the_batch_and_says_so_once_each_time(error):
    class Notes(Job):
        said: list[str] = []  # noqa: RUF012

        def on_note(self, text):
            self.said.append(text)

    def work(rows):
        if rows.stop - rows.start > 3:
            raise error
        return list(range(20))[rows]

    job = Notes()
    job.said.clear()
    parts = list(compute.in_batches(work, 20, 16, job))
    assert [item for part in parts for item in part] == list(range(20))
    assert [note.split()[-2] for note in job.said] == ["8", "4", "2"]


def test_chunks_are_of_several_batches_and_know_the_size_of_one():
    told = []

    def work(part, size):
        if size > 2:
            raise torch.OutOfMemoryError
        told.append((part.start, part.stop, size))
        return list(range(11))[part]

    parts = list(compute.in_chunks(work, 11, 4, 3, Job()))
    assert [item for part in parts for item in part] == list(range(11))
    assert told == [(0, 6, 2), (6, 11, 2)]


def test_one_item_that_does_not_fit_is_an_error():
    def work(rows):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        list(compute.in_batches(work, 3, 2))


def test_a_real_lack_of_memory_on_a_cpu_halves_the_batch():
    def work(rows):
        # More than any address space holds, at sizes above 2.
        return torch.empty(1 << (57 if rows.stop - rows.start > 2 else 2), dtype=torch.uint8).numel()

    assert list(compute.in_batches(work, 4, 4)) == [4, 4]


def test_another_error_is_not_tried_again():
    seen = []

    def work(rows):
        seen.append(rows)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(compute.in_batches(work, 8, 8))
    assert len(seen) == 1


def test_batches_stop_when_cancelled():
    job = Job()
    batches = compute.in_batches(lambda rows: job.cancel(), 10, 1, job)
    with pytest.raises(Cancelled):
        list(batches)


def test_a_borrowed_network_is_given_back_as_it_was():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2))
    network.train()
    network[1].eval()
    network[2].weight.requires_grad_(False)
    before = [(m.training) for m in network.modules()], [p.requires_grad for p in network.parameters()]
    with contextlib.suppress(RuntimeError), compute.borrowed(network):
        assert not any(m.training for m in network.modules())
        assert not any(p.requires_grad for p in network.parameters())
        raise RuntimeError
    after = [(m.training) for m in network.modules()], [p.requires_grad for p in network.parameters()]
    assert after == before


def test_other_work_in_the_middle_has_torchs_defaults_and_changes_nothing():
    weights = torch.ones(2, 2)

    def draw(other: bool) -> torch.Tensor:
        torch.manual_seed(1)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            if other:
                with compute.fresh_state():
                    x = torch.ones(1, 2, requires_grad=True)
                    found = nn.functional.linear(x, weights)
                    found.sum().backward()
                    assert (found.dtype, x.grad.tolist()) == (torch.float32, [[2, 2]])
                    torch.manual_seed(5)
                    torch.rand(3)
            assert torch.is_inference_mode_enabled()
            assert nn.functional.linear(torch.ones(1, 2), weights).dtype == torch.bfloat16
            return torch.rand(4)

    assert torch.equal(draw(other=True), draw(other=False))


def test_the_modes_are_put_back_after_an_error():
    with torch.no_grad():
        with contextlib.suppress(Cancelled), compute.fresh_state():
            raise Cancelled
        assert not torch.is_grad_enabled()
