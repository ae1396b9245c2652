"""Fast augmentation: one composed affine warp from the photograph straight into the crop.

The original resizes, rotates and crops in three steps (`data/exact.py`); this composes the same geometry
into a single 2x3 matrix, so that only the crop's pixels are computed. Pixel centres lie at integer
coordinates; the middle of a crop of n pixels is (n - 1) / 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from cpm_repro.config import AugmentConfig, person_share
from cpm_repro.data.sample import PoseSample, seen_in_image
from cpm_repro.skeleton import Skeleton

BORDER = 128
"""Grey outside the photograph: it becomes 0 in the network's input (spec `transform.md`)."""

_TOO_LONG = 32_767
"""OpenCV's warps keep a photograph's coordinates in 16 bits: a side of so many pixels is refused."""


@dataclass(frozen=True, slots=True)
class Draw:
    """The random choices for one sample; the default is the validation crop."""

    scale: float = 1.0
    degrees: float = 0.0
    mirror: bool = False
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Crop:
    """A sample after the warp: image (crop, crop, 3) uint8.

    Joints (P, K, 2) float32; visible (P, K); center (2,). Where the warp is left to the device, ``image`` is
    the window of the photograph that the crop sees, and ``matrix`` (2, 3) maps its pixels to the crop's.
    """

    image: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    center: np.ndarray
    matrix: np.ndarray | None = None


def draw(config: AugmentConfig, rng: np.random.Generator) -> Draw:
    """Draw one sample's augmentation; always takes five numbers from ``rng``."""
    scale, degrees, flip, dx, dy = rng.random(5).tolist()
    return Draw(
        scale=config.scale_min + (config.scale_max - config.scale_min) * scale,
        degrees=config.rotate * (2 * degrees - 1),
        mirror=flip < config.flip,
        shift=(config.shift * (2 * dx - 1), config.shift * (2 * dy - 1)),
    )


def crop_matrix(sample: PoseSample, config: AugmentConfig, choice: Draw | None = None) -> np.ndarray:
    """The affine map from photograph to crop pixels for the sample's annotated person; see `place_matrix`."""
    return place_matrix(sample.center, sample.extent, config, choice)


def place_matrix(
    center: np.ndarray, extent: float, config: AugmentConfig, choice: Draw | None = None
) -> np.ndarray:
    """The affine map from photograph to crop pixels.

    The person's centre goes to the crop's middle (plus the drawn shift), the extent to ``person_share(config)
    * crop * scale``; positive degrees turn counter-clockwise as seen on the screen, as OpenCV's
    getRotationMatrix2D does; then the mirror about the crop's vertical axis.

    Args:
        center: (2,) photograph pixels.
        extent: longer side of the person's box, photograph pixels, > 0.
        config: crop side, and which share of it a person fills.
        choice: the drawn augmentation; None is the validation crop.

    Returns:
        (2, 3) float64.
    """
    choice = choice or Draw()
    factor = person_share(config) * config.crop * choice.scale / extent
    cos = factor * math.cos(math.radians(choice.degrees))
    sin = factor * math.sin(math.radians(choice.degrees))
    linear = np.array([[cos, sin], [-sin, cos]])
    middle = (config.crop - 1) / 2 + config.crop * np.array(choice.shift)
    matrix = np.column_stack([linear, middle - linear @ center.astype(np.float64)])
    if choice.mirror:
        matrix[0] *= -1
        matrix[0, 2] += config.crop - 1
    return matrix


