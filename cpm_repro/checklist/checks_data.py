"""How many people the data sets have, counted in their own annotation files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpm_repro.checklist.context import Context
from cpm_repro.data.matlab import elements, load_mat, load_mat_array, member, number, numbers
from cpm_repro.data.mpii import read_val_pairs
from cpm_repro.errors import UserError

_MPII = "data/mpii/mpii_human_pose_v1_u12_1.mat"
_PAIRS = "data/mpii_val_pairs.npz"


def lsp_training_people(context: Context) -> float:
    """LSP-extended and the first half of LSP."""
    extended = _joints(context.path("data/lspet_full/joints.mat"), (14, 3))
    return extended + _joints(context.path("data/lsp/joints.mat"), (3, 14)) // 2


def flic_training_people(context: Context) -> float:
    """FLIC's examples marked istrain."""
    path = context.path("data/flic/examples.mat")
    marks = [member(example, "istrain") for example in elements(load_mat(path, "examples"))]
    if all(mark is None for mark in marks):
        raise UserError(f"{path}: wanted FLIC's examples with istrain, got none")
    return sum(number(mark) == 1 for mark in marks)


def mpii_training_people(context: Context, drop_whole_images: bool = False) -> float:
    """MPII's annotated training people without the 2958 of validation.

    ``drop_whole_images`` also drops everybody else in an image that has a validation person.
    """
    images = _mpii(context.path(_MPII), "annolist")
    pairs = read_val_pairs(context.path(_PAIRS))
    held = {image for image, _ in pairs}
    count = 0
    for place, (image, is_train) in enumerate(images, start=1):
        if not is_train or (drop_whole_images and place in held):
            continue
        for index, person in enumerate(elements(member(image, "annorect")), start=1):
            count += member(person, "annopoints") is not None and (place, index) not in pairs
    return count


def mpii_test_people(context: Context) -> float:
    """MPII's test people that stand apart from others ("single person")."""
    images = _mpii(context.path(_MPII), "single_person")
    return sum(numbers(single).size for single, is_train in images if not is_train)


def _joints(path: Path, shape: tuple[int, int]) -> int:
    """How many people a `joints.mat` of so many rows and columns describes."""
    values = load_mat_array(path, "joints", 3)
    if values.shape[:2] != shape:
        raise UserError(f"{path}: wanted joints of {shape[0]} x {shape[1]} x N, got {values.shape}")
    return int(values.shape[2])


def _mpii(path: Path, field: str) -> list[tuple[Any, bool]]:
    """A field of RELEASE image by image, with whether the image is one to train on."""
    release = load_mat(path, "RELEASE")
    values, train = elements(member(release, field)), elements(member(release, "img_train"))
    if not values or len(values) != len(train):
        raise UserError(f"{path}: wanted RELEASE with {field} and img_train of one length")
    return [(value, number(flag) == 1) for value, flag in zip(values, train, strict=True)]
