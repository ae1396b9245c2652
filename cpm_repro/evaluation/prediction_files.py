"""Predictions as our own runs, the original release and other code bases write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.errors import UserError, first_line
from cpm_repro.evaluation.file_arrays import names, numbers
from cpm_repro.evaluation.part_names import part_names
from cpm_repro.matlab_file import load_matlab_file
from cpm_repro.npz_file import load_npz
from cpm_repro.packages import optional_module
from cpm_repro.paths import wanted_file
from cpm_repro.skeleton import FLIC9, LSP14, MPII16

_MPII14 = tuple(part for part in MPII16.parts if part not in ("pelvis", "thorax"))
"""The 14 joints that the release predicts for MPII, in MPII's order."""

LARGEST_ARRAY = 1 << 30
"""Most bytes of one array in an HDF5 file, which may claim far more than the file holds."""

_POSITIONS = ("people", "joints", (2, 3))
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
    if path.suffix.lower() == ".npz":
        return _from_npz(path)
    name, values = _matlab_array(path, ("prediction_all", "preds", "pred"))
    if name == "prediction_all":
        values = values[..., None] if values.ndim == 2 else values
        values = numbers(path, name, values, ("joints", (2, 3), "people"))
        positions = values[:, :2].transpose(2, 0, 1)
        parts = _PARTS_OF_COUNT.get(positions.shape[1])
        if positions.shape[1] == 14 and protocol == "mpii-pckh":
            parts = _MPII14
    else:
        positions = numbers(path, name, values, _POSITIONS)[..., :2]
        parts = MPII16.parts if positions.shape[1] == 16 else None
    return PredictionFile(str(path), positions - 1.0, parts)


def _from_npz(path: Path) -> PredictionFile:
    content = load_npz(path)
    if "pred" not in content:
        raise UserError(f"{path}: wanted an array 'pred', got {', '.join(content) or 'an empty file'}")
    values = numbers(path, "pred", content["pred"], _POSITIONS)
    order = names(path, content, ("pred_order", "order", "parts"), values.shape[1])
    return PredictionFile(
        source=str(path),
        positions=values[..., :2],
        parts=part_names(order, str(path)) if order else None,
        people=names(path, content, ("image",), len(values)),
    )


def _matlab_array(path: Path, wanted: tuple[str, ...]) -> tuple[str, np.ndarray]:
    if path.suffix.lower() in (".h5", ".hdf5"):
        content = _load_hdf5(path, wanted)
    elif path.suffix.lower() == ".mat":
        content = load_matlab_file(path)
    else:
        raise UserError(f"{path}: predictions come as .npz, .mat or .h5, got {path.suffix or 'no suffix'!r}")
    for name in wanted:
        if name in content:
            return name, np.asarray(content[name])
    found = ", ".join(key for key in content if not key.startswith("__"))
    raise UserError(f"{path}: wanted one of the arrays {', '.join(wanted)}; got {found or 'nothing'}")


def _load_hdf5(path: Path, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    h5py = optional_module("h5py", "h5", f"{path}: an HDF5 file")
    try:
        with h5py.File(wanted_file(path, "an HDF5 file"), "r") as file:
            return {name: _hdf5_array(path, file, name) if name in wanted else np.empty(0) for name in file}
    except OSError as error:
        raise UserError(f"{path}: not an HDF5 file: {first_line(error)}") from error


def _hdf5_array(path: Path, file: Any, name: str) -> np.ndarray:
    """A dataset's values, if they lie in this very file: links and virtual datasets may lead to any other."""
    import h5py

    item = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
        raise UserError(f"{path}: wanted {name} as an array in the file itself")
    if item.nbytes > LARGEST_ARRAY:
        raise UserError(f"{path}: {name} claims {item.nbytes} bytes, more than {LARGEST_ARRAY}")
    return np.asarray(item)
