"""Checkpoints: everything a run needs to go on exactly, written atomically."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cpm_repro.config import TrainConfig, first_difference, to_dict
from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write
from cpm_repro.model.checkpoint_file import CHECKPOINT_FORMAT, content_digest, read_checkpoint_file
from cpm_repro.skeleton import Skeleton
from cpm_repro.training.run_folder import RunFolder


@dataclass
class Checkpoint:
    """State after ``iteration`` updates. ``config`` is the resolved one the run was started with.

    ``phase`` is the index of the scheme's phase that the last update belonged to, ``phase_start`` the number
    of updates made before it. ``raw`` are the weights that training goes on from where ``model``, which is
    what everybody else uses, holds their moving average; None: ``model`` are both. ``loss_scale`` is there
    under fp16. ``people`` is how many were trained on, who decide the order of batches (None: not known).
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
    loss_scale: dict[str, float] | None = None
    people: int | None = None


def save_checkpoint(path: Path, checkpoint: Checkpoint, previous: Path | None = None) -> None:
    """Write ``checkpoint`` to ``path``; an older file there survives until the new one is complete.

    With ``previous`` the older file goes on under that name.

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
    if checkpoint.loss_scale is not None:
        values["loss_scale"] = checkpoint.loss_scale
    if checkpoint.people is not None:
        values["people"] = checkpoint.people
    if checkpoint.skeleton is not None:
        values["skeleton"] = json.dumps(checkpoint.skeleton.to_dict())
    # torch.save turns a failing write into a RuntimeError; written from memory it stays an OSError.
    buffer = io.BytesIO()
    torch.save({**values, "digest": content_digest(values)}, buffer)
    if previous is not None and path.exists():
        _keep(path, previous)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def _keep(path: Path, previous: Path) -> None:
    """Make ``previous`` a second name of the file at ``path``, at no moment without a file at either name."""
    link = previous.with_name(f".{previous.name}.link.tmp")
    try:
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, previous)
    except OSError:  # a file system without hard links
        os.replace(path, previous)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of ours.

    Raises:
        UserError: no such file, not a checkpoint of this program, or damaged.
    """
    values = read_checkpoint_file(path)
    values.pop("format")
    return Checkpoint(**values)


@dataclass(frozen=True)
class Found:
    """The newest intact checkpoint of a run, and what was damaged: path -> why."""

    path: Path
    checkpoint: Checkpoint
    damaged: dict[Path, str]


def newest_intact(paths: Sequence[Path]) -> Found | None:
    """The first of ``paths`` if it is intact, else the intact one with the most updates; None: no file.

    Raises:
        UserError: there are files and none is intact; the first one's reason.
    """
    damaged: dict[Path, str] = {}
    intact: list[tuple[Path, Checkpoint]] = []
    for path in (path for path in paths if path.exists()):
        try:
            intact.append((path, load_checkpoint(path)))
        except UserError as error:
            damaged[path] = str(error)
        if path == paths[0] and intact:
            break
    if intact:
        path, checkpoint = max(intact, key=lambda found: found[1].iteration)
        return Found(path, checkpoint, damaged)
    if damaged:
        more = f"; {len(damaged) - 1} older ones are damaged too" if len(damaged) > 1 else ""
        raise UserError(next(iter(damaged.values())) + more)
    return None


def found_in(folder: RunFolder, config: TrainConfig) -> Found | None:
    """The state that a run with the settings ``config`` goes on from; None: nothing was saved yet.

    Raises:
        UserError: the folder's run has other settings, or none of its checkpoints is intact.
    """
    found = newest_intact(folder.checkpoints)
    if found is None:
        return None
    if (difference := first_difference(found.checkpoint.config, config)) is not None:
        raise UserError(
            f"{found.path} belongs to another run: wanted {difference}; resume with the settings it was "
            f"started with, or train into another folder"
        )
    return found
