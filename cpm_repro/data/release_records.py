"""The release's training records made from the original annotation files (spec `data.md`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cpm_repro.data.annotations import AnnotatedImage, Annotations, Person, other_size
from cpm_repro.data.lsp import LSP_TRAIN, read_lspet_joints
from cpm_repro.data.lsp_scale import limb_lengths, limb_ratios, lsp_scales
from cpm_repro.data.matlab import load_mat_array
from cpm_repro.data.record import PersonRecord
from cpm_repro.errors import UserError
from cpm_repro.skeleton import Visibility

Size = Callable[[str], tuple[int, int]]
"""Gives the (width, height) of an image by the record's path, or raises a UserError."""

Report = Callable[[str, str], None]
"""Takes the id of a person who gets no record, and why."""


def refuse(identity: str, what: str) -> None:
    """A `Report` that stops at the first."""
    raise UserError(f"{identity}: {what}")


def gets_record(person: Person) -> bool:
    """People of the split "unused" or "test" get no record of their own but are in the others'."""
    return person.split not in ("unused", "test")


def annotation_records(
    annotations: Annotations, dataset: str, size: Size, prefix: str = "", report: Report = refuse
) -> Iterator[PersonRecord]:
    """Records of annotations with centre and scale per person (MPII: dataset "MPI"; FLIC: "FLIC").

    Args:
        annotations: of `read_mpii_mat` (with `mark_validation`) or `read_flic`.
        dataset: name in the record.
        size: of the images, by the record's path.
        prefix: put before every path ("images/" for FLIC).
        report: told of people who get no record for a fault of theirs or of their image.
    """
    for image in annotations.images:
        for person in filter(gets_record, image.people):
            identity = f"{image.path} person {person.number}"
            if not _placed(person):
                report(identity, "no centre or no scale, which the release's records need")
                continue
            try:
                shape = size(prefix + image.path)
            except UserError as error:
                report(identity, str(error))
                continue
            if what := other_size(image, shape):
                report(identity, what)
                continue
            yield _annotation_record(image, person, dataset, prefix, shape)


def _placed(person: Person) -> bool:
    return person.center is not None and not math.isnan(person.scale)


def _annotation_record(
    image: AnnotatedImage, person: Person, dataset: str, prefix: str, size: tuple[int, int]
) -> PersonRecord:
    others = [other for other in image.people if other is not person and _placed(other)]
    assert person.center is not None  # only placed people come here
    parts = len(person.joints)
    return PersonRecord(
        dataset=dataset,
        img_path=prefix + image.path,
        img_width=size[0],
        img_height=size[1],
        objpos=person.center + 1.0,
        joint_self=_stored(person),
        scale=person.scale,
        joint_others=np.stack([_stored(o) for o in others]) if others else np.zeros((0, parts, 3)),
        scale_other=np.array([other.scale for other in others]),
        objpos_other=np.array([other.center for other in others]).reshape(-1, 2) + 1.0,
        is_validation=person.split == "val",
        annolist_index=image.number,
        people_index=person.number,
    )


def _stored(person: Person) -> np.ndarray:
    """(K, 3) 1-based x, y, flag; (0, 0, 0) where missing."""
    missing = person.visible == Visibility.CROPPED
    flag = (person.visible == Visibility.VISIBLE).astype(float)
    return np.where(missing[:, None], 0.0, np.column_stack([person.joints + 1.0, flag]))


LSPET_PATH, LSP_PATH = "lspet_dataset/images/im{:05d}.jpg", "lsp_dataset/images/im{:04d}.jpg"


def leeds_records(
    lspet: str | Path | None, size: Size, lsp: str | Path | None = None, report: Report = refuse
) -> Iterator[PersonRecord]:
    """LEEDS records: all of LSP-extended, then the first 1000 of LSP, with the "MPII-like" scale.

    Joints LSP-extended did not label keep their meaningless coordinates and flag 0, as in the release: the
    data layer draws those that happen to lie inside the image. Limb ratios are pooled over both files.

    Args:
        lspet: LSP-extended's `joints.mat`; None leaves it out.
        size: image sizes by the record's path (:data:`LSPET_PATH`, :data:`LSP_PATH`).
        lsp: LSP's `joints.mat`.
        report: told of people who get no record.
    """
    parts = [(LSPET_PATH, *read_lspet_joints(lspet))] if lspet is not None else []
    if lsp is not None:
        values = load_mat_array(lsp, "joints", 3)
        if values.shape[:2] != (3, 14):
            raise UserError(f"{lsp}: expected joints of shape 3 x 14 x N (LSP)")
        values = values[:, :, :LSP_TRAIN].transpose(2, 1, 0)
        parts.append((LSP_PATH, values[..., :2] - 1.0, values[..., 2] == 0))
    lengths = [limb_lengths(joints, seen) for _, joints, seen in parts]
    ratios = limb_ratios(np.concatenate(lengths))
    for path, joints, seen in parts:
        scales = lsp_scales(joints, seen, ratios)
        for index in range(len(joints)):
            name = path.format(index + 1)
            fault = _leeds_fault(joints[index], seen[index], scales[index])
            try:
                shape = size(name) if not fault else (0, 0)
            except UserError as error:
                fault = str(error)
            if fault:
                report(name, fault)
                continue
            is_lsp = path == LSP_PATH
            yield _leeds_record(name, shape, joints[index], seen[index], scales[index], index + 1, is_lsp)


def _leeds_fault(xy: np.ndarray, seen: np.ndarray, scale: float) -> str:
    """Why a person cannot have a record, or ""."""
    if not seen.any():
        return "no labelled joint"
    if not np.isfinite(xy).all():
        return "a joint is NaN or infinite, which JSON cannot hold"
    return "" if np.isfinite(scale) and scale > 0 else "its scale cannot be measured: too few visible limbs"


def _leeds_record(
    path: str,
    size: tuple[int, int],
    xy: np.ndarray,
    seen: np.ndarray,
    scale: float,
    number: int,
    is_lsp: bool,
) -> PersonRecord:
    stored = np.column_stack([xy + 1.0, seen.astype(float)])
    # Pelvis and thorax do not exist here: zeros, whose flag LSP's inversion has turned into 1.
    dummy = np.tile([0.0, 0.0, 1.0 if is_lsp else 0.0], (2, 1))
    joints = np.concatenate([stored[:6], dummy, stored[12:14], stored[6:12]])
    if is_lsp:
        objpos = np.array([size[0] / 2, size[1] / 2])
    else:
        objpos = (xy[seen].min(axis=0) + xy[seen].max(axis=0)) / 2 + 1.0
    empty = np.zeros((0, 16, 3))
    return PersonRecord(
        dataset="LEEDS",
        img_path=path,
        img_width=size[0],
        img_height=size[1],
        objpos=objpos,
        joint_self=joints,
        scale=float(scale),
        joint_others=empty,
        scale_other=np.zeros(0),
        objpos_other=np.zeros((0, 2)),
        annolist_index=number,
        people_index=1,
    )
