"""Opening a data set by what the user names: a built-in one or a path, recognised by its contents."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from cpm_repro.data.annotations import Annotations, PeopleDataset, split_people, warn_of
from cpm_repro.data.coco import read_coco
from cpm_repro.data.csv_table import read_csv
from cpm_repro.data.flic import read_flic
from cpm_repro.data.lmdb_store import LmdbDataset, is_lmdb_folder
from cpm_repro.data.lsp import LspetDataset, lspet_folder, read_lsp
from cpm_repro.data.mixed import MixedDataset
from cpm_repro.data.mpii import mark_validation, read_mpii_json, read_mpii_mat, read_val_pairs
from cpm_repro.data.sample import PoseDataset
from cpm_repro.data.skeleton_file import SUFFIXES, read_skeleton
from cpm_repro.data.synthetic import SyntheticDataset
from cpm_repro.errors import UserError
from cpm_repro.files import json_head
from cpm_repro.skeleton import CPM14, MPII16, Skeleton

Split = Literal["train", "val"]

MPII_MAT = "mpii_human_pose_v1_u12_1.mat"
_VAL_PAIRS = ("mpii_val_pairs.npz", "detections.mat")


def open_dataset(spec: str | Path, split: Split, *, seed: int = 0, size: int | None = None) -> PoseDataset:
    """Open one split of a data set.

    A path is recognised by what it contains: `joints.mat` + `images/` (LSP-extended or LSP by the array's
    shape), the MPII .mat, FLIC's `examples.mat`, an LMDB (`data.mdb`), or a COCO / MPII-style JSON or a CSV,
    with the images beside it or in `images/`, and an optional `skeleton.toml` or `.yaml`. The path may also
    name the file. MPII's and LSP's people come in the networks' 14 parts. "A+B" mixes data sets of the same
    parts, "A@2+B@1" with weights (`MixedDataset`). People of a file who cannot be used are left out with a
    `DataWarning` that counts and names them.

    Args:
        spec: "synthetic", or a path.
        split: "train" or "val"; they share nobody.
        seed: of the synthetic people; files do not depend on it.
        size: number of samples (synthetic), or the first so many (files); None = all, or the default size.

    Raises:
        UserError: unknown name, missing path, unknown layout, or content that does not fit the layout.
    """
    spec = str(spec)
    if split not in ("train", "val"):
        raise ValueError(f"split: expected 'train' or 'val', got {split!r}")
    if size is not None and size < 1:
        raise UserError(f"data set {spec}: expected a size of at least 1, got {size}")
    if spec == "synthetic":
        return SyntheticDataset(split, seed=seed, size=size)
    path = Path(spec)
    if is_mixed(spec):
        return _open_mixed(spec, split, seed, size)
    if not path.exists() and _weighted(spec)[1] is not None:
        raise UserError(f"{spec}: a weight belongs to a data set that is mixed with others: A@2+B@1")
    if not path.exists():
        raise UserError(
            f"{spec}: expected 'synthetic' or the path of a data set, but there is no such file or folder"
        )
    if is_lmdb_folder(path):
        return LmdbDataset(path, split, _own_skeleton(path), size)
    if folder := lspet_folder(path):
        return LspetDataset(folder, split, size=size)
    annotations, images, skeleton = read_annotations(path)
    people = split_people(annotations, split)
    if not people:
        raise UserError(f"{spec}: {annotations.summary()}; nobody is in the split {split}")
    warn_of(annotations.name, annotations.read, annotations.problems)
    return PeopleDataset(annotations, images, skeleton, people[:size])


def _open_mixed(spec: str, split: Split, seed: int, size: int | None) -> PoseDataset:
    """ "A+B", or "A@2+B@1" with weights; a validation split is not weighted."""
    parts = [_weighted(part) for part in spec.split("+")]
    weights = [weight for _, weight in parts if weight is not None]
    if not all(name for name, _ in parts):
        raise UserError(f"{spec}: expected a data set on both sides of the +")
    if weights and len(weights) != len(parts):
        raise UserError(f"{spec}: expected a weight for every data set or for none")
    datasets = [open_dataset(name, split, seed=seed) for name, _ in parts]
    return MixedDataset(datasets, weights if weights and split == "train" else None, size)


def is_mixed(spec: str) -> bool:
    """Whether `open_dataset` mixes several data sets for it; a path that is there may have a + in it."""
    return "+" in spec and not Path(spec).exists()


def data_name(spec: str, folder: str = "") -> str:
    """What `open_dataset` is given without the folders of this machine: "A/x@2+B/y@1" is "x@2+y@1".

    Args:
        spec: a data set, or several that are mixed; they need not be there.
        folder: put before each name that is a path's.
    """
    if is_mixed(spec):
        return "+".join(data_name(part.strip(), folder) for part in spec.split("+"))
    if spec.partition("@")[0] == "synthetic":
        return spec
    return folder + (Path(spec).name or Path(spec).resolve().name)  # "." has no name


def _weighted(part: str) -> tuple[str, float | None]:
    """A data set's name or path and the weight behind its @."""
    name, at, weight = part.strip().rpartition("@")
    try:
        return (name, float(weight)) if at else (weight, None)
    except ValueError:
        return part.strip(), None


