"""People's own data in a CSV table with any number of parts; 0-based."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from cpm_repro.data.annotations import Annotations, Intake, Person, own_name
from cpm_repro.errors import UserError
from cpm_repro.skeleton import Skeleton, Visibility, skeleton_from_names


def read_csv(path: str | Path, skeleton: Skeleton | None = None, strict: bool = False) -> Annotations:
    """Read a table of one line per person: `image`, and per part `<part>_x`, `<part>_y`, `<part>_visible`.

    `<part>_visible` is optional: 1 (default), or 0 for an occluded joint; an empty x or y is a missing one.
    Also optional: `center_x`, `center_y`, `scale` (height / 200 px), `split` (train, val, test).

    Raises:
        UserError: no such header; with ``strict`` also the first unusable person.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            rows, columns = list(table), list(table.fieldnames or [])
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a CSV table: {error}") from error
    parts = [c[:-2] for c in columns if c.endswith("_x") and c != "center_x" and c[:-2] + "_y" in columns]
    if "image" not in columns or not parts:
        raise UserError(
            f"{path}: expected columns image, <part>_x and <part>_y, got {', '.join(columns[:5]) or 'none'}"
        )
    for column in columns:
        other = column[:-1] + {"x": "y", "y": "x"}.get(column[-1:], "")
        if column.endswith(("_x", "_y")) and other not in columns:
            raise UserError(f"{path}: expected a column {other} beside {column}, got none")
    skeleton = skeleton or skeleton_from_names(Path(path).stem, parts)
    absent = [part for part in skeleton.parts if part not in parts]
    if absent:
        raise UserError(
            f"{path}: expected columns {absent[0]}_x and {absent[0]}_y of the skeleton {skeleton.name}"
        )
    intake = Intake(strict)
    for rank, row in enumerate(rows):
        identity, name = f"line {rank + 2}", row["image"]
        try:
            person = _csv_person(row, skeleton)
        except (TypeError, ValueError) as error:
            intake.report(identity, f"expected numbers: {error}")
            continue
        if not name:
            intake.report(identity, "no image")
        elif person.split not in ("", "train", "val", "test"):
            intake.report(identity, f"split: expected train, val, test or nothing, got {person.split}")
        else:
            intake.add(identity, name, person)
    return intake.done(own_name(path), skeleton)


def _csv_person(row: dict[str, str], skeleton: Skeleton) -> Person:
    def value(column: str) -> float:
        return float(row[column]) if row.get(column) else math.nan

    joints = np.array([[value(f"{part}_x"), value(f"{part}_y")] for part in skeleton.parts])
    occluded = np.array([value(f"{part}_visible") == 0 for part in skeleton.parts])
    visible = np.where(occluded, Visibility.OCCLUDED, Visibility.VISIBLE)
    visible = np.where(np.isnan(joints).any(axis=1), Visibility.CROPPED, visible).astype(np.uint8)
    center = np.array([value("center_x"), value("center_y")])
    return Person(
        joints=joints,
        visible=visible,
        center=None if np.isnan(center).any() else center,
        scale=value("scale"),
        split=row.get("split") or "",
    )
