"""Leeds Sports Pose and its extension in their original layouts: `joints.mat` beside `images/`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cpm_repro.data.annotations import Annotations, Intake, Person, Problem, warn_of
from cpm_repro.data.image_cache import DEFAULT_CACHE_BYTES, ImageCache
from cpm_repro.data.lsp_scale import lsp_scales
from cpm_repro.data.matlab import load_mat_array
from cpm_repro.data.sample import FARTHEST, PoseSample, center_and_extent
from cpm_repro.errors import UserError
from cpm_repro.skeleton import CPM14, LSP14, LSP_TO_CPM14, Skeleton, Visibility

VALIDATION_STEP = 18
"""Every 18th person (0, 18, 36, ...) is held out: 500 of the 9000 (spec `evaluation.md`, lspet-pck)."""

LSP_TRAIN = 1000


def leeds_folder(path: Path) -> Path | None:
    """The folder of LSP or LSP-extended that ``path`` names, itself or by its `joints.mat`."""
    folder = path.parent if path.name == "joints.mat" else path
    return folder if (folder / "joints.mat").is_file() else None


def lspet_folder(path: Path) -> Path | None:
    """`leeds_folder` if it is LSP-extended's, which the array's shape tells; else None."""
    folder = leeds_folder(path)
    if folder is None or load_mat_array(folder / "joints.mat", "joints", 3).shape[:2] == (3, 14):
        return None
    return folder


def read_lspet_joints(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read LSP-extended's `joints.mat` (spec `data.md`): 14 x 3 x N, third column 1 = labelled.

    Returns:
        joints: (N, 14, 2) float64, 0-based pixels (the file is 1-based), LSP order; `lspet_faults` finds
            those that are none.
        labelled: (N, 14) bool. Unlabelled coordinates are meaningless.

    Raises:
        UserError: no such file, not a .mat, no variable `joints`, another shape or flags.
    """
    values = load_mat_array(path, "joints", 3)
    if values.shape[:2] != (14, 3):
        raise UserError(f"{path}: expected joints of shape 14 x 3 x N (LSP-extended), got {_shape(values)}")
    xy = np.ascontiguousarray(values[:, :2].transpose(2, 0, 1), dtype=np.float64) - 1.0
    flag = values[:, 2].T
    if not np.isin(flag, (0, 1)).all():
        raise UserError(f"{path}: expected the third column of joints to be 0 or 1, got other values")
    return xy, flag == 1


def read_lsp(path: str | Path, strict: bool = False) -> Annotations:
    """Read LSP's `joints.mat`: 3 x 14 x N, third row 1 = occluded; the first 1000 train, the rest test.

    The scale is the release's "MPII-like" one, pooled over the file's people.

    Raises:
        UserError: another shape; with ``strict`` also the first unusable person.
    """
    values = load_mat_array(path, "joints", 3)
    if values.shape[:2] != (3, 14):
        raise UserError(f"{path}: expected joints of shape 3 x 14 x N (LSP), got {_shape(values)}")
    intake = Intake(strict)
    people = values.transpose(2, 0, 1).astype(np.float64)
    scales = lsp_scales(people[:, :2].transpose(0, 2, 1), people[:, 2] == 0)
    for index, (x, y, occluded) in enumerate(people):
        visible = np.where(occluded == 1, Visibility.OCCLUDED, Visibility.VISIBLE).astype(np.uint8)
        joints = np.stack([x, y], axis=1) - 1.0
        split = "train" if index < LSP_TRAIN else "test"
        name = f"im{index + 1:04d}.jpg"
        person = Person(joints, visible, scale=float(scales[index]), split=split)
        intake.add(f"person {index + 1}", name, person, image=index + 1)
    return intake.done("lsp", LSP14)


def _shape(values: np.ndarray) -> str:
    return " x ".join(str(n) for n in values.shape)


class LspetDataset:
    """LSP-extended as training or validation samples in the networks' part order.

    Labelled joints are VISIBLE, unlabelled ones CROPPED; ``scale`` is the release's "MPII-like" one, pooled
    over the file's people. Image files are listed once at the start and decoded on first use.

    Args:
        folder: holds `joints.mat` and `images/`.
        split: "train" or "val" (every 18th person).
        size: use only the first ``size`` people of the split.
        cache_bytes: memory for decoded images.
    """

    def __init__(
        self, folder: str | Path, split: str, size: int | None = None, cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        self._folder = Path(folder)
        joints, labelled = read_lspet_joints(self._folder / "joints.mat")
        self._paths, missing = _image_paths(self._folder / "images", len(joints))
        faults = lspet_faults(joints, labelled) | {n: f"{self._paths[n].name} is missing" for n in missing}
        self.problems = [Problem(f"person {n + 1}", what) for n, what in sorted(faults.items())]
        warn_of("lspet", len(joints), self.problems)
        people = np.arange(len(joints))
        people = people[(people % VALIDATION_STEP == 0) == (split == "val")]
        self._people = people[~np.isin(people, list(faults))][:size]
        labelled = labelled & np.isfinite(joints).all(axis=2)
        order = list(LSP_TO_CPM14)
        # An unlabelled joint may be NaN in the file; it is never drawn, but must not spread through a warp.
        self._joints = np.nan_to_num(joints[:, order], posinf=0.0, neginf=0.0).astype(np.float32)
        self._visible = np.where(labelled[:, order], Visibility.VISIBLE, Visibility.CROPPED).astype(np.uint8)
        self._scales = lsp_scales(joints, labelled)
        self._cache = ImageCache(cache_bytes)

    @property
    def name(self) -> str:
        """Name in tables."""
        return "lspet"

    @property
    def skeleton(self) -> Skeleton:
        """The networks' 14 parts."""
        return CPM14

    def __len__(self) -> int:
        return len(self._people)

    def __getitem__(self, index: int) -> PoseSample:
        return replace(self.labels(index), image=self._cache.read(self._paths[self._people[index]]))

    def labels(self, index: int) -> PoseSample:
        """The sample without its photograph, which is not read: an image of no pixels."""
        person = int(self._people[index])
        joints, visible = self._joints[person], self._visible[person]
        center, extent = center_and_extent(joints, visible)
        return PoseSample(
            image=np.empty((0, 0, 3), np.uint8),
            joints=joints[None],
            visible=visible[None],
            center=center,
            extent=extent,
            id=f"lspet/{self._paths[person].name}",
            scale=float(self._scales[person]),
        )


def lspet_faults(joints: np.ndarray, labelled: np.ndarray) -> dict[int, str]:
    """People (from 0) of `read_lspet_joints` who cannot be used, and why."""
    faults = {int(n): "no labelled joint" for n in np.flatnonzero(~labelled.any(axis=1))}
    for person, joint in np.argwhere(labelled & ~(np.abs(joints) <= FARTHEST).all(axis=2)).tolist():
        faults.setdefault(person, f"joint {joint + 1} is labelled, but NaN or beyond {FARTHEST:g} px")
    return faults


def _image_paths(folder: Path, count: int) -> tuple[list[Path], list[int]]:
    """Paths of im00001.jpg .. im<count>.jpg, and the positions of those that are not there."""
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of images im00001.jpg .. im{count:05d}.jpg, got none")
    names = {entry.name for entry in folder.iterdir()}
    wanted = [f"im{number:05d}.jpg" for number in range(1, count + 1)]
    missing = [index for index, name in enumerate(wanted) if name not in names]
    if len(missing) == count:
        raise UserError(
            f"{folder}: joints.mat describes {count} people, but all of their images are missing, "
            f"first {wanted[0]}"
        )
    return [folder / name for name in wanted], missing
