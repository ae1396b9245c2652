"""Trained weights from any file people own, with what must be known to use them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cpm_repro.config import AugmentConfig, NetworkConfig, TrainConfig, from_dict
from cpm_repro.errors import UserError
from cpm_repro.model import PoseMachine, build

CHECKPOINT_FORMAT = "cpm_repro checkpoint 1"


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to run, and the crop it was trained on."""

    net: PoseMachine
    augment: AugmentConfig
    trained_on: str  # name or path of the training data, empty when unknown


def read_checkpoint_file(path: Path) -> dict[str, Any]:
    """The dictionary inside one of our checkpoints, with ``config`` already a :class:`TrainConfig`.

    Nothing in the file is executed.

    Raises:
        UserError: no such file, not a checkpoint of this program, or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its zip and unpickling layers raise
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"{path}: not an intact checkpoint ({reason})") from error
    if not isinstance(values, dict) or values.get("format") != CHECKPOINT_FORMAT:
        raise UserError(f"{path}: wanted a {CHECKPOINT_FORMAT!r} file, got something else")
    return {**values, "config": from_dict(json.loads(values["config"]))}


def build_from(network: NetworkConfig, parts: int | None = None) -> PoseMachine:
    """The network a configuration names; ``parts`` fills in what it leaves open."""
    given = {
        name: value
        for name, value in (
            ("stages", network.stages),
            ("parts", network.parts if network.parts is not None else parts),
            ("width", network.width),
        )
        if value is not None
    }
    return build(network.arch, **given)  # type: ignore[arg-type]


def load_model(path: str | Path, arch: str | None = None) -> LoadedModel:
    """Weights from a run folder (its best checkpoint) or a checkpoint file.

    Args:
        path: ``runs/<name>`` or ``.../last.pt``.
        arch: architecture the weights must be of; None takes what the file says.

    Raises:
        UserError: nothing there, damaged, or of another architecture.
    """
    path = Path(path)
    if path.is_dir():
        candidates = [path / "checkpoints" / name for name in ("best.pt", "last.pt")]
        found = next((candidate for candidate in candidates if candidate.exists()), None)
        if found is None:
            raise UserError(f"{path}: wanted a run folder with checkpoints/best.pt, found none")
        path = found
    values = read_checkpoint_file(path)
    config: TrainConfig = values["config"]
    if arch is not None and arch != config.network.arch:
        raise UserError(f"{path}: wanted weights of {arch}, got {config.network.arch}")
    net = build_from(config.network)
    try:
        net.load_state_dict(values["model"])
    except RuntimeError as error:
        raise UserError(f"{path}: weights do not fit {config.network}: {error}") from error
    return LoadedModel(net.eval(), config.augment, config.data)
