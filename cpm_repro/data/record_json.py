"""The release's JSON record files: `MPI_annotations.json` and its kin (spec `data.md`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.data.record import PersonRecord
from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write, read_json

_KEYS = (
    "dataset", "isValidation", "img_paths", "img_width", "img_height", "objpos", "joint_self",
    "scale_provided", "joint_others", "scale_provided_other", "objpos_other", "annolist_index",
    "people_index", "numOtherPeople",
)  # fmt: skip


def write_records(path: str | Path, records: Iterable[PersonRecord]) -> int:
    """Write ``{"root": [...]}``: three decimals, coordinates 1-based, one other person not nested.

    The file is written record by record and appears under its name when it is whole.

    Returns:
        Number of records.
    """
    count = 0
    with atomic_write(path, "w") as file:
        file.write('{"root": [')
        for record in records:
            file.write(("," if count else "") + "\n" + format_record(record))
            count += 1
        file.write("\n]}\n")
    return count


def format_record(record: PersonRecord) -> str:
    """One record as JSON text."""
    lone = record.others == 1
    others: Any = np.reshape(record.joint_others, (record.others, -1, 3)) if record.others else []
    values: dict[str, Any] = {
        "dataset": record.dataset,
        "isValidation": float(record.is_validation),
        "img_paths": record.img_path,
        "img_width": record.img_width,
        "img_height": record.img_height,
        "objpos": record.objpos,
        "joint_self": record.joint_self,
        "scale_provided": record.scale,
        "joint_others": others[0] if lone else others,
        "scale_provided_other": record.scale_other[0] if lone else record.scale_other,
        "objpos_other": record.objpos_other[0] if lone else record.objpos_other,
        "annolist_index": record.annolist_index,
        "people_index": record.people_index,
        "numOtherPeople": record.others,
    }
    return "{" + ", ".join(f'"{key}": {_text(value, key, record)}' for key, value in values.items()) + "}"


def _text(value: Any, key: str, record: PersonRecord) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    if not np.isfinite(value).all():
        raise UserError(f"{record.name}: {key} is {value}, which JSON cannot hold")
    return _decimals(value if isinstance(value, (int, float)) else np.asarray(value).tolist())


def _decimals(value: Any) -> str:
    """A number with three decimals, or a nested list of such."""
    return "[" + ", ".join(map(_decimals, value)) + "]" if isinstance(value, list) else f"{value:.3f}"


def read_records(path: str | Path) -> list[PersonRecord]:
    """Read such a file, written by the release or by `write_records`.

    Other people with fewer joints than the person (MPII's are cut after the last labelled one) get (0, 0, 0)
    for the rest.

    Raises:
        UserError: not JSON, no ``root`` list, or a record without one of its keys.
    """
    return [record_of(item, f"{path} record {n}") for n, item in enumerate(read_record_items(path))]


def read_record_items(path: str | Path) -> list[Any]:
    """The items of such a file as JSON has them, for readers that report faults item by item.

    Raises:
        UserError: not JSON, or no ``root`` list.
    """
    path = Path(path)
    root = read_json(path)
    root = root.get("root") if isinstance(root, dict) else None
    if not isinstance(root, list):
        raise UserError(f"{path}: expected an object with a list 'root' of records")
    return root


def rounded(record: PersonRecord) -> PersonRecord:
    """The record as it comes back from its JSON text: three decimals."""
    return record_of(json.loads(format_record(record)), record.name)


def record_of(item: Any, name: str) -> PersonRecord:
    """One item of a record file; ``name`` stands in messages. See `read_records`."""
    missing = [key for key in _KEYS if not isinstance(item, dict) or key not in item]
    if missing:
        raise UserError(f"{name}: expected the key {missing[0]}")
    try:
        own = np.array(item["joint_self"], float).reshape(-1, 3)
        rows, n = len(own), _whole(item["numOtherPeople"])
        others = [item["joint_others"]] if n == 1 else item["joint_others"]
        if len(others) != n:
            raise ValueError(f"numOtherPeople is {n}, joint_others has {len(others)}")
        return PersonRecord(
            dataset=_name(item["dataset"]),
            img_path=str(item["img_paths"]),
            img_width=_whole(item["img_width"]),
            img_height=_whole(item["img_height"]),
            objpos=np.array(item["objpos"], float).reshape(2),
            joint_self=own,
            scale=float(item["scale_provided"]),
            joint_others=np.stack([_pad(np.array(o, float).reshape(-1, 3), rows) for o in others])
            if n
            else np.zeros((0, rows, 3)),
            scale_other=np.array(item["scale_provided_other"], float).reshape(n),
            objpos_other=np.array(item["objpos_other"], float).reshape(n, 2),
            is_validation=bool(item["isValidation"]),
            annolist_index=_whole(item["annolist_index"]),
            people_index=_whole(item["people_index"]),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{name}: a value has another shape than the release's: {error}") from error


def _whole(value: Any) -> int:
    number = int(value)
    if not 0 <= number < 1 << 31:
        raise ValueError(f"{value} is no count")
    return number


def _name(value: Any) -> str:
    """A data set's name; files are named after it."""
    if not isinstance(value, str) or not value.isprintable() or "/" in value or "\\" in value:
        raise ValueError(f"{value!r} is no name of a data set")
    return value


def _pad(joints: np.ndarray, rows: int) -> np.ndarray:
    if len(joints) > rows:
        raise ValueError(f"{len(joints)} joints where {rows} were expected")
    return np.concatenate([joints, np.zeros((rows - len(joints), 3))])
