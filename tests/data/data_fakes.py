"""Small data sets for the tests of the data room."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import scipy.io

from cpm_repro.data import PoseSample, center_and_extent
from cpm_repro.skeleton import CPM14, Skeleton


def lspet_joints(count: int, seed: int = 0) -> np.ndarray:
    """(14, 3, count) as LSP-extended stores them: 1-based x, y, labelled."""
    rng = np.random.default_rng(seed)
    joints = np.empty((14, 3, count))
    joints[:, :2] = rng.uniform(10, 90, size=(14, 2, count))
    joints[:, 2] = rng.random((14, count)) < 0.9
    joints[0, 2] = 1
    return joints


def write_lspet(folder: Path, joints: np.ndarray, images: int | None = None) -> Path:
    """Write the LSP-extended layout with plain images of 100 x 110 px whose grey level is their number."""
    (folder / "images").mkdir(parents=True)
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    for number in range(1, (joints.shape[-1] if images is None else images) + 1):
        cv2.imwrite(str(folder / "images" / f"im{number:05d}.jpg"), np.full((100, 110, 3), number, np.uint8))
    return folder


class DotDataset:
    """Black pictures with people whose joints are drawn at random."""

    name, skeleton = "dots", CPM14

    def __init__(self, size: int = 10, shape: tuple[int, int] = (150, 170), people: int = 1) -> None:
        self._size, self._shape, self._people = size, shape, people

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> PoseSample:
        rng = np.random.default_rng(index)
        joints = rng.uniform(40, 110, size=(self._people, 14, 2)).astype(np.float32)
        visible = np.ones(joints.shape[:2], np.uint8)
        center, extent = center_and_extent(joints[0], visible[0])
        image = np.zeros((*self._shape, 3), np.uint8)
        return PoseSample(image, joints, visible, center, extent, f"dots/{index}")


def blob(shape: tuple[int, int], at: np.ndarray, sigma: float) -> np.ndarray:
    """(h, w, 3) uint8 picture of a Gaussian blob centred on pixel ``at`` (x, y)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    values = 255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 2 / sigma**2)
    return np.repeat(np.rint(values).astype(np.uint8)[..., None], 3, axis=2)


def centroid(image: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """(x, y) centre of mass of a picture's first channel above ``floor``."""
    weight = np.maximum(image[..., 0].astype(np.float64) - floor, 0)
    y, x = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def skeleton_of(parts: int) -> Skeleton:
    """A body of that many parts, the first two of them a left/right pair."""
    return Skeleton("test", tuple(f"p{i}" for i in range(parts)), ((0, 1),), ((0, 1),))
