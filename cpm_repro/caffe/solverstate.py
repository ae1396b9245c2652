"""Caffe's solver snapshots: iteration, momentum buffers and step counter (spec `training.md`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpm_repro.caffe import wire
from cpm_repro.caffe.blobs import MAX_MESSAGE, Array, as_blob, blob_size, map_file, read_blob
from cpm_repro.caffe.caffemodel import write_blobs
from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write

MAX_HISTORY = 100_000
"""Far above any real net's number of parameter arrays."""

_ITER, _LEARNED_NET, _HISTORY, _CURRENT_STEP = 1, 2, 3, 4


@dataclass
class SolverState:
    """A solverstate: iterations done, the weight file's name, momentum in parameter order, lr step.

    ``history`` holds one array per parameter (weight, bias, weight, ...) in the net's layer order; the
    learning rate is inside it.
    """

    iter: int
    history: list[Array] = field(default_factory=list)
    learned_net: str = ""
    current_step: int = 0


def read_solverstate(path: str | Path) -> SolverState:
    """Read a binary solverstate.

    Raises:
        UserError: no such file, another kind of file, truncated or malformed bytes, shapes that do not fit.
    """
    data = map_file(path)
    state = SolverState(iter=0)
    try:
        for entry in wire.walk(data, 0, len(data)):
            _read_entry(data, entry, state)
    except wire.WireError as error:
        raise UserError(f"{path}: not a readable solverstate: {error}") from error
    return state


def _read_entry(data: memoryview, entry: wire.Field, state: SolverState) -> None:
    kinds = {_ITER: wire.VARINT, _CURRENT_STEP: wire.VARINT, _LEARNED_NET: wire.BYTES, _HISTORY: wire.BYTES}
    if entry.kind != kinds.get(entry.number, entry.kind):
        raise wire.WireError(f"byte {entry.head}: field {entry.number} has wire type {entry.kind}")
    if entry.number == _ITER:
        state.iter = wire.signed(entry.value)
    elif entry.number == _CURRENT_STEP:
        state.current_step = wire.signed(entry.value)
    elif entry.number == _LEARNED_NET:
        state.learned_net = wire.text(data, entry)
    elif entry.number == _HISTORY:
        if len(state.history) >= MAX_HISTORY:
            raise wire.WireError(f"more than {MAX_HISTORY} history blobs")
        state.history.append(read_blob(data, entry.start, entry.end)[0])


def write_solverstate(
    path: str | Path, iteration: int, history: Sequence[Any], learned_net: str = "", current_step: int = 0
) -> None:
    """Write a solverstate that Caffe resumes from, atomically; ``history`` as in :class:`SolverState`.

    Raises:
        UserError: the file would have 2 GiB or more.
        TypeError: a history entry that is not of floats.
        EnvironmentFailure: the file cannot be written.
    """
    blobs = [as_blob(array, f"history {index}") for index, array in enumerate(history)]
    if sum(blob_size(blob) + 11 for blob in blobs) > MAX_MESSAGE:
        raise UserError(f"{path}: the history is too large; Caffe reads no file of 2 GiB or more")
    with atomic_write(path) as file:
        file.write(wire.tag(_ITER, wire.VARINT) + wire.varint(iteration))
        if learned_net:
            file.write(wire.chunk(_LEARNED_NET, learned_net.encode()))
        write_blobs(file, blobs, _HISTORY)
        file.write(wire.tag(_CURRENT_STEP, wire.VARINT) + wire.varint(current_step))
