"""A body described by its owner: part names, left/right pairs and limbs from a small TOML or YAML file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpm_repro.errors import UserError
from cpm_repro.packages import optional_module
from cpm_repro.skeleton import Skeleton, named_pairs, named_torso

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SUFFIXES = (".toml", ".yaml", ".yml")
_KEYS = {"name", "parts", "flip_pairs", "limbs", "torso"}


def read_skeleton(path: str | Path) -> Skeleton:
    """Read a skeleton file::

        name = "hand"
        parts = ["wrist", "left_thumb", "right_thumb"]
        flip_pairs = [["left_thumb", "right_thumb"]]
        limbs = [["wrist", "left_thumb"], ["wrist", "right_thumb"]]
        torso = ["left_thumb", "wrist"]        # optional: the distance that normalises PCK

    Without ``flip_pairs`` they are told by the names, left_x and right_x or x_left and x_right; an empty list
    means none.
    Without ``torso`` it is left_shoulder to right_hip where there are both.
    A file called .yaml or .yml holds the same keys in YAML.

    Raises:
        UserError: no TOML or YAML, a key that does not belong, or a name that is not among the parts.
    """
    path = Path(path)
    values = _parse(path)
    unknown = sorted(set(values) - _KEYS)
    if unknown:
        raise UserError(f"{path}: unknown key {unknown[0]}; expected {', '.join(sorted(_KEYS))}")
    name, parts = values.get("name", path.stem), values.get("parts")
    if not isinstance(name, str):
        raise UserError(f"{path}: expected name to be a text")
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise UserError(f"{path}: expected parts, a list of names")
    torso = _pairs(path, parts, "torso", [values["torso"]]) if "torso" in values else ()
    return Skeleton(
        name=name,
        parts=tuple(parts),
        flip_pairs=(
            _pairs(path, parts, "flip_pairs", values["flip_pairs"])
            if "flip_pairs" in values
            else named_pairs(parts)
        ),
        limbs=_pairs(path, parts, "limbs", values.get("limbs", [])),
        torso=torso[0] if torso else named_torso(parts),
    )


def _parse(path: Path) -> dict[str, Any]:
    """The file's table; YAML is read without executing anything."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected UTF-8 text: {error}") from error
    if path.suffix == ".toml":
        try:
            return tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: expected TOML: {error}") from error
    yaml = optional_module("yaml", "yaml", f"{path}: YAML, unlike TOML,")
    try:
        values = yaml.safe_load(text)
    except Exception as error:  # its readers of numbers, dates, ... raise many kinds
        raise UserError(f"{path}: expected YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path}: expected a table of parts, flip_pairs and limbs")
    return values


def _pairs(path: Path, parts: Sequence[str], key: str, value: Any) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise UserError(f"{path}: {key}: expected pairs of part names")
    for name in (name for pair in value for name in pair):
        if not isinstance(name, str):
            raise UserError(f"{path}: {key}: expected pairs of part names")
        if name not in parts:
            raise UserError(f"{path}: {key}: {name!r} is not among the parts")
    return tuple((parts.index(a), parts.index(b)) for a, b in value)
