"""Predictions as our own runs, the original release and other code bases write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.evaluation.part_names import part_names
from cpm_repro.matlab_file import load_matlab_file
from cpm_repro.npz_file import load_npz
from cpm_repro.paths import wanted_file
from cpm_repro.skeleton import FLIC9, LSP14, MPII16

_MPII14 = tuple(part for part in MPII16.parts if part not in ("pelvis", "thorax"))
"""The 14 joints that the release predicts for MPII, in MPII's order."""

LARGEST_ARRAY = 1 << 30
"""Most bytes of one array in an HDF5 file, which may claim far more than the file holds."""

_PARTS_OF_COUNT = {9: FLIC9.parts, 14: LSP14.parts, 16: MPII16.parts}


@dataclass(frozen=True, eq=False)
class PredictionFile:
    """What a file predicts for N people."""

    source: str
    positions: np.ndarray  # (N, K, 2) float64, pixels, 0-based where the file's format says which it is
    parts: tuple[str, ...] | None  # None: the file does not say
    people: tuple[str, ...] | None = None  # one name per person, where the file has them


def read_predictions(path: str | Path, protocol: str = "lsp-pck") -> PredictionFile:
    """Read predicted positions.

    Known files:
        ``.npz``: ``pred`` (N, K, 2 or 3) and, if known, ``pred_order``, ``order`` or ``parts`` (K names) and
            ``image`` (N names).
        ``.mat`` of the release: ``prediction_all`` (K, 2, N), 1-based, in the data set's order (spec
            `inference.md`). 14 joints are LSP's or, under ``protocol`` mpii-pckh, MPII's without pelvis and
            thorax: the file does not say which.
        ``.mat`` or ``.h5`` of HRNet, mmpose and hourglass code: ``preds`` or ``pred`` (N, 16, 2), 1-based,
            MPII's order. ``.h5`` needs h5py.

    Raises:
        UserError: no such file, another format, or an array of another shape; nothing is ever unpickled.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _from_npz(path)
    name, values = _matlab_array(path, ("prediction_all", "preds", "pred"))
    if name == "prediction_all":
        values = values[..., None] if values.ndim == 2 else values
        _check(path, name, values, values.ndim == 3 and values.shape[1] in (2, 3), "joints x 2 x people")
        positions = values[:, :2].transpose(2, 0, 1)
        parts = _PARTS_OF_COUNT.get(positions.shape[1])
        if positions.shape[1] == 14 and protocol == "mpii-pckh":
            parts = _MPII14
    else:
        _check(path, name, values, values.ndim == 3 and values.shape[2] in (2, 3), "people x joints x 2")
        positions = values[..., :2]
        parts = MPII16.parts if positions.shape[1] == 16 else None
    return PredictionFile(str(path), np.ascontiguousarray(positions, dtype=np.float64) - 1.0, parts)


def _from_npz(path: Path) -> PredictionFile:
    content = load_npz(path)
    if "pred" not in content:
        raise UserError(f"{path}: wanted an array 'pred', got {', '.join(content) or 'an empty file'}")
    values = content["pred"]
    _check(path, "pred", values, values.ndim == 3 and values.shape[2] in (2, 3), "people x joints x 2")
    names = next((content[key] for key in ("pred_order", "order", "parts") if key in content), None)
    if names is not None and len(names) != values.shape[1]:
        raise UserError(f"{path}: {len(names)} joint names for {values.shape[1]} joints in 'pred'")
    parts = part_names(names, str(path)) if names is not None else None
    people = tuple(map(str, content["image"])) if "image" in content else None
    return PredictionFile(str(path), values[..., :2].astype(np.float64), parts, people)


def _matlab_array(path: Path, names: tuple[str, ...]) -> tuple[str, np.ndarray]:
    if path.suffix in (".h5", ".hdf5"):
        content = _load_hdf5(path, names)
    elif path.suffix == ".mat":
        content = load_matlab_file(path)
    else:
        raise UserError(f"{path}: predictions come as .npz, .mat or .h5, got {path.suffix or 'no suffix'!r}")
    for name in names:
        if name in content:
            return name, np.asarray(content[name])
    found = ", ".join(key for key in content if not key.startswith("__"))
    raise UserError(f"{path}: wanted one of the arrays {', '.join(names)}; got {found or 'nothing'}")


def _load_hdf5(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path}: .h5 files need h5py (pip install h5py)") from error
    try:
        with h5py.File(wanted_file(path, "an HDF5 file"), "r") as file:
            return {name: _hdf5_array(path, file, name) if name in names else np.empty(0) for name in file}
    except OSError as error:
        raise UserError(f"{path}: not an HDF5 file: {_first_line(error)}") from error


def _hdf5_array(path: Path, file: Any, name: str) -> np.ndarray:
    """A dataset's values, if they lie in this very file: links and virtual datasets may lead to any other."""
    import h5py

    item = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
        raise UserError(f"{path}: wanted {name} as an array in the file itself")
    if item.nbytes > LARGEST_ARRAY:
        raise UserError(f"{path}: {name} claims {item.nbytes} bytes, more than {LARGEST_ARRAY}")
    return np.asarray(item)


def _check(path: Path, name: str, values: np.ndarray, fits: bool, wanted: str) -> None:
    if not fits or values.dtype.kind not in "fiu":
        shape = " x ".join(map(str, values.shape))
        raise UserError(f"{path}: wanted {name} as {wanted}, got {shape} of {values.dtype}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
