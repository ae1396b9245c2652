"""The original data layer's augmentation, step by step in its own order (spec `transform.md`).

Slow by nature: the whole image is resized and rotated before it is cropped. It is the judge of the fast path,
and what a run must use that wants the release's pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cpm_repro.data.augment import BORDER, Crop
from cpm_repro.data.glibc_rand import RAND_MAX, glibc_rand
from cpm_repro.data.sample import PoseSample, seen_in_image
from cpm_repro.errors import UserError
from cpm_repro.skeleton import Skeleton

_OFF = {
    "do_clahe": False,
    "gray": False,
    "aug_way": "rand",
    "transform_body_joint": True,
    "put_gaussian": True,
}
"""Caffe's defaults of switches that no released setting changes; other values are refused."""


@dataclass(frozen=True)
class ExactConfig:
    """The data layer's parameters under their own names; defaults are the release's for MPII.

    Attributes:
        crop_size_x, crop_size_y: the crop, pixels.
        target_dist: scale_provided that a person is brought to at multiplier 1.
        scale_prob: a draw above it leaves the multiplier at 1.
        scale_min, scale_max: range of the multiplier.
        max_rotate_degree: largest rotation either way.
        center_perterb_max: largest displacement of the crop, pixels (the original's spelling).
        flip_prob: a draw at most this mirrors.
    """

    crop_size_x: int = 368
    crop_size_y: int = 368
    target_dist: float = 1.171
    scale_prob: float = 1.0
    scale_min: float = 0.7
    scale_max: float = 1.3
    max_rotate_degree: float = 40.0
    center_perterb_max: float = 0.0
    flip_prob: float = 0.5

    @classmethod
    def from_transform_param(cls, param: Mapping[str, Any]) -> ExactConfig:
        """Take the augmentation fields of a prototxt's `transform_param`.

        Target fields are left to others.

        Raises:
            UserError: a switch has another value than Caffe's default, which alone is implemented.
        """
        for name, value in _OFF.items():
            if param.get(name, value) != value:
                raise UserError(f"transform_param: {name} {param[name]} is not implemented, only {value}")
        return cls(**{name: param[name] for name in cls.__dataclass_fields__ if name in param})


@dataclass(frozen=True, slots=True)
class ExactDraw:
    """What one sample's dice come to; multiplier and degree hold float32 values."""

    multiplier: float = 1.0
    degree: float = 0.0
    offset: tuple[int, int] = (0, 0)
    flip: bool = False


def exact_draw(config: ExactConfig, dice: Callable[[], np.float32]) -> ExactDraw:
    """Turn uniform draws into one sample's augmentation.

    Order: scale yes/no; scale (only after a yes); rotation; crop x; crop y; flip.

    Args:
        config: ranges.
        dice: gives the next float32 in [0, 1].
    """
    multiplier = np.float32(1)
    if dice() <= np.float32(config.scale_prob):
        low, high = np.float32(config.scale_min), np.float32(config.scale_max)
        multiplier = (high - low) * dice() + low
    degree = np.float32((float(dice()) - 0.5) * 2 * config.max_rotate_degree)
    x = int((float(dice()) - 0.5) * 2 * config.center_perterb_max)  # int() truncates toward zero, as C does
    y = int((float(dice()) - 0.5) * 2 * config.center_perterb_max)
    return ExactDraw(float(multiplier), float(degree), (x, y), bool(dice() <= np.float32(config.flip_prob)))


def glibc_dice(seed: int) -> Callable[[], np.float32]:
    """Dice thrown by the C library's rand() after srand(seed), as a run of the original throws them."""
    numbers: Iterator[int] = glibc_rand(seed)
    return lambda: np.float32(next(numbers)) / np.float32(RAND_MAX)


def generator_dice(rng: np.random.Generator) -> Callable[[], np.float32]:
    """Dice thrown by a NumPy generator."""
    return lambda: np.float32(rng.random())


@dataclass(frozen=True, slots=True)
class _State:
    """Image (H, W, 3) and points (M, 2) float32, which all steps move alike; point 0 is objpos."""

    image: np.ndarray
    points: np.ndarray


