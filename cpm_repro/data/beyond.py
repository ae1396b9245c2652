"""Augmentations that the release does not have, each off by default: light, occluders, half bodies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np

from cpm_repro.config import AugmentConfig
from cpm_repro.data.augment import Crop
from cpm_repro.data.sample import PoseSample, center_and_extent
from cpm_repro.skeleton import Skeleton, Visibility

_LEGS = ("hip", "knee", "ankle")
_LEAST_PARTS = 3
"""A half body of fewer labelled joints says too little about where it is."""


class Cutter(Protocol):
    """Any crop that draws from a generator."""

    def cut(self, sample: PoseSample, skeleton: Skeleton, rng: np.random.Generator) -> Crop:
        """Draw an augmentation and crop."""


@dataclass(frozen=True)
class BeyondAugment:
    """What the settings ``half_body``, ``occlusion`` and ``photometric`` ask for, around another crop.

    They have a stream of random numbers of their own, so that switching one on changes nothing else of a
    sample.
    """

    inner: Cutter
    config: AugmentConfig

    def cut(self, sample: PoseSample, skeleton: Skeleton, rng: np.random.Generator) -> Crop:
        """Draw an augmentation and crop."""
        half, occlude, light = rng.spawn(3)
        if half.random() < self.config.half_body:
            sample = half_body(sample, skeleton, upper=bool(half.random() < 0.5))
        crop = self.inner.cut(sample, skeleton, rng)
        if occlude.random() < self.config.occlusion:
            crop = occluded(crop, occlude)
        if self.config.photometric:
            crop = replace(crop, image=relit(crop.image, self.config.photometric, light))
        return crop


def half_body(sample: PoseSample, skeleton: Skeleton, *, upper: bool) -> PoseSample:
    """The same picture centred on the upper or the lower body, which becomes as large as the whole was.

    Labels stay: joints of the other half are drawn where they fall into the crop. A body of fewer than three
    labelled joints in that half, or whose parts are not named hip, knee and ankle, stays whole.
    """
    legs = np.array([part.endswith(_LEGS) for part in skeleton.parts])
    hips = np.array([part.endswith("hip") for part in skeleton.parts])
    half = (~legs | hips) if upper else legs
    labelled = (sample.visible[0] != Visibility.CROPPED) & half
    if labelled.sum() < _LEAST_PARTS or not legs.any() or not (~legs).any():
        return sample
    visible = np.where(labelled, sample.visible[0], Visibility.CROPPED)
    center, extent = center_and_extent(sample.joints[0], visible)
    factor = extent / sample.extent
    if not 0.2 < factor < 1:
        return sample
    return replace(sample, center=center, extent=extent, scale=sample.scale * factor)


def occluded(crop: Crop, rng: np.random.Generator) -> Crop:
    """A rectangle of noise of 10 to 40 % of the crop's sides; visible joints under it become OCCLUDED."""
    height, width = crop.image.shape[:2]
    w, h = (int(side * share) for side, share in zip((width, height), rng.uniform(0.1, 0.4, 2), strict=True))
    x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    image = crop.image.copy()
    shade = rng.integers(0, 256, 3)
    noise = rng.integers(-30, 31, (h, w, 3))
    image[y : y + h, x : x + w] = np.clip(shade + noise, 0, 255)
    inside = (crop.joints >= [x - 0.5, y - 0.5]) & (crop.joints < [x + w - 0.5, y + h - 0.5])
    hidden = inside.all(axis=-1) & (crop.visible == Visibility.VISIBLE)
    visible = np.where(hidden, np.uint8(Visibility.OCCLUDED), crop.visible)
    return replace(crop, image=image, visible=visible)


def relit(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation and colour cast, each within ``strength`` (0.4 is strong).

    One table per channel and one mix with grey. The border's grey changes with the rest.
    """
    bright, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
    cast = 1 + 0.25 * strength * rng.uniform(-1, 1, 3)
    levels = np.arange(256, dtype=np.float32)
    table = (levels - 128) * contrast + 128
    tables = np.clip(np.rint(table[:, None] * bright * cast), 0, 255).astype(np.uint8)
    lit = cv2.LUT(image, tables[None])
    grey = cv2.cvtColor(cv2.cvtColor(lit, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.addWeighted(lit, saturation, grey, 1 - saturation, 0))
