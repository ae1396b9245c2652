"""The release's training record: one annotated person as its JSON and LMDB files have it (spec `data.md`)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cpm_repro.data.sample import FARTHEST, are_pixels, is_scale, outside
from cpm_repro.errors import UserError
from cpm_repro.skeleton import MPII_TO_CPM14, Visibility

RELEASE_JOINTS = {"MPI": 16, "LEEDS": 16, "FLIC": 9}
"""The release's data sets and the joints of their records."""


def _empty() -> np.ndarray:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """One person with everybody else in the image. **Coordinates are 1-based**, as in the files.

    Attributes:
        dataset: MPI, LEEDS or FLIC.
        img_path: relative to the data set's image folder.
        img_width, img_height: pixels.
        objpos: (2,) the person's centre.
        joint_self: (J, 3) x, y, visible; J is 16 (MPII order) or 9 (FLIC); a missing joint is (0, 0, 0).
        scale: scale_provided, the person's height / 200 px.
        joint_others: (n, J, 3).
        scale_other: (n,).
        objpos_other: (n, 2).
        is_validation: held out by the release's split.
        annolist_index: 1-based number of the image.
        people_index: 1-based number of the person in the image.
    """

    dataset: str
    img_path: str
    img_width: int
    img_height: int
    objpos: np.ndarray
    joint_self: np.ndarray
    scale: float
    joint_others: np.ndarray = field(default_factory=_empty)
    scale_other: np.ndarray = field(default_factory=_empty)
    objpos_other: np.ndarray = field(default_factory=_empty)
    is_validation: bool = False
    annolist_index: int = 1
    people_index: int = 1

    @property
    def others(self) -> int:
        """How many other people the image has."""
        return len(self.scale_other)

    @property
    def name(self) -> str:
        """What messages call this person."""
        return f"{self.dataset}/{self.img_path}#{self.people_index}"


def drawn_visibility(joints: np.ndarray, width: int, height: int) -> np.ndarray:
    """The data layer's visibility of stored joints (spec `transform.md`, step 1).

    Args:
        joints: (..., J, 3) float32, 1-based x, y and the stored flag.
        width, height: of the original image, pixels.

    Returns:
        (..., J) uint8 Visibility: outside the image (also the missing joints' (0, 0)) CROPPED, else stored 0
        OCCLUDED and anything else VISIBLE.
    """
    flag = np.where(joints[..., 2] == 0, Visibility.OCCLUDED, Visibility.VISIBLE)
    out = outside(joints[..., :2] - np.float32(1), (width, height))
    return np.where(out, Visibility.CROPPED, flag).astype(np.uint8)


def record_joints(record: PersonRecord, parts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the data layer makes of a record before it augments (spec `transform.md`, steps 1 and 2).

    Args:
        record: a person.
        parts: 14 takes MPII's 16 joints in the networks' order; the record's own number takes them as they
            are.

    Returns:
        joints (P, parts, 2) float32 0-based, person 0 first; visible (P, parts) uint8; objpos (2,) float32
        0-based.

    Raises:
        UserError: the record has another number of joints.
    """
    stored = np.asarray(record.joint_self, np.float32)[None]
    if record.others:
        stored = np.concatenate([stored, np.asarray(record.joint_others, np.float32)])
    if parts == 14 and stored.shape[1] == 16:
        stored = stored[:, list(MPII_TO_CPM14)]
    elif parts != stored.shape[1]:
        raise UserError(f"{record.name}: expected a record of {parts} joints, got {stored.shape[1]}")
    visible = drawn_visibility(stored, record.img_width, record.img_height)
    objpos = np.asarray(record.objpos, np.float32) - np.float32(1)
    return stored[..., :2] - np.float32(1), visible, objpos


def number_fault(record: PersonRecord) -> str:
    """What makes no sense in a record's numbers, or ""."""
    numbers = (record.objpos, record.joint_self, record.joint_others, record.scale_other, record.objpos_other)
    if not is_scale(record.scale):
        return f"scale: expected a positive number, got {record.scale:g}"
    if record.img_width < 1 or record.img_height < 1:
        return f"expected an image size, got {record.img_width} x {record.img_height}"
    if not all(are_pixels(value) for value in numbers):
        return f"a coordinate or a scale is NaN or beyond {FARTHEST:g}"
    return ""


def record_fault(record: PersonRecord) -> str:
    """Why a record cannot be trained on, or ""."""
    if fault := number_fault(record):
        return fault
    drawn = drawn_visibility(np.asarray(record.joint_self), record.img_width, record.img_height)
    return "" if (drawn != Visibility.CROPPED).any() else "no labelled joint inside the image"
