"""Cropping people as the release does: by scale_provided and objpos, exactly or in one fast warp."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from cpm_repro.config import AugmentConfig
from cpm_repro.data.augment import Crop, Place, apply_matrix, cut_window, invert_matrix, warp_image
from cpm_repro.data.exact import (
    ExactConfig,
    ExactDraw,
    crop_origin,
    exact_crop,
    exact_draw,
    exact_scale,
    generator_dice,
    glibc_dice,
    rotation_matrix,
)
from cpm_repro.data.sample import PoseDataset, PoseSample, seen_in_image
from cpm_repro.errors import UserError
from cpm_repro.skeleton import Skeleton

_LEAST_FACTOR = 0.25
"""The original's bicubic resize averages nothing: down to this factor a bilinear warp is as close to it as
one of averaged pixels, and faster."""

_LARGEST_SIDE = 20_000
"""OpenCV rotates nothing that comes to 2^15 pixels."""


@dataclass(frozen=True)
class ReleaseAugment:
    """The release's augmentation for the loader; samples must have a ``scale``.

    ``method`` "exact" goes through the original's steps; "fast" composes them into one warp: the same
    joints up to float32 rounding (2e-4 px), the same pixels up to resampling: bilinear where the original
    resamples bicubically twice, and averaged where the original skips pixels. On a smooth picture they
    differ by at most 3 levels. On photographs a crop differs by 1.2 levels on average (at most 3): where a
    person is reduced the original's pixels are aliased. After a blur of 2 px it is 0.3 levels (at most 0.7).
    "device" leaves the warp of "fast" to `warp_windows`, on the device that trains.
    """

    config: ExactConfig = field(default_factory=ExactConfig)
    method: Literal["exact", "fast", "device"] = "exact"

    @classmethod
    def of(cls, config: AugmentConfig) -> ReleaseAugment:
        """The release's parameters that a run's settings come to."""
        exact = ExactConfig(
            crop_size_x=config.crop,
            crop_size_y=config.crop,
            target_dist=config.target_dist,
            scale_min=config.scale_min,
            scale_max=config.scale_max,
            max_rotate_degree=config.rotate,
            center_perterb_max=config.shift * config.crop,
            flip_prob=config.flip,
        )
        return cls(exact, config.method)  # type: ignore[arg-type]

    def place(self, sample: PoseSample, skeleton: Skeleton) -> Place:
        """The crop without augmentation, in one warp whatever the method, and the way back."""
        plain = replace(self, method="fast")
        crop = plain.apply(sample, skeleton, ExactDraw())
        matrix, _ = fast_matrices(sample, self.config, ExactDraw())
        return Place(crop, invert_matrix(matrix))

    def cut(self, sample: PoseSample, skeleton: Skeleton, rng: np.random.Generator) -> Crop:
        """Draw an augmentation and crop."""
        return self.apply(sample, skeleton, exact_draw(self.config, generator_dice(rng)))

    def apply(self, sample: PoseSample, skeleton: Skeleton, choice: ExactDraw) -> Crop:
        """Crop with a given draw."""
        if not sample.scale > 0:
            raise UserError(
                f"sample {sample.id}: augment.method {self.method} expects a scale (person height / 200 px), "
                f"got {sample.scale}; augment.method=box does without"
            )
        if self.method == "exact":
            self._refuse_size(sample, choice)
        crop = {"exact": exact_crop, "fast": fast_crop, "device": window_crop}[self.method]
        return crop(sample, self.config, choice, skeleton)

    def _refuse_size(self, sample: PoseSample, choice: ExactDraw) -> None:
        scale = float(exact_scale(sample.scale, self.config, choice))
        height, width = (side * scale for side in sample.image.shape[:2])
        if min(height, width) < 1 or max(height, width) > _LARGEST_SIDE:
            raise UserError(
                f"sample {sample.id}: scale {sample.scale:g} makes {width:.4g} x {height:.4g} pixels of its "
                f"photograph, wanted sides of 1 to {_LARGEST_SIDE}; augment.method=fast does without"
            )


def fast_crop(sample: PoseSample, config: ExactConfig, choice: ExactDraw, skeleton: Skeleton) -> Crop:
    """`exact_crop` with one composed warp straight into the crop; same arguments and result."""
    crop, matrix = _moved(sample, config, choice, skeleton)
    size = (config.crop_size_x, config.crop_size_y)
    return replace(crop, image=warp_image(sample.image, matrix, size, _LEAST_FACTOR))


def window_crop(sample: PoseSample, config: ExactConfig, choice: ExactDraw, skeleton: Skeleton) -> Crop:
    """`fast_crop` whose warp is left to the device (`data/device.py`): a window and its matrix."""
    crop, matrix = _moved(sample, config, choice, skeleton)
    size = (config.crop_size_x, config.crop_size_y)
    window, matrix = cut_window(sample.image, matrix, size, _LEAST_FACTOR)
    return replace(crop, image=window, matrix=matrix)


def _moved(
    sample: PoseSample, config: ExactConfig, choice: ExactDraw, skeleton: Skeleton
) -> tuple[Crop, np.ndarray]:
    """People moved to the crop, the image as it was, and the (2, 3) map for its pixels."""
    for_points, for_pixels = fast_matrices(sample, config, choice)
    moved, visible = apply_matrix(for_points, sample.joints), seen_in_image(sample)
    if choice.flip:
        order = list(skeleton.flip_permutation)
        moved, visible = moved[:, order], visible[:, order]
    return Crop(sample.image, moved, visible, apply_matrix(for_points, sample.center)), for_pixels


def fast_matrices(
    sample: PoseSample, config: ExactConfig, choice: ExactDraw
) -> tuple[np.ndarray, np.ndarray]:
    """The original's steps as affine maps from the image to the crop.

    Two of them, because the original multiplies coordinates by the scale while its resize keeps pixel edges
    in place: pixel x goes to (x + 0.5) * scale - 0.5, coordinate x to x * scale.

    Returns:
        (2, 3) float64 for coordinates and (2, 3) float64 for pixels.
    """
    scale = float(exact_scale(sample.scale, config, choice))
    height, width = (int(np.rint(side * scale)) for side in sample.image.shape[:2])
    rotation, _ = rotation_matrix(width, height, choice.degree)
    # The window follows the rounded float32 objpos, as in the original.
    rotated = apply_matrix(rotation, np.asarray(sample.center, np.float32) * np.float32(scale))
    left, top = crop_origin(rotated, config, choice.offset)
    rotation[:, 2] -= (left, top)
    if choice.flip:
        rotation[0] *= -1
        rotation[0, 2] += config.crop_size_x - 1
    linear = rotation[:, :2] * scale
    half = rotation[:, :2] @ np.full(2, 0.5 * scale - 0.5)
    return np.column_stack([linear, rotation[:, 2]]), np.column_stack([linear, rotation[:, 2] + half])


def replay(
    dataset: PoseDataset,
    config: ExactConfig,
    srand_seed: int = 1,
) -> Iterator[tuple[int, ExactDraw, Crop]]:
    """Augment samples as a run of the original would: in order, wrapping around, one sequence of dice.

    Args:
        dataset: samples with a ``scale``, in the order of the LMDB.
        config: the layer's parameters.
        srand_seed: what the run's process gave to srand(); 1 when it never did.

    Yields:
        Sample index, its draw, its crop; endlessly.
    """
    dice = glibc_dice(srand_seed)
    augment = ReleaseAugment(config)
    while True:
        for index in range(len(dataset)):
            choice = exact_draw(config, dice)
            yield index, choice, augment.apply(dataset[index], dataset.skeleton, choice)
