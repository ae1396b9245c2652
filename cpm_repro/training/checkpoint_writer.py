"""Checkpoints written beside the training: an update waits for a copy of the state, not for the disk."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from cpm_repro.training.checkpoint import Checkpoint, save_checkpoint

Value = TypeVar("Value")


class CheckpointWriter:
    """Hashes and writes one checkpoint at a time in a thread of its own.

    What goes wrong there (EnvironmentFailure: the disk is full) is raised by the next call of :meth:`look` or
    :meth:`wait`.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def write(self, path: Path, checkpoint: Checkpoint, previous: Path | None) -> None:
        """Begin what :func:`save_checkpoint` does, when the one before is written.

        ``checkpoint`` must not change any more; see :func:`on_host`.
        """
        self.wait()
        self._writing = self._pool.submit(save_checkpoint, path, checkpoint, previous)

    def look(self) -> None:
        """Raise what went wrong, if that is known by now."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """End the thread, after what it is writing."""
        self._pool.shutdown()


def on_host(value: Value) -> Value:
    """A copy, in the host's memory, of all tensors in nested lists, dictionaries and checkpoints.

    Those of a GPU's are queued, into page-locked memory, and waited for together.
    """
    devices: set[torch.device] = set()

    def copy(value: object) -> object:
        if isinstance(value, torch.Tensor):
            devices.add(value.device)
            held = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            return held.copy_(value.detach(), non_blocking=True)
        if isinstance(value, dict):
            return {key: copy(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(copy(item) for item in value)
        if isinstance(value, Checkpoint):
            parts = {name: copy(getattr(value, name)) for name in ("model", "optimizers", "raw")}
            return replace(value, **parts)  # type: ignore[arg-type]
        return value

    copied = copy(value)
    for device in devices:
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()
    return copied  # type: ignore[return-value]
