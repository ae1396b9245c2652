"""People's own data: COCO key-point JSON and CSV tables with any number of parts. Both are 0-based."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.data.annotations import Annotations, Intake, Person
from cpm_repro.data.skeleton_file import skeleton_from_names
from cpm_repro.errors import UserError
from cpm_repro.files import read_json
from cpm_repro.skeleton import Skeleton, Visibility

_BUILT_IN = ("mpii", "flic", "lsp", "lspet", "synthetic")
_COCO_VISIBILITY = np.array([Visibility.CROPPED, Visibility.OCCLUDED, Visibility.VISIBLE], np.uint8)


def read_coco(path: str | Path, skeleton: Skeleton | None = None, strict: bool = False) -> Annotations:
    """Read a COCO key-point JSON; v 0 is not labelled, 1 occluded, 2 visible.

    The first category with key points counts, annotations of the others are skipped; without ``skeleton`` its
    names give the parts, its `skeleton` the limbs (1-based pairs) and left_x / right_x the pairs. Crowds are
    not people and are skipped.

    Raises:
        UserError: not such a file; with ``strict`` also the first unusable person.
    """
    images, annotations, categories = _coco_content(path)
    category = next((category for category in categories if category.get("keypoints")), None)
    if category is None:
        raise UserError(f"{path}: expected a category with keypoints, got none")
    if skeleton is None:
        skeleton = _coco_skeleton(path, category)
    names = {image.get("id"): image.get("file_name") for image in images}
    others = {other["id"] for other in categories if "id" in other} - {category.get("id")}
    intake, seen = Intake(strict), set()
    for rank, item in enumerate(annotations):
        if item.get("iscrowd") or item.get("category_id") in others:
            continue
        identity = f"annotation {item.get('id', rank)}"
        name = names.get(item.get("image_id"))
        person = _coco_person(item, len(skeleton))
        if item.get("id", rank) in seen:
            intake.report(identity, "an annotation of this id came before")
        elif not isinstance(name, str):
            intake.report(identity, f"image_id {item.get('image_id')} is not among the images")
        elif person is None:
            intake.report(
                identity,
                f"keypoints: expected {3 * len(skeleton)} numbers with v of 0, 1 or 2; bbox: four, or none",
            )
        else:
            intake.add(identity, name, person)
        seen.add(item.get("id", rank))
    return intake.done(_name(path), skeleton)


def _coco_content(path: str | Path) -> list[list[dict[str, Any]]]:
    """Images, annotations and categories of a COCO file: objects whose ids are plain."""
    content, lists = read_json(path), []
    for key in ("images", "annotations", "categories"):
        items = content.get(key) if isinstance(content, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise UserError(
                f"{path}: expected a COCO JSON with objects in images, annotations and categories"
            )
        ids = ("id", "image_id", "category_id")
        if any(isinstance(item.get(name), (list, dict)) for item in items for name in ids):
            raise UserError(f"{path}: expected plain ids in {key}, got a list or an object")
        lists.append(items)
    return lists


def _name(path: str | Path) -> str:
    """What the data set is called: as its file, but never as one that is treated in a way of its own."""
    stem = Path(path).stem
    return f"own {stem}" if stem in _BUILT_IN else stem


def _coco_skeleton(path: str | Path, category: dict[str, Any]) -> Skeleton:
    parts, limbs = category["keypoints"], category.get("skeleton") or []
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise UserError(f"{path}: keypoints: expected a list of names")
    if not isinstance(limbs, list) or not all(
        isinstance(limb, list) and [type(end) for end in limb] == [int, int] for limb in limbs
    ):
        raise UserError(f"{path}: skeleton: expected pairs of numbers of key points")
    return skeleton_from_names(str(category.get("name", "coco")), parts, [(a - 1, b - 1) for a, b in limbs])


def _coco_person(item: dict[str, Any], parts: int) -> Person | None:
    try:
        values = np.array(item["keypoints"], float).reshape(parts, 3)
        box = np.array(item.get("bbox") or [], float)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not np.isin(values[:, 2], (0, 1, 2)).all() or box.shape not in ((0,), (4,)):
        return None
    joints, visible = values[:, :2], _COCO_VISIBILITY[values[:, 2].astype(int)]
    if not box.size or not (box[2:] > 0).all():
        return Person(joints, visible)
    low, size = box[:2], box[2:]
    corners = np.concatenate([low, low + size])
    return Person(joints, visible, center=low + size / 2, scale=size[1] / 200, box=corners)


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
    return intake.done(_name(path), skeleton)


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
