"""People's own data as COCO key-point JSON with any number of parts; 0-based."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.data.annotations import Annotations, Intake, Person, own_name
from cpm_repro.errors import UserError
from cpm_repro.files import read_json
from cpm_repro.skeleton import Skeleton, Visibility, skeleton_from_names

_VISIBILITY = np.array([Visibility.CROPPED, Visibility.OCCLUDED, Visibility.VISIBLE], np.uint8)


def read_coco(path: str | Path, skeleton: Skeleton | None = None, strict: bool = False) -> Annotations:
    """Read a COCO key-point JSON; v 0 is not labelled, 1 occluded, 2 visible.

    The first category with key points counts, with those of the very same ones (animals of many kinds);
    annotations of the others are skipped, as are crowds, which are not people. Without ``skeleton`` its names
    give the parts, its `skeleton` the limbs (1-based pairs) and left_x / right_x the pairs. Parts of a
    ``skeleton`` are found by their names among the category's, or by their places where it shares no name
    with them.

    Raises:
        UserError: not such a file, or parts of the ``skeleton`` are not in it; with ``strict`` also the first
            unusable person.
    """
    images, annotations, categories = _content(path)
    category = next((category for category in categories if category.get("keypoints")), None)
    if category is None:
        raise UserError(f"{path}: expected a category with keypoints, got none")
    parts = _key_points(path, category)
    skeleton = skeleton or _skeleton(path, category, parts)
    order = _order(path, parts, skeleton)
    pictures = _pictures(images)
    others = {other["id"] for other in categories if "id" in other and other.get("keypoints") != parts}
    intake, seen = Intake(strict), set()
    for rank, item in enumerate(annotations):
        if item.get("iscrowd") or item.get("category_id") in others:
            continue
        number = item.get("id")
        identity = f"annotation {rank if number is None else number}"
        found = pictures.get(item.get("image_id"), {})
        person = _person(item, len(parts), order)
        if number is not None and number in seen:
            intake.report(identity, "an annotation of this id came before")
        elif not found:
            intake.report(identity, f"image_id {item.get('image_id')} is not among the images")
        elif len(found) > 1:
            intake.report(identity, f"image_id {item.get('image_id')} is {' and '.join(found)}")
        elif person is None:
            intake.report(
                identity,
                f"keypoints: expected {3 * len(parts)} numbers with v of 0, 1 or 2; bbox: four, or none",
            )
        else:
            ((name, size),) = found.items()
            intake.add(identity, name, person, size=size)
        seen.add(number)
    return intake.done(own_name(path), skeleton)


def _content(path: str | Path) -> list[list[dict[str, Any]]]:
    """Images, annotations and categories of a COCO file: objects whose ids are plain."""
    content, lists = read_json(path), []
    if isinstance(content, dict) and "root" in content:
        raise UserError(f"{path}: a file of the release's records, which `cpm data lmdb` takes")
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


def _pictures(images: Sequence[dict[str, Any]]) -> dict[Any, dict[str, tuple[int, int] | None]]:
    """File names and sizes by image id: several where files were put together whose ids are the same."""
    pictures: dict[Any, dict[str, tuple[int, int] | None]] = {}
    for image in images:
        found = pictures.setdefault(image.get("id"), {})
        if isinstance(name := image.get("file_name"), str):
            found.setdefault(name, _size(image.get("width"), image.get("height")))
    return pictures


def _size(width: Any, height: Any) -> tuple[int, int] | None:
    """The sides of a picture where they are given as whole numbers."""
    whole = isinstance(width, int) and isinstance(height, int)
    return (width, height) if whole and min(width, height) > 0 else None


def _key_points(path: str | Path, category: dict[str, Any]) -> list[str]:
    parts = category["keypoints"]
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise UserError(f"{path}: keypoints: expected a list of names")
    if len(set(parts)) != len(parts):
        raise UserError(f"{path}: keypoints: names must be unique, got {', '.join(parts)}")
    return parts


def _skeleton(path: str | Path, category: dict[str, Any], parts: Sequence[str]) -> Skeleton:
    limbs = category.get("skeleton") or []
    if not isinstance(limbs, list) or not all(
        isinstance(limb, list) and [type(end) for end in limb] == [int, int] for limb in limbs
    ):
        raise UserError(f"{path}: skeleton: expected pairs of numbers of key points")
    return skeleton_from_names(str(category.get("name", "coco")), parts, [(a - 1, b - 1) for a, b in limbs])


def _order(path: str | Path, parts: Sequence[str], skeleton: Skeleton) -> list[int]:
    """Which of the file's key points is each part of the skeleton."""
    if not set(parts) & set(skeleton.parts) and len(parts) == len(skeleton):
        return list(range(len(parts)))  # names of the user's own for all of them
    absent = [part for part in skeleton.parts if part not in parts]
    if absent:
        raise UserError(
            f"{path}: the skeleton {skeleton.name} has a part {absent[0]}, the file's key points are "
            f"{', '.join(parts)}"
        )
    return [parts.index(part) for part in skeleton.parts]


def _person(item: dict[str, Any], parts: int, order: Sequence[int]) -> Person | None:
    try:
        values = np.array(item["keypoints"], float).reshape(parts, 3)[list(order)]
        box = np.array(item.get("bbox") or [], float)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not np.isin(values[:, 2], (0, 1, 2)).all() or box.shape not in ((0,), (4,)):
        return None
    joints, visible = values[:, :2], _VISIBILITY[values[:, 2].astype(int)]
    if not box.size or not (box[2:] > 0).all():
        return Person(joints, visible)
    low, size = box[:2], box[2:]
    corners = np.concatenate([low, low + size])
    return Person(joints, visible, center=low + size / 2, scale=size[1] / 200, box=corners)
