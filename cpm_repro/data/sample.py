"""What a pose data set hands out: one photograph with the people in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cpm_repro.config import PERSON_HEIGHT
from cpm_repro.skeleton import Skeleton, Visibility


@dataclass(frozen=True, slots=True)
class PoseSample:
    """One annotated person together with the picture and everybody else labelled in it.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        joints: (P, K, 2) float32, x right and y down in 0-based pixels (pixel centres at integers); person
            0 is the annotated one, the others follow. Coordinates of CROPPED joints mean nothing.
        visible: (P, K) uint8 codes of :class:`~cpm_repro.skeleton.Visibility`.
        center: (2,) float32, person 0's centre.
        extent: longer side of the box around ``center`` that holds person 0's labelled joints, pixels, > 0.
        id: names the sample in messages.
        scale: height / 200 px as MPII has it (scale_provided); NaN where unknown.
    """

    image: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    center: np.ndarray
    extent: float
    id: str
    scale: float = math.nan


class PoseDataset(Protocol):
    """Samples by index.

    Every call with one index gives the same sample. Must be safe to index from threads.
    """

    @property
    def name(self) -> str:
        """Short name for tables and messages."""

    @property
    def skeleton(self) -> Skeleton:
        """Names and structure of the K parts, in the order of ``PoseSample.joints``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> PoseSample: ...


def outside(joints: npt.NDArray[np.floating], size: tuple[int, int]) -> np.ndarray:
    """(...) bool: which 0-based joints (..., 2) lie outside of an image of (width, height) pixels."""
    x, y = joints[..., 0], joints[..., 1]
    return (x < 0) | (y < 0) | (x >= size[0]) | (y >= size[1])


def seen_in_image(sample: PoseSample) -> np.ndarray:
    """(P, K) uint8 visibility for training: joints outside of the photograph are CROPPED."""
    out = outside(sample.joints, sample.image.shape[1::-1])
    return np.where(out, np.uint8(Visibility.CROPPED), sample.visible)


FARTHEST = 1e6
"""Coordinates beyond it are damage, not pixels."""


def are_pixels(coordinates: npt.NDArray[np.floating]) -> bool:
    """Whether all coordinates can be pixels: finite, and not beyond `FARTHEST`."""
    return bool((np.abs(coordinates) <= FARTHEST).all())


def is_scale(scale: float) -> bool:
    """Whether a person's height / 200 px can be a number like this."""
    return 1 / FARTHEST <= scale <= FARTHEST


def labelled_box(joints: npt.NDArray[np.floating], labelled: npt.NDArray[np.bool_]) -> np.ndarray:
    """Bounding box (x1, y1, x2, y2) of the labelled joints.

    Joints (K, 2), labelled (K,). None labelled: NaN.
    """
    if not labelled.any():
        return np.full(4, np.nan)
    points = joints[labelled]
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def center_and_extent(
    joints: npt.NDArray[np.floating], visible: npt.NDArray[np.integer]
) -> tuple[np.ndarray, float]:
    """Middle and longer side of the box of one person's labelled joints (spec `evaluation.md`, lspet-pck).

    Args:
        joints: (K, 2) pixels.
        visible: (K,) Visibility codes; CROPPED joints do not count.

    Returns:
        (2,) float32 centre and the extent in pixels; NaN both when no joint is labelled. The extent of a
        person with one labelled joint, or with coinciding joints, is 1 so that nobody divides by zero.
    """
    x1, y1, x2, y2 = labelled_box(joints, visible != Visibility.CROPPED)
    center = np.array([(x1 + x2) / 2, (y1 + y2) / 2], dtype=np.float32)
    extent = max(x2 - x1, y2 - y1)
    return center, float(extent if not extent < 1.0 else 1.0)


def extent_around(
    center: npt.NDArray[np.floating],
    joints: npt.NDArray[np.floating],
    visible: npt.NDArray[np.integer],
    scale: float = math.nan,
) -> float:
    """Longer side of the box around a given centre that holds one person's labelled joints.

    By the joints' own box somebody of whom the face alone is labelled would be as large as the face, and the
    crop around the middle of the body would show no label.

    Args:
        center: (2,) pixels, as a data set gives it.
        joints: (K, 2) pixels.
        visible: (K,) Visibility codes; CROPPED joints do not count.
        scale: height / 200 px, the least size of somebody whose labelled joints have none.

    Returns:
        Pixels, at least 1; NaN when no joint is labelled and the scale is unknown.
    """
    labelled = joints[visible != Visibility.CROPPED]
    height = PERSON_HEIGHT * scale
    if not len(labelled):
        return height
    around = max(1.0, 2 * float(np.abs(labelled - center).max()))
    return max(around, height) if np.ptp(labelled, axis=0).max() <= 0 else around
