"""Batches that are on the device before the step asks for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch

from cpm_repro.data import Batch, TrainLoader

_ENOUGH_THREADS = 8
"""With so many, waiting was 1.5 % of an update (benchmarks/results/2026-11-27-training-h200.md)."""


@dataclass(frozen=True)
class Ready:
    """Waits until a batch's copy is complete, as far as the current stream is concerned."""

    batch: Batch
    wait: Callable[[], None]


def to_device(batch: Batch, device: torch.device, stream: torch.cuda.Stream) -> Ready:
    """Start copying ``batch`` from page-locked memory to a GPU on a stream of its own."""
    with torch.cuda.stream(stream):
        named = {field.name: getattr(batch, field.name) for field in fields(batch)}
        held = {name: tensor.pin_memory() for name, tensor in named.items() if tensor is not None}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in held.items()}
        done = stream.record_event()

    def wait() -> None:
        current = torch.cuda.current_stream(device)
        current.wait_event(done)
        for tensor in moved.values():
            tensor.record_stream(current)  # their memory is not given away while the step uses it
        held.clear()

    return Ready(Batch(**moved), wait)


class Prefetch:
    """Moves one batch ahead while the step works on the one before, in a thread of its own.

    Args:
        batches: endless; an exception of theirs is raised by ``next`` of the batch it belongs to.
        move: starts the copy of a batch.
        begin: called once, in that thread, before anything else.
    """

    def __init__(
        self,
        batches: Iterator[Batch],
        move: Callable[[Batch], Ready],
        begin: Callable[[], None] | None = None,
    ) -> None:
        self._batches, self._move = batches, move
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch", initializer=begin)
        self._ahead = self._pool.submit(self._fetch)

    def _fetch(self) -> Ready:
        return self._move(next(self._batches))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        ready = self._ahead.result()
        self._ahead = self._pool.submit(self._fetch)
        ready.wait()
        return ready.batch

    def close(self) -> None:
        """Throw the batch ahead away."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def loading(loader: TrainLoader, device: torch.device) -> Iterator[Iterator[Batch]]:
    """The batches of ``loader`` on ``device``; on a CPU they are there already. Closes both in the end."""
    with loader:
        if device.type != "cuda":
            yield loader
            return
        batches = prefetched(loader, device)
        try:
            yield batches
        finally:
            batches.close()  # before the loader, which ends with StopIteration once it is closed


def loader_threads(asked: int | None, device: torch.device, ranks: int = 1) -> int:
    """Threads that prepare batches for a training on ``device``: what was ``asked`` for, or what suits it.

    On a CPU one, since the cores are busy with the network. Beside a GPU this rank's cores but one, which
    keeps the GPU busy; at most eight, which fed the one run at full size that was measured.

    Args:
        asked: the setting ``workers``.
        device: that the network is on.
        ranks: on this machine.
    """
    if asked is not None:
        return asked
    if device.type == "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_ENOUGH_THREADS, cores // ranks - 1))


def prefetched(batches: Iterator[Batch], device: torch.device) -> Prefetch:
    """``batches`` on a GPU, copied on a stream of its own."""
    stream = torch.cuda.Stream(device)
    # A thread's current GPU is its own: a new one has the first, where every rank would open a context.
    own = torch.cuda.current_device() if device.index is None else device.index
    return Prefetch(
        batches, lambda batch: to_device(batch, device, stream), lambda: torch.cuda.set_device(own)
    )
