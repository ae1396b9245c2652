"""MPII's test people: without joints, to be predicted and sent to the evaluation server in their own file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.data.matlab import elements, load_mat, member, number, numbers, text
from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write
from cpm_repro.matlab_file import load_matlab_file


@dataclass(frozen=True, slots=True)
class UnlabelledPerson:
    """One person of an image whose joints are kept secret; 0-based pixels."""

    image: str  # file name
    number: int  # 1-based number of the image in RELEASE
    person: int  # 1-based number of the person in the image
    center: tuple[float, float]  # objpos
    scale: float  # height / 200 px


def read_mpii_test(path: str | Path, single: bool = True) -> list[UnlabelledPerson]:
    """The people of `mpii_human_pose_v1_u12_1.mat` who are to be predicted, in its order.

    Args:
        path: the file.
        single: only people who stand apart from others (RELEASE.single_person: 7247), whom the single-person
            score counts; False takes everybody with an objpos and a scale (11731).

    Raises:
        UserError: not such a file, or nobody in it.
    """
    release = load_mat(path, "RELEASE")
    images = elements(member(release, "annolist"))
    train = elements(member(release, "img_train"))
    apart = elements(member(release, "single_person"))
    if not images or len(train) != len(images) or (single and len(apart) != len(images)):
        raise UserError(f"{path}: expected RELEASE with annolist, img_train and single_person of one length")
    people = []
    for index, image in enumerate(images):
        if number(train[index]) == 1:
            continue
        chosen = set(numbers(apart[index]).ravel().tolist()) if single else None
        name = text(member(member(image, "image"), "name"))
        for rank, rect in enumerate(elements(member(image, "annorect")), start=1):
            person = _unlabelled(name, index + 1, rank, rect)
            if person is not None and (chosen is None or rank in chosen):
                people.append(person)
    if not people:
        raise UserError(f"{path}: expected test images with objpos and scale, got none")
    return people


def _unlabelled(name: str, image: int, rank: int, rect: Any) -> UnlabelledPerson | None:
    objpos = member(rect, "objpos")
    x, y, scale = number(member(objpos, "x")), number(member(objpos, "y")), number(member(rect, "scale"))
    if not name or not np.isfinite([x, y, scale]).all() or scale <= 0:
        return None
    return UnlabelledPerson(name, image, rank, (x - 1.0, y - 1.0), scale)


def write_mpii_release(
    source: str | Path,
    target: str | Path,
    predictions: Mapping[tuple[int, int], np.ndarray],
    ids: Sequence[int],
) -> None:
    """Write MPII's own file with predictions as ``annopoints`` of its people, for the evaluation server.

    Args:
        source: `mpii_human_pose_v1_u12_1.mat`.
        target: the new file.
        predictions: by 1-based (image, person): (K, 2) 0-based pixels; written 1-based, as MPII counts.
        ids: MPII's number of each of the K joints.

    Raises:
        UserError: ``source`` is not such a file or lacks a person. EnvironmentFailure: ``target`` cannot be
            written.
    """
    import scipy.io

    content: Any = load_matlab_file(source, ("RELEASE",)).get("RELEASE")
    try:
        images = content["annolist"][0, 0]
        for (image, person), xy in predictions.items():
            if image > images.size or person > images["annorect"].flat[image - 1].size:
                raise UserError(f"{source}: has no person {person} in image {image}")
            rects = _with_field(images["annorect"].flat[image - 1], "annopoints")
            rects["annopoints"].flat[person - 1] = _points(xy, ids)
            images["annorect"].flat[image - 1] = rects
        with atomic_write(target) as file:
            scipy.io.savemat(file, {"RELEASE": content}, do_compression=True)
    except (IndexError, TypeError, ValueError) as error:
        raise UserError(f"{source}: expected RELEASE with annolist and annorect: {error}") from error


def _with_field(structs: np.ndarray, name: str) -> np.ndarray:
    """A copy of a MATLAB struct array that has the field ``name``, empty where it is new."""
    known = structs.dtype.names or ()
    names = [*known, *([] if name in known else [name])]
    result = np.empty(structs.shape, dtype=[(field, object) for field in names])
    for field in names:
        for index in range(structs.size):
            given = structs[field].flat[index] if field in known else np.empty((0, 0))
            result[field].flat[index] = given
    return result


def _points(xy: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """The struct ``annopoints`` with one ``point`` (x, y, id) per joint."""
    points = np.empty((1, len(ids)), dtype=[("x", object), ("y", object), ("id", object)])
    for index, (joint, (x, y)) in enumerate(zip(ids, xy, strict=True)):
        points[0, index] = (float(x) + 1.0, float(y) + 1.0, float(joint))
    struct = np.empty((1, 1), dtype=[("point", object)])
    struct[0, 0]["point"] = points
    return struct