def exact_crop(sample: PoseSample, config: ExactConfig, choice: ExactDraw, skeleton: Skeleton) -> Crop:
    """Augment one person as the original does.

    Args:
        sample: the person, with a ``scale``; ``center`` is the original's objpos.
        config: the layer's parameters.
        choice: this sample's augmentation.
        skeleton: which parts trade places when mirrored.

    Returns:
        Crop of (crop_size_y, crop_size_x) pixels; ``center`` is the augmented objpos.
    """
    joints, visible = sample.joints, seen_in_image(sample)
    points = np.concatenate([np.reshape(sample.center, (1, 2)), np.reshape(joints, (-1, 2))])
    state = _scale(_State(sample.image, points.astype(np.float32)), sample.scale, config, choice)
    state = _rotate(state, choice.degree)
    state = _crop(state, config, choice.offset)
    order = list(range(joints.shape[1]))
    if choice.flip:
        state = _mirror(state)
        order = list(skeleton.flip_permutation)
    moved = state.points[1:].reshape(joints.shape)
    return Crop(state.image, moved[:, order], visible[:, order], state.points[0])


def _scale(state: _State, scale_self: float, config: ExactConfig, choice: ExactDraw) -> _State:
    """Step 3: resize the image; coordinates are multiplied, without a shift by half a pixel."""
    scale = exact_scale(scale_self, config, choice)
    image = cv2.resize(state.image, None, fx=float(scale), fy=float(scale), interpolation=cv2.INTER_CUBIC)
    return _State(image, state.points * scale)


def exact_scale(scale_self: float, config: ExactConfig, choice: ExactDraw) -> np.float32:
    """Factor from the stored image to the crop, float32 arithmetic in the original's order."""
    return np.float32(np.float32(config.target_dist) / np.float32(scale_self) * np.float32(choice.multiplier))


def rotation_matrix(width: int, height: int, degree: float) -> tuple[np.ndarray, tuple[int, int]]:
    """Step 4's matrix (2, 3) float64 and the size (width, height) of the rotated canvas.

    The canvas is the integer bounding box ceil(max) - floor(min) + 1 of the rotated rectangle, so that even
    zero degrees enlarge it by a pixel and move everything by half of one.
    """
    middle = (width / 2, height / 2)
    corners = cv2.boxPoints((middle, (float(width), float(height)), degree))
    low, high = np.floor(np.min(corners, axis=0)), np.ceil(np.max(corners, axis=0))
    size = (int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, degree, 1.0))
    matrix[0, 2] += size[0] / 2 - middle[0]
    matrix[1, 2] += size[1] / 2 - middle[1]
    return matrix, size


def _rotate(state: _State, degree: float) -> _State:
    height, width = state.image.shape[:2]
    matrix, size = rotation_matrix(width, height, degree)
    image = cv2.warpAffine(
        state.image,
        matrix,
        size,
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(BORDER,) * 3,
    )
    points = state.points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return _State(image, points.astype(np.float32))


def crop_origin(objpos: np.ndarray, config: ExactConfig, offset: tuple[int, int]) -> tuple[int, int]:
    """Step 5: top-left pixel of the crop window; objpos plus offset rounded half to even."""
    x, y = np.rint(objpos + np.array(offset, np.float32)).astype(int).tolist()
    return x - config.crop_size_x // 2, y - config.crop_size_y // 2


def _crop(state: _State, config: ExactConfig, offset: tuple[int, int]) -> _State:
    left, top = crop_origin(state.points[0], config, offset)
    height, width = state.image.shape[:2]
    out = np.full((config.crop_size_y, config.crop_size_x, 3), BORDER, np.uint8)
    x1, x2 = max(left, 0), min(left + config.crop_size_x, width)
    y1, y2 = max(top, 0), min(top + config.crop_size_y, height)
    if x1 < x2 and y1 < y2:
        out[y1 - top : y2 - top, x1 - left : x2 - left] = state.image[y1:y2, x1:x2]
    return _State(out, state.points - np.array([left, top], np.float32))


def _mirror(state: _State) -> _State:
    """Step 6 without the exchange of left and right parts."""
    points = state.points.copy()
    points[:, 0] = np.float32(state.image.shape[1] - 1) - points[:, 0]
    return _State(np.ascontiguousarray(state.image[:, ::-1]), points)
