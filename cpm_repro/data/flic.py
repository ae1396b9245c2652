"""FLIC: `examples.mat` with upper bodies from films (spec `data.md`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.data.annotations import Annotations, Intake, Person
from cpm_repro.data.matlab import elements, load_mat, member, number, numbers, text
from cpm_repro.errors import UserError
from cpm_repro.skeleton import FLIC9, Visibility

_KEPT = [0, 1, 2, 3, 4, 5, 6, 7, 10]
"""Of the eleven labelled points the eyes (8, 9) are dropped; the nose is called head."""

OBSERVER_CENTRIC = list(FLIC9.flip_permutation)

SCALE_PER_TORSO = 0.0110
"""scale_provided of a torso box one pixel high."""


def read_flic(path: str | Path, observer_centric: bool = True, strict: bool = False) -> Annotations:
    """Read `examples.mat`.

    Args:
        path: the file.
        observer_centric: swap left and right of people whose right shoulder lies right of their left one.
        strict: raise at the first unusable example.

    Returns:
        Annotations of FLIC9; ``box`` is the torso box, ``split`` "train", "test" or "".

    Raises:
        UserError: not such a file.
    """
    examples = elements(load_mat(path, "examples"))
    if not examples or member(examples[0], "coords") is None:
        raise UserError(f"{path}: expected a struct array 'examples' with coords, filepath and torsobox")
    intake = Intake(strict)
    for index, example in enumerate(examples):
        _add(intake, f"example {index + 1}", example, observer_centric)
    return intake.done("flic", FLIC9)


def _add(intake: Intake, identity: str, example: Any, observer_centric: bool) -> None:
    name, coords, box = (member(example, field) for field in ("filepath", "coords", "torsobox"))
    if not text(name):
        intake.report(identity, "no filepath")
        return
    points = numbers(coords)
    finite = (
        np.isfinite(points).all(axis=0) if points.ndim == 2 and points.shape[0] == 2 else np.zeros(0, bool)
    )
    if finite.sum() != 11:
        intake.report(identity, f"expected 11 labelled points, got {int(finite.sum())}")
        return
    torso = numbers(box).ravel() - 1.0
    if torso.shape != (4,) or not (torso[3] > torso[1] and torso[2] > torso[0]):
        intake.report(identity, "torsobox: expected x1 y1 x2 y2 of a box with a size")
        return
    joints = points[:, finite].T[_KEPT] - 1.0
    if observer_centric and faces_away(joints):
        joints = joints[OBSERVER_CENTRIC]
    x1, y1, x2, y2 = torso
    person = Person(
        joints=joints,
        visible=np.full(9, Visibility.VISIBLE, np.uint8),
        center=np.array([(x1 + x2) / 2, 0.7 * y1 + 0.3 * y2]),
        scale=SCALE_PER_TORSO * (y2 - y1),
        split=_split(example),
        box=torso,
    )
    intake.add(identity, text(name), person)


def _split(example: Any) -> str:
    if number(member(example, "istest")) == 1:
        return "test"
    return "train" if number(member(example, "istrain")) == 1 else ""


def faces_away(joints: np.ndarray) -> bool:
    """FLIC's rule: the right shoulder lies right of the left one; joints (9, 2) in FLIC9's order."""
    return bool(joints[FLIC9.index("right_shoulder"), 0] > joints[FLIC9.index("left_shoulder"), 0])
