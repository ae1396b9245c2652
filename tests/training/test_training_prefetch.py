"""Batches moved ahead: order, errors, and what a GPU's copies ask of CUDA, with streams that write down."""

import gc
import os
import threading
import weakref
from concurrent.futures import CancelledError
from contextlib import contextmanager
from itertools import islice

import pytest
import torch

from cpm_repro.data import Batch
from cpm_repro.errors import UserError
from cpm_repro.training import prefetch as module
from cpm_repro.training.prefetch import Prefetch, Ready, loader_threads, loading, prefetched, to_device


def batch_of(number: int) -> Batch:
    empty = torch.zeros(1)
    return Batch(torch.full((1,), number), empty, empty, empty)


def test_batches_are_moved_one_ahead_in_order_in_another_thread():
    moved, waited = [], []

    def move(batch):
        moved.append((int(batch.image), threading.current_thread().name))
        return Ready(batch, lambda: waited.append(int(batch.image)))

    source = (batch_of(number) for number in range(100))
    prefetch = Prefetch(source, move)
    got = [int(next(prefetch).image) for _ in range(5)]
    prefetch.close()
    assert got == waited == [0, 1, 2, 3, 4]
    assert [number for number, _ in moved] in ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5])
    assert all(name.startswith("prefetch") for _, name in moved)


def test_an_error_of_the_loader_belongs_to_its_batch():
    def source():
        yield batch_of(0)
        raise UserError("photo.jpg: no such image")

    prefetch = Prefetch(source(), lambda batch: Ready(batch, lambda: None))
    assert int(next(prefetch).image) == 0
    with pytest.raises(UserError, match="no such image"):
        next(prefetch)
    prefetch.close()


class Loader:
    """Numbered batches; writes down when it is closed, and what is asked of it afterwards."""

    def __init__(self):
        self.number, self.closed, self.late = 0, False, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def __iter__(self):
        return self

    def __next__(self):
        self.late += self.closed
        self.number += 1
        return batch_of(self.number - 1)


def test_on_a_cpu_batches_are_the_loaders():
    loader = Loader()
    with loading(loader, torch.device("cpu")) as batches:
        assert batches is loader
    assert loader.closed


@pytest.mark.usefixtures("cuda")
def test_on_a_gpu_the_thread_that_copies_ends_before_the_loader():
    loader = Loader()
    with loading(loader, torch.device("cuda:1")) as batches:
        assert isinstance(batches, Prefetch)
        assert [int(next(batches).image) for _ in range(3)] == [0, 1, 2]
    assert loader.closed
    assert loader.late == 0
    with pytest.raises((RuntimeError, CancelledError)):  # "shutdown", or the batch ahead was not begun
        next(batches)


