"""MPII Human Pose: the original .mat with all its gaps, and the JSON form that later projects use."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.data.annotations import Annotations, Intake, Person, own_name
from cpm_repro.data.matlab import elements, load_mat, member, number, text
from cpm_repro.errors import UserError
from cpm_repro.files import read_json
from cpm_repro.npz_file import load_npz
from cpm_repro.skeleton import MPII16, Skeleton, Visibility


def read_mpii_mat(path: str | Path, strict: bool = False) -> Annotations:
    """Read `mpii_human_pose_v1_u12_1.mat` (struct RELEASE, spec `data.md`).

    People without points, or without objpos and scale, are reported; in images that are not for training
    every person lacks them and is not counted. A missing or empty `is_visible` counts as visible.

    Returns:
        Annotations of MPII16; ``split`` is "train" (see `mark_validation`), image and person numbers
        1-based as in RELEASE, ``box`` the head box.

    Raises:
        UserError: not such a file; with ``strict`` also the first unusable person.
    """
    release = load_mat(path, "RELEASE")
    images = elements(member(release, "annolist"))
    train = elements(member(release, "img_train"))
    if not images or len(train) != len(images):
        raise UserError(f"{path}: expected RELEASE with annolist and img_train of one length, got others")
    intake = Intake(strict)
    for index, image in enumerate(images):
        if number(train[index]) != 1:
            continue
        name = text(member(member(image, "image"), "name"))
        for rank, rect in enumerate(elements(member(image, "annorect"))):
            _add_mat_person(intake, f"image {index + 1} person {rank + 1}", name, index + 1, rank + 1, rect)
    return intake.done("mpii", MPII16)


def _add_mat_person(intake: Intake, identity: str, name: str, image: int, rank: int, rect: Any) -> None:
    points = elements(member(member(rect, "annopoints"), "point"))
    objpos = member(rect, "objpos")
    center = np.array([number(member(objpos, "x")), number(member(objpos, "y"))]) - 1.0
    scale = number(member(rect, "scale"))
    if not name:
        intake.report(identity, "the image has no name")
    elif not points:
        intake.report(identity, "no points (annopoints)")
    elif not np.isfinite(center).all() or math.isnan(scale):
        intake.report(identity, "no objpos or no scale")
    else:
        joints, visible = _mat_points(points)
        box = np.array([number(member(rect, side)) for side in ("x1", "y1", "x2", "y2")]) - 1.0
        head = box if np.isfinite(box).all() else None
        person = Person(joints, visible, center=center, scale=scale, split="train", box=head)
        intake.add(identity, name, person, image, rank)


def _mat_points(points: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """(16, 2) 0-based and (16,) Visibility; ids outside 0..15 are ignored."""
    joints = np.zeros((16, 2))
    visible = np.full(16, Visibility.CROPPED, np.uint8)
    for point in points:
        identity = number(member(point, "id"))
        if identity in range(16):
            joints[int(identity)] = number(member(point, "x")) - 1.0, number(member(point, "y")) - 1.0
            occluded = number(member(point, "is_visible")) == 0
            visible[int(identity)] = Visibility.OCCLUDED if occluded else Visibility.VISIBLE
    return joints, visible


def read_val_pairs(path: str | Path) -> set[tuple[int, int]]:
    """The held-out (image, person) pairs, 1-based: the release's `detections.mat` or an .npz of the same.

    Raises:
        UserError: neither form.
    """
    path = Path(path)
    if path.suffix == ".npz":
        arrays = load_npz(path)
        try:
            columns = [arrays[name] for name in ("image_index", "person_index")]
        except KeyError as error:
            raise UserError(f"{path}: wanted image_index and person_index, got no {error}") from error
    else:
        names = ("RELEASE_img_index", "RELEASE_person_index")
        columns = [np.asarray(load_mat(path, name)) for name in names]
    if any(column.dtype.kind not in "iuf" for column in columns) or columns[0].size != columns[1].size:
        raise UserError(f"{path}: expected as many image numbers as person numbers")
    images, people = (np.ravel(column).astype(int).tolist() for column in columns)
    return set(zip(images, people, strict=True))


def mark_validation(
    annotations: Annotations, pairs: Collection[tuple[int, int]], drop_others: bool = False
) -> Annotations:
    """Mark the held-out people "val".

    Args:
        annotations: of `read_mpii_mat`.
        pairs: 1-based (image, person).
        drop_others: everybody else in an image with a held-out person becomes "unused", as in the code bases
            with 22246 training people; the release keeps them and has 25925.
    """
    chosen = set(pairs)
    held_images = {image for image, _ in chosen}

    def split(image: int, person: Person) -> str:
        if (image, person.number) in chosen:
            return "val"
        return "unused" if drop_others and image in held_images else person.split

    images = tuple(
        replace(image, people=tuple(replace(p, split=split(image.number, p)) for p in image.people))
        for image in annotations.images
    )
    return replace(annotations, images=images)


def read_mpii_json(path: str | Path, skeleton: Skeleton = MPII16, strict: bool = False) -> Annotations:
    """Read the list of {image, center, scale, joints Kx2, joints_vis K} that HRNet and others use; 1-based.

    A joint at or left of / above the image's corner (they write 0 or -1) is missing; else joints_vis 0 is
    occluded, and an empty one visible. With another skeleton it is somebody's own data, called as its file.

    Raises:
        UserError: not such a file; with ``strict`` also the first unusable person.
    """
    items = read_json(path)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise UserError(f"{path}: expected a list of people with image, center, scale, joints and joints_vis")
    intake = Intake(strict)
    for index, item in enumerate(items):
        identity = f"person {index + 1} ({item.get('image', 'no image')})"
        person = _json_person(item, len(skeleton))
        if person is None:
            intake.report(identity, f"expected image, center, scale, {len(skeleton)} joints and joints_vis")
        else:
            intake.add(identity, item["image"], person)
    return intake.done("mpii" if skeleton is MPII16 else own_name(path), skeleton)


def _json_person(item: dict[str, Any], parts: int) -> Person | None:
    if not isinstance(item.get("image"), str):
        return None
    try:
        joints = np.array(item["joints"], float).reshape(parts, 2)
        flags = np.array(item.get("joints_vis", np.ones(parts)), float).reshape(parts)
        center = np.array(item["center"], float).reshape(2) - 1.0
        missing = (joints <= 0).all(axis=1)
        visible = np.where(flags <= 0, Visibility.OCCLUDED, Visibility.VISIBLE)  # null: visible
        visible = np.where(missing, Visibility.CROPPED, visible).astype(np.uint8)
        return Person(joints - 1.0, visible, center=center, scale=float(item["scale"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