def apply_matrix(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points (..., 2) by a (2, 3) affine matrix; computed in float64, returned as float32."""
    return (points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def invert_matrix(matrix: np.ndarray) -> np.ndarray:
    """The (2, 3) affine map from crop pixels back to photograph pixels."""
    inverse = np.linalg.inv(matrix[:, :2])
    return np.column_stack([inverse, -inverse @ matrix[:, 2]])


def warp(sample: PoseSample, matrix: np.ndarray, config: AugmentConfig, skeleton: Skeleton) -> Crop:
    """Apply a crop matrix to image, joints and centre.

    Left and right parts trade places when the matrix mirrors (negative determinant). Visibility is judged on
    the photograph and not again after the crop (spec `transform.md`).
    """
    joints, visible = apply_matrix(matrix, sample.joints), seen_in_image(sample)
    if np.linalg.det(matrix[:, :2]) < 0:
        order = list(skeleton.flip_permutation)
        joints, visible = joints[:, order], visible[:, order]
    return Crop(
        image=warp_image(sample.image, matrix, config.crop),
        joints=joints,
        visible=visible,
        center=apply_matrix(matrix, sample.center),
    )


def warp_image(
    image: np.ndarray, matrix: np.ndarray, crop: int | tuple[int, int], least: float = 0.5
) -> np.ndarray:
    """Resample (H, W, 3) uint8 into a crop, bilinear, grey 128 outside.

    A map that shrinks by a factor of 2 or more skips pixels, so the part of the photograph that the
    crop sees is first halved until the warp's factor is above ``least``. Each halving averages 2 x 2 pixels,
    which OpenCV does far faster than the average over a larger block. The photograph may be of any size.

    Args:
        image: the photograph.
        matrix: (2, 3) photograph to crop pixels.
        crop: side of a square crop, or (width, height).
        least: at 0.5 no pixel is skipped.
    """
    size = (crop, crop) if isinstance(crop, int) else crop
    if halvings(matrix, least) or max(image.shape[:2]) >= _TOO_LONG:
        image, matrix = cut_window(image, matrix, size, least)
    warped = cv2.warpAffine(
        image,
        matrix,
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(BORDER,) * 3,
    )
    return np.asarray(warped)


def halvings(matrix: np.ndarray, least: float) -> int:
    """How often a photograph is halved before the map's factor is above ``least``."""
    factor = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    return 1 + int(math.log2(least / factor)) if factor <= least else 0


def cut_window(
    image: np.ndarray, matrix: np.ndarray, crop: tuple[int, int], least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cut out what the crop sees and halve it until the map's factor is above ``least``.

    The matrix is adjusted to the smaller picture. Arguments as for `warp_image`; crop is (width, height).
    """
    times = halvings(matrix, least)
    block = 1 << times
    height, width = image.shape[:2]
    right, bottom = crop[0] - 0.5, crop[1] - 0.5
    corners = apply_matrix(
        invert_matrix(matrix), np.array([[-0.5, -0.5], [right, -0.5], [-0.5, bottom], [right, bottom]])
    )
    # Two blocks of margin: bilinear taps at the crop's rim must find the same averages as without the cut.
    low = np.floor(corners.min(axis=0)).astype(int) // block * block - 2 * block
    high = low + (np.ceil(corners.max(axis=0)).astype(int) - low) // block * block + 3 * block
    x1, y1 = min(max(low[0], 0), width - 1), min(max(low[1], 0), height - 1)
    x2, y2 = max(min(high[0], width), x1 + 1), max(min(high[1], height), y1 + 1)
    small = image[y1:y2, x1:x2]
    for _ in range(times):
        size = (max(1, small.shape[1] // 2), max(1, small.shape[0] // 2))
        small = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_AREA))
    # Pixel x of the photograph lies at (x - x1 + 0.5) / scale - 0.5 in the small picture; invert that.
    scale = np.array([(x2 - x1) / small.shape[1], (y2 - y1) / small.shape[0]])
    offset = scale * 0.5 - 0.5 + np.array([x1, y1])
    return small, np.column_stack([matrix[:, :2] * scale, matrix[:, :2] @ offset + matrix[:, 2]])


@dataclass(frozen=True, slots=True)
class Place:
    """A crop without augmentation, and the (2, 3) float64 map from its pixels back to the photograph's."""

    crop: Crop
    inverse: np.ndarray


@dataclass(frozen=True)
class PersonAugment:
    """The default augmentation for the loader: a crop around the person's box, drawn as ``config`` says."""

    config: AugmentConfig

    def place(self, sample: PoseSample, skeleton: Skeleton) -> Place:
        """The crop without augmentation, and the way back."""
        matrix = crop_matrix(sample, self.config)
        return Place(warp(sample, matrix, self.config, skeleton), invert_matrix(matrix))

    def cut(self, sample: PoseSample, skeleton: Skeleton, rng: np.random.Generator) -> Crop:
        """Draw an augmentation and crop."""
        return warp(sample, crop_matrix(sample, self.config, draw(self.config, rng)), self.config, skeleton)