class Stream:
    """A CUDA stream that writes down what is asked of it."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def record_event(self):
        self.log.append(f"event on {self.name}")
        return f"event of {self.name}"

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for {event}")


@pytest.fixture
def cuda(monkeypatch):
    """What CUDA is asked for, in order; "device" copies are clones on the CPU, made of pinned copies."""
    log, active, pinned = [], threading.local(), weakref.WeakValueDictionary()
    streams = {"default": Stream("default", log), "copies": Stream("copies", log)}

    @contextmanager
    def use(stream):
        active.name = stream.name
        yield
        active.name = "default"

    def pin(tensor):
        copy = tensor.clone()
        pinned[id(copy)] = copy
        return copy

    def move(tensor, device, *, non_blocking=False):
        how = "" if non_blocking else " blocking"
        where = "pinned" if id(tensor) in pinned else "pageable"
        log.append(f"{where}{how} copy to {device} on {getattr(active, 'name', 'default')}")
        return tensor.clone()

    monkeypatch.setattr(torch.cuda, "stream", use)
    monkeypatch.setattr(
        torch.cuda, "set_device", lambda number: log.append(f"{threading.current_thread().name} on {number}")
    )
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: streams["default"])
    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: streams["copies"])
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", move)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda _self, stream: log.append(f"kept for {stream.name}")
    )
    return log, streams["copies"], pinned


COPY = "pinned copy to cuda:1 on copies"


@pytest.mark.parametrize("with_matrix", [False, True])
def test_copies_run_on_their_own_stream_and_the_steps_stream_waits_for_them(cuda, with_matrix):
    log, stream, pinned = cuda
    batch = Batch(
        torch.ones(2, 4, 4, 3), torch.ones(2, 1, 3, 2), torch.ones(2, 1, 3), torch.ones(2, 2),
        torch.ones(2, 2, 3) if with_matrix else None,
    )  # fmt: skip
    count = 5 if with_matrix else 4
    ready = to_device(batch, torch.device("cuda:1"), stream)
    assert log == [COPY] * count + ["event on copies"]
    gc.collect()
    assert len(pinned) == count  # their memory must not be used again before the copies are made
    log.clear()
    ready.wait()
    # Memory of the copies' stream: without the note it would be given away while the step still reads it.
    assert log == ["default waits for event of copies"] + ["kept for default"] * count
    gc.collect()
    assert len(pinned) == 0
    assert (ready.batch.matrix is None) != with_matrix
    assert torch.equal(ready.batch.image, batch.image)
    assert ready.batch.image is not batch.image


def test_on_a_gpu_every_batch_is_waited_for_before_it_is_given(cuda):
    log, _, _ = cuda
    prefetch = prefetched((batch_of(number) for number in range(9)), torch.device("cuda:1"))
    got = [int(next(prefetch).image) for _ in range(3)]
    prefetch.close()
    assert got == [0, 1, 2]
    assert log.count("default waits for event of copies") == 3
    assert log.count(COPY) in (12, 16)
    assert not any("blocking" in entry or "pageable" in entry for entry in log)


@pytest.mark.parametrize(("device", "number"), [("cuda:1", 1), ("cuda", 3)])
def test_the_thread_that_copies_is_on_the_batchs_gpu_from_its_first_moment(cuda, device, number):
    """A new thread's GPU is the first: all ranks would open a context there."""
    log, _, _ = cuda
    prefetch = prefetched((batch_of(number) for number in range(9)), torch.device(device))
    next(prefetch)
    prefetch.close()
    assert log[0] == f"prefetch_0 on {number}"
    assert sum(entry.startswith("prefetch_0 on") for entry in log) == 1


@pytest.mark.usefixtures("cuda")
def test_an_error_while_copying_belongs_to_its_batch(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    prefetch = prefetched((batch_of(number) for number in range(9)), torch.device("cuda:1"))
    next(prefetch)
    monkeypatch.setattr(module, "to_device", full)
    with pytest.raises(torch.OutOfMemoryError):  # one or two batches were moved ahead before
        list(islice(prefetch, 3))
    prefetch.close()


@pytest.mark.parametrize(
    ("asked", "device", "cores", "ranks", "wanted"),
    [
        (0, "cuda", 16, 1, 0),
        (3, "cpu", 16, 1, 3),
        (None, "cpu", 16, 1, 1),
        (None, "cuda", 1, 1, 1),
        (None, "cuda", 6, 1, 5),
        (None, "cuda:1", 64, 1, 8),
        (None, "cuda", 16, 4, 3),
        (None, "cuda", 2, 8, 1),
    ],
)
def test_threads_that_suit_a_machine(monkeypatch, asked, device, cores, ranks, wanted):
    """This process's cores: a container or a batch system may give it a few of the machine's."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert loader_threads(asked, torch.device(device), ranks) == wanted


@pytest.mark.gpu
def test_prefetched_batches_are_whole_on_the_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    prefetch = prefetched((batch_of(number) for number in range(50)), device)
    for number in range(40):
        batch = next(prefetch)
        assert batch.image.device.type == "cuda"
        assert int(batch.image) == number
    prefetch.close()