def read_annotations(path: Path, strict: bool = False) -> tuple[Annotations, Path, Skeleton | None]:
    """Find and read the annotation file of a folder, or read the file named.

    Returns:
        The annotations, the folder that its image paths are relative to, and the skeleton that samples are
        given in (None: the annotations' own).

    Raises:
        UserError: nothing recognised, or a file that does not fit its layout.
    """
    file = _annotation_file(path)
    folder = file.parent
    images = folder / "images" if (folder / "images").is_dir() else folder
    own, mpii = _own_skeleton(folder), False
    if file.name == "examples.mat":
        return read_flic(file, strict=strict), images, None
    if file.name == "joints.mat":
        return read_lsp(file, strict), images, CPM14
    if file.suffix.lower() == ".mat":
        annotations = read_mpii_mat(file, strict)
        pairs = next((folder / name for name in _VAL_PAIRS if (folder / name).exists()), None)
        return (mark_validation(annotations, read_val_pairs(pairs)) if pairs else annotations), images, CPM14
    if file.suffix.lower() == ".csv":
        annotations = read_csv(file, own, strict)
    elif mpii := json_head(file).startswith("["):
        annotations = read_mpii_json(file, own or MPII16, strict)
    else:
        annotations = read_coco(file, own, strict)
    images = folder if _beside(folder, images, annotations) else images
    return annotations, images, CPM14 if mpii and own is None else None


def _beside(folder: Path, images: Path, annotations: Annotations) -> bool:
    """Whether the file names pictures as seen from its ``folder`` (`images/a.jpg`), not from ``images``.

    Told by the first that is in one of them.
    """
    for image in annotations.images:
        if os.path.exists(images / image.path):
            return False
        if os.path.exists(folder / image.path):
            return True
    return False


def _own_skeleton(folder: Path) -> Skeleton | None:
    """The skeleton file beside the annotations, if there is one."""
    found = [folder / f"skeleton{suffix}" for suffix in SUFFIXES if (folder / f"skeleton{suffix}").exists()]
    if len(found) > 1:
        raise UserError(f"{folder}: which one is the skeleton, {found[0].name} or {found[1].name}?")
    return read_skeleton(found[0]) if found else None


def _annotation_file(path: Path) -> Path:
    if path.is_file():
        if path.suffix.lower() in (".mat", ".csv", ".json"):
            return path
        raise UserError(f"{path}: expected annotations in a .mat, .json or .csv file")
    for name in (MPII_MAT, "examples.mat", "joints.mat"):
        if (path / name).exists():
            return path / name
    found = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in (".json", ".csv"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(entry.name for entry in found[:4])
        names += f" or another of {len(found)}" if len(found) > 4 else ""
        raise UserError(f"{path}: which one holds the annotations, {names}? Give the file's path")
    raise UserError(
        f"{path}: expected joints.mat and images/, {MPII_MAT}, examples.mat, data.mdb, or one .json or .csv, "
        f"got {_contents(path)}"
    )


def _contents(path: Path) -> str:
    """A few names of what is there, for the message."""
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return "an empty folder"
    return "a folder with " + ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
