"""The release's training records made from the original annotation files (spec `data.md`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cpm_repro.data.annotations import AnnotatedImage, Annotations, Person
from cpm_repro.data.images import inside, read_image
from cpm_repro.data.lsp import LSP_TRAIN, read_lspet_joints
from cpm_repro.data.lsp_scale import limb_lengths, limb_ratios, lsp_scales
from cpm_repro.data.matlab import load_mat_array
from cpm_repro.data.record import PersonRecord
from cpm_repro.errors import UserError
from cpm_repro.skeleton import Visibility

Size = Callable[[str], tuple[int, int]]
"""Gives the (width, height) of an image by its path."""


def image_sizes(folder: str | Path) -> Size:
    """Sizes of images below ``folder``, decoded to be sure that they open; each image once."""
    known: dict[str, tuple[int, int]] = {}

    def size(path: str) -> tuple[int, int]:
        if path not in known:
            height, width = read_image(inside(Path(folder), path)).shape[:2]
            known[path] = (width, height)
        return known[path]

    return size


def annotation_records(
    annotations: Annotations, dataset: str, size: Size, prefix: str = ""
) -> Iterator[PersonRecord]:
    """Records of annotations with centre and scale per person (MPII: dataset "MPI"; FLIC: "FLIC").

    People of the split "unused" or "test" get no record of their own but are in the others'.

    Args:
        annotations: of `read_mpii_mat` (with `mark_validation`) or `read_flic`.
        dataset: name in the record.
        size: of the images, by the record's path.
        prefix: put before every path ("images/" for FLIC).
    """
    for image in annotations.images:
        for person in image.people:
            if person.split in ("unused", "test"):
                continue
            yield _annotation_record(image, person, dataset, prefix, size(prefix + image.path))


def _annotation_record(
    image: AnnotatedImage, person: Person, dataset: str, prefix: str, size: tuple[int, int]
) -> PersonRecord:
    others = [other for other in image.people if other is not person and other.center is not None]
    if person.center is None:
        raise UserError(f"{image.path}#{person.number}: the release's records need a centre and a scale")
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


def leeds_records(
    lspet: str | Path,
    lspet_size: Size,
    lsp: str | Path | None = None,
    lsp_size: Size | None = None,
) -> Iterator[PersonRecord]:
    """LEEDS records: all of LSP-extended, then the first 1000 of LSP, with the "MPII-like" scale.

    Joints LSP-extended did not label keep their meaningless coordinates and flag 0, as in the release: the
    data layer draws those that happen to lie inside the image.

    Args:
        lspet: LSP-extended's `joints.mat`.
        lspet_size: image sizes by the record's path (`lspet_dataset/images/im00001.jpg`).
        lsp: LSP's `joints.mat`; limb ratios are pooled over both when it is given.
        lsp_size: image sizes of LSP (`lsp_dataset/images/im0001.jpg`).
    """
    joints, labelled = read_lspet_joints(lspet)
    people, seen = [joints], [labelled]
    if lsp is not None:
        values = load_mat_array(lsp, "joints", 3)
        if values.shape[:2] != (3, 14):
            raise UserError(f"{lsp}: expected joints of shape 3 x 14 x N (LSP)")
        people.append(values[:2, :, :LSP_TRAIN].transpose(2, 1, 0) - 1.0)
        seen.append(values[2, :, :LSP_TRAIN].T == 0)
    ratios = limb_ratios(limb_lengths(np.concatenate(people), np.concatenate(seen)))
    names = ("lspet_dataset/images/im{:05d}.jpg", "lsp_dataset/images/im{:04d}.jpg")
    for part, (xy, visible, size) in enumerate(zip(people, seen, (lspet_size, lsp_size), strict=False)):
        if size is None:
            raise ValueError("lsp_size: expected the sizes of LSP's images")
        scales = lsp_scales(xy, visible, ratios)
        for index in range(len(xy)):
            path = names[part].format(index + 1)
            yield _leeds_record(
                path, size(path), xy[index], visible[index], scales[index], index + 1, part == 1
            )


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
    elif seen.any():
        objpos = (xy[seen].min(axis=0) + xy[seen].max(axis=0)) / 2 + 1.0
    else:
        raise UserError(f"{path}: person {number} has no labelled joint")
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
