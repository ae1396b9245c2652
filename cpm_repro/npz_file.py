"""Reading ``.npz`` files that nobody vouches for: nothing is unpickled, no array is larger than its bytes."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.paths import wanted_file


def load_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz`` file, by name.

    Raises:
        UserError: no such file, cut, damaged, holding objects, or claiming more than its bytes hold.
    """
    path = wanted_file(path, "a .npz file")
    try:
        _check_claims(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # numpy and zipfile raise many kinds for a foreign or cut file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a whole .npz file of plain arrays: {reason}") from error


def _check_claims(path: Path) -> None:
    """Each array's shape and type against the bytes that the archive holds for it."""
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            with archive.open(item) as file:
                first = np.lib.format.read_magic(file) == (1, 0)
                read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
            if math.prod(shape) * dtype.itemsize > item.file_size:
                raise ValueError(f"{item.filename} claims {shape} of {dtype} in {item.file_size} bytes")
            if item.file_size > 2000 * item.compress_size + 1024:
                raise ValueError(f"{item.filename} claims {item.file_size} bytes from {item.compress_size}")
