"""A sheet of training samples as the network will see them, to look at before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from cpm_repro.config import AugmentConfig, TargetConfig
from cpm_repro.data.augment import Crop
from cpm_repro.data.loader import Augment, augment_of, collate, stream
from cpm_repro.data.readable import Readable, check_scales
from cpm_repro.data.sample import PoseDataset, PoseSample
from cpm_repro.files import atomic_write
from cpm_repro.ops import belief_maps
from cpm_repro.paths import PICTURES, wanted_suffix
from cpm_repro.skeleton import Skeleton, Visibility, limb_colours, part_colours

_TILE = 256


def show_samples(
    dataset: PoseDataset,
    out: str | Path,
    augment: AugmentConfig | Augment | None = None,
    count: int = 12,
    seed: int = 0,
    target: TargetConfig | None = None,
    legend: Callable[[Skeleton, int], np.ndarray] | None = None,
) -> None:
    """Write a picture of ``count`` samples after augmentation.

    A sample that cannot be read, or that the crop refuses, gives way to the next (`DataWarning`).

    Left of each pair the crop with limbs, parts (hollow where occluded, grey for other people) and the
    centre as a cross; right the belief maps of the annotated person over the crop.

    Args:
        dataset: samples; the first ``count`` of a random order.
        out: the picture: .png, .jpg or .jpeg.
        augment: default the training augmentation.
        count: number of samples.
        seed: of order and augmentation.
        target: of the belief maps.
        legend: makes a panel (height, W, 3) uint8 BGR, put right of the samples, that names the parts.

    Raises:
        UserError: another suffix, or no sample can be used. ValueError: a count below 1.
        EnvironmentFailure: the picture cannot be written.
    """
    suffix = wanted_suffix(out, PICTURES)
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    augment = augment or AugmentConfig()
    if isinstance(augment, AugmentConfig):
        check_scales(dataset.name, augment, dataset)
        if augment.method == "device":
            augment = replace(augment, method="fast")  # the same crop, warped here
    cutter = augment_of(augment) if isinstance(augment, AugmentConfig) else augment
    readable = Readable(dataset)
    crops: list[Crop] = []
    for index in stream(seed, 0).permutation(len(dataset)).tolist():
        if len(crops) == count:
            break

        def cut(sample: PoseSample, number: int = index) -> Crop:
            return cutter.cut(sample, dataset.skeleton, stream(seed, 1, number))

        crop = readable.made(index, cut)
        crops += [] if crop is None else [crop]
    if not crops:
        raise readable.nobody()
    maps = _belief(crops, target or TargetConfig())
    tiles = [
        np.hstack([_draw_parts(crop, dataset.skeleton), _draw_maps(crop, belief)])
        for crop, belief in zip(crops, maps, strict=True)
    ]
    columns = min(3, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[first : first + columns]) for first in range(0, len(tiles), columns)]
    sheet = np.vstack(rows)
    if legend is not None:
        sheet = np.hstack([sheet, legend(dataset.skeleton, len(sheet))])
    with atomic_write(out) as file:
        file.write(cv2.imencode(suffix, sheet)[1].tobytes())


def _belief(crops: list[Crop], target: TargetConfig) -> np.ndarray:
    """(N, K, h, w) belief maps of person 0."""
    batch = collate(crops)
    size = batch.image.shape[1:3]
    grid = (size[0] // target.stride, size[1] // target.stride)
    label = belief_maps(batch.joints, batch.visible, grid=grid, stride=target.stride, sigma=target.sigma)
    return np.asarray(label[:, : batch.joints.shape[2]].to(torch.float32))


def _tile(image: np.ndarray) -> tuple[np.ndarray, float]:
    zoom = _TILE / max(image.shape[:2])
    return np.asarray(cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)), zoom


def _draw_parts(crop: Crop, skeleton: Skeleton) -> np.ndarray:
    picture, zoom = _tile(crop.image)

    def at(point: np.ndarray) -> tuple[int, int]:
        x, y = ((point + 0.5) * zoom - 0.5).round().astype(int).tolist()
        return x, y

    limbs, parts = limb_colours(skeleton), part_colours(skeleton)
    for person in reversed(range(len(crop.joints))):
        joints, visible = crop.joints[person], crop.visible[person]
        drawn = (visible != Visibility.CROPPED) & (np.abs(joints) < 10 * _TILE).all(axis=1)
        for (a, b), colour in zip(skeleton.limbs, limbs, strict=True):
            if drawn[a] and drawn[b]:
                shade = (128, 128, 128) if person else colour
                cv2.line(picture, at(joints[a]), at(joints[b]), shade, 2, cv2.LINE_AA)
        for k in np.flatnonzero(drawn):
            shade = (128, 128, 128) if person else parts[k]
            fill = 1 if visible[k] == Visibility.OCCLUDED else -1
            cv2.circle(picture, at(joints[k]), 4, shade, fill, cv2.LINE_AA)
    if (np.abs(crop.center) < 10 * _TILE).all():
        cv2.drawMarker(picture, at(crop.center), (255, 255, 255), cv2.MARKER_CROSS, 12, 1)
    return picture


def _draw_maps(crop: Crop, belief: np.ndarray) -> np.ndarray:
    picture, _ = _tile(crop.image)
    highest = cv2.resize(belief.max(axis=0), picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    heat = cv2.applyColorMap(np.rint(255 * np.clip(highest, 0, 1)).astype(np.uint8), cv2.COLORMAP_JET)
    return np.asarray(cv2.addWeighted(picture, 0.5, heat, 0.5, 0))
