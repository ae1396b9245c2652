"""Our checkpoint files, read without executing or believing anything in them."""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cpm_repro.config import from_dict
from cpm_repro.errors import UserError, first_line
from cpm_repro.files import parse_json
from cpm_repro.paths import wanted_file
from cpm_repro.skeleton import Skeleton

CHECKPOINT_FORMAT = "cpm_repro checkpoint 1"
"""First words of a checkpoint of ours."""

_CONTENT: dict[str, type | tuple[type, ...]] = {
    "config": str,
    "iteration": int,
    "seconds": (int, float),
    "best": (int, float),
    "model": dict,
    "optimizers": list,
}

_DEEPEST, _MOST_VALUES = 50, 1_000_000


def read_torch_file(path: Path) -> Any:
    """Whatever ``torch.save`` wrote to ``path``, as far as it is plain data and tensors.

    Raises:
        UserError: no such file, damaged, or something that would have to be executed.
    """
    wanted_file(path, "a checkpoint")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch remarks on foreign pickles before it refuses them
            return torch.load(_source(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not an intact checkpoint: it holds something else than arrays and plain values, which "
            f"would have to be executed"
        ) from error
    except Exception as error:  # torch raises whatever its zip and unpickling layers raise
        raise UserError(f"{path}: not an intact checkpoint ({first_line(error)})") from error


def _source(path: Path) -> Path | io.BytesIO:
    """What torch shall read.

    A file of the form before torch 1.6 comes from memory, because a read from disk would allocate whatever
    length a damaged file claims. In an archive nothing is compressed: torch reads it then, but never writes
    it, and a small file could claim any amount of memory.
    """
    with open(path, "rb") as file:
        archive = file.read(4) == b"PK\x03\x04"
    if not archive:
        return io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(path) as entries:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.infolist()):
            raise ValueError("a compressed archive, which torch never writes")
    return path


def is_checkpoint(values: Any) -> bool:
    """Whether the content of a file says that it is a checkpoint of ours."""
    return isinstance(values, dict) and values.get("format") == CHECKPOINT_FORMAT


def read_checkpoint_file(path: Path) -> dict[str, Any]:
    """One of our checkpoints: its dictionary, with ``config`` as a :class:`~cpm_repro.config.TrainConfig`.

    Raises:
        UserError: no such file, not a checkpoint of this program, or damaged (its digest does not match).
    """
    values = read_torch_file(path)
    if not is_checkpoint(values):
        raise UserError(f"{path}: wanted a {CHECKPOINT_FORMAT!r} file, got something else")
    return checked(values, path)


def checked(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The content of a checkpoint after its digest and every part of it have been looked at."""
    values = dict(values)
    try:
        whole = "digest" not in values or values.pop("digest") == content_digest(values)
    except ValueError as error:
        raise UserError(f"{path}: damaged: {error}") from error
    if not whole:
        raise UserError(f"{path}: damaged: its content does not match its digest")
    for name, kind in _CONTENT.items():
        if not isinstance(values.get(name), kind):
            raise UserError(f"{path}: damaged: no usable {name!r} in it")
    check_weights(values["model"], path)
    try:
        config = parse_json(values["config"])
    except ValueError as error:
        raise UserError(f"{path}: damaged: its configuration is no JSON") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: damaged: its configuration is no JSON object")
    return {**values, "config": from_dict(config), "skeleton": _skeleton(values.get("skeleton"), path)}


def _skeleton(text: Any, path: Path) -> Skeleton | None:
    """The body that a checkpoint says its parts are of; None in those older than the field."""
    if text is None:
        return None
    try:
        return Skeleton.from_dict(parse_json(text))
    except (TypeError, ValueError, UserError) as error:
        raise UserError(f"{path}: damaged: its skeleton cannot be read ({error})") from error


def check_weights(weights: Mapping[Any, Any], path: Path) -> None:
    """Refuse anything but ordinary floating-point arrays whose every element is in the file.

    Raises:
        UserError: names the first that is something else.
    """
    for name, value in weights.items():
        ordinary = isinstance(value, Tensor) and value.layout == torch.strided and value.is_floating_point()
        if not isinstance(name, str) or not ordinary:
            raise UserError(f"{path}: {name!r} is not a floating-point array with a name")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes() or value.dim() > 8:
            raise UserError(f"{path}: {name!r} claims {list(value.shape)}, which is not what the file holds")


def content_digest(values: Any) -> str:
    """SHA-256 over everything in nested dictionaries and lists of tensors, numbers and strings.

    Raises:
        ValueError: deeper or more than any checkpoint: lists may contain themselves or one another.
    """
    digest = hashlib.sha256()
    count = 0

    def add(value: Any, depth: int = 0) -> None:
        nonlocal count
        count += 1
        if depth > _DEEPEST or count > _MOST_VALUES:
            raise ValueError("it holds more than any checkpoint")
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                digest.update(f"{key}:".encode())
                add(value[key], depth + 1)
        elif isinstance(value, (list, tuple)):
            for item in value:
                add(item, depth + 1)
        elif isinstance(value, Tensor) and value.layout == torch.strided:
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            if value.numel() * value.element_size() <= value.untyped_storage().nbytes():
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        else:
            digest.update(f"{value!r};".encode())

    add(values)
    return digest.hexdigest()
