"""Which file of weights a path names, and of what kind: asked before torch, which takes long, is imported."""

from __future__ import annotations

from pathlib import Path

from cpm_repro.errors import UserError
from cpm_repro.paths import wanted_suffix, what_is_at

KINDS = {
    ".caffemodel": "caffemodel",
    ".safetensors": "safetensors",
    ".pt": "checkpoint",
    ".pth": "checkpoint",
    ".ckpt": "checkpoint",
}
"""Suffixes of weight files and the formats they stand for."""

EXPORTED = (".onnx", ".pt2")
"""Suffixes of the files that a network is exported to."""


def weight_file_of(path: str | Path) -> Path:
    """The weights that a run folder offers: its best checkpoint, else its last one; a file is itself.

    Raises:
        UserError: nothing there, a folder without checkpoints, or a file that is not called as weights are.
    """
    path = Path(path)
    there = what_is_at(path)
    if there == "a folder":
        for name in ("best.pt", "last.pt"):
            if what_is_at(path / "checkpoints" / name):
                return path / "checkpoints" / name
        raise UserError(f"{path}: wanted a run folder with checkpoints/best.pt, found none")
    if not there:
        raise UserError(f"{path}: wanted a run folder or weight file, there is no such file or folder")
    wanted_suffix(path, KINDS)
    return path
