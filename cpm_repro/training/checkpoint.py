"""Checkpoints: everything a run needs to go on exactly, written atomically."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cpm_repro.config import TrainConfig, to_dict
from cpm_repro.files import atomic_write
from cpm_repro.model.checkpoint_file import CHECKPOINT_FORMAT, content_digest, read_checkpoint_file
from cpm_repro.skeleton import Skeleton


@dataclass
class Checkpoint:
    """State after ``iteration`` updates. ``config`` is the resolved one the run was started with.

    ``phase`` is the index of the scheme's phase that the last update belonged to, ``phase_start`` the number
    of updates made before it. ``raw`` are the weights that training goes on from where ``model``, which is
    what everybody else uses, holds their moving average; None: ``model`` are both.
    """

    config: TrainConfig
    iteration: int
    seconds: float
    best: float
    model: dict[str, torch.Tensor]
    optimizers: list[dict[str, Any]]
    skeleton: Skeleton | None = None
    phase: int = 0
    phase_start: int = 0
    raw: dict[str, torch.Tensor] | None = None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to ``path``; an older file there survives until the new one is complete.

    Raises:
        EnvironmentFailure: the disk is full or the folder cannot be written.
    """
    values = {
        "format": CHECKPOINT_FORMAT,
        "config": json.dumps(to_dict(checkpoint.config)),
        "iteration": checkpoint.iteration,
        "seconds": checkpoint.seconds,
        "best": checkpoint.best,
        "model": checkpoint.model,
        "optimizers": checkpoint.optimizers,
        "phase": checkpoint.phase,
        "phase_start": checkpoint.phase_start,
    }
    if checkpoint.raw is not None:
        values["raw"] = checkpoint.raw
    if checkpoint.skeleton is not None:
        values["skeleton"] = json.dumps(checkpoint.skeleton.to_dict())
    # torch.save turns a failing write into a RuntimeError; written from memory it stays an OSError.
    buffer = io.BytesIO()
    torch.save({**values, "digest": content_digest(values)}, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of ours.

    Raises:
        UserError: no such file, not a checkpoint of this program, or damaged.
    """
    values = read_checkpoint_file(path)
    values.pop("format")
    return Checkpoint(**values)
