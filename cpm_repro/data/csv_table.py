"""People's own data in a CSV table with any number of parts; 0-based."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from cpm_repro.data.annotations import Annotations, Intake, Person, own_name
from cpm_repro.errors import UserError
from cpm_repro.skeleton import Skeleton, Visibility, skeleton_from_names

_NO_PART = "; center_x and center_y are somebody's place and no part: give a part of that name another"


def read_csv(path: str | Path, skeleton: Skeleton | None = None, strict: bool = False) -> Annotations:
    """Read a table of one line per person: `image`, and per part `<part>_x`, `<part>_y`, `<part>_visible`.

    `<part>_visible` is optional: 1 (default), or 0 for an occluded joint; an empty x or y is a missing one.
    Also optional: `center_x`, `center_y`, `scale` (height / 200 px), `split` (train, val, test). Blanks
    before a cell do not count.

    Raises:
        UserError: no such header; with ``strict`` also the first unusable person.
    """
    columns, rows = _table(path)
    parts = _parts(path, columns)
    skeleton = skeleton or skeleton_from_names(Path(path).stem, parts)
    absent = [part for part in skeleton.parts if part not in parts]
    if absent:
        raise UserError(
            f"{path}: expected columns {absent[0]}_x and {absent[0]}_y of the skeleton {skeleton.name}"
            + (_NO_PART if absent[0] == "center" else "")
        )
    intake = Intake(strict)
    for line, cells in rows:
        identity = f"line {line}"
        if len(cells) < len(columns) or any(cells[len(columns) :]):
            intake.report(identity, f"expected {len(columns)} cells as in the header, got {len(cells)}")
            continue
        row = dict(zip(columns, cells, strict=False))
        try:
            person = _person(row, skeleton)
        except ValueError as error:
            intake.report(identity, str(error))
            continue
        if not row["image"]:
            intake.report(identity, "no image")
        elif person.split not in ("", "train", "val", "test"):
            intake.report(identity, f"split: expected train, val, test or nothing, got {person.split}")
        else:
            intake.add(identity, row["image"], person)
    return intake.done(own_name(path), skeleton)


def _table(path: str | Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the columns; the other rows that are not empty, each with the line of the file it ends in."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.reader(file, skipinitialspace=True)
            rows = [(table.line_num, cells) for cells in table if any(cells)]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a CSV table: {error}") from error
    return ([name.strip() for name in rows[0][1]], rows[1:]) if rows else ([], [])


def _parts(path: str | Path, columns: list[str]) -> list[str]:
    """The parts that the columns name."""
    parts = [c[:-2] for c in columns if c.endswith("_x") and c != "center_x" and c[:-2] + "_y" in columns]
    if "image" not in columns or not parts:
        raise UserError(
            f"{path}: expected columns image, <part>_x and <part>_y, got {', '.join(columns[:5]) or 'none'}"
            + (_NO_PART if "center_x" in columns else "")
        )
    for index, column in enumerate(columns):
        other = column[:-1] + {"x": "y", "y": "x"}.get(column[-1:], "")
        if column.endswith(("_x", "_y")) and other not in columns:
            raise UserError(f"{path}: expected a column {other} beside {column}, got none")
        if column and column in columns[:index]:
            raise UserError(f"{path}: expected one column {column}, got several")
    return parts


def _person(row: dict[str, str], skeleton: Skeleton) -> Person:
    """The person of a line; a ValueError says which of its cells is none."""

    def value(column: str) -> float:
        text = row.get(column, "").strip()
        try:
            return float(text) if text else math.nan
        except ValueError as error:
            raise ValueError(f"{column}: expected a number, got {text!r}") from error

    joints = np.array([[value(f"{part}_x"), value(f"{part}_y")] for part in skeleton.parts])
    flags = [value(f"{part}_visible") for part in skeleton.parts]
    for part, flag in zip(skeleton.parts, flags, strict=True):
        if flag not in (0, 1) and not math.isnan(flag):
            raise ValueError(f"{part}_visible: expected 1, 0 (hidden) or nothing, got {flag:g}")
    visible = np.where(np.array(flags) == 0, Visibility.OCCLUDED, Visibility.VISIBLE)
    visible = np.where(np.isnan(joints).any(axis=1), Visibility.CROPPED, visible).astype(np.uint8)
    center = np.array([value("center_x"), value("center_y")])
    if np.isnan(center).sum() == 1:
        raise ValueError("expected center_x and center_y, got one of them")
    return Person(
        joints=joints,
        visible=visible,
        center=None if np.isnan(center).any() else center,
        scale=value("scale"),
        split=row.get("split", "").strip(),
    )
