"""Opening a data set by what the user names: a built-in one or a path."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cpm_repro.data.lsp import LspetDataset, is_lspet_folder
from cpm_repro.data.sample import PoseDataset
from cpm_repro.data.synthetic import SyntheticDataset
from cpm_repro.errors import UserError

Split = Literal["train", "val"]


def open_dataset(spec: str, split: Split, *, seed: int = 0, size: int | None = None) -> PoseDataset:
    """Open one split of a data set.

    Args:
        spec: "synthetic", or a path that is recognised by what it contains: `joints.mat` + `images/` is the
            LSP-extended layout.
        split: "train" or "val"; they share nobody.
        seed: of the synthetic people; files do not depend on it.
        size: number of samples (synthetic), or the first so many (files); None = all, or the default size.

    Raises:
        UserError: unknown name, missing path, unknown layout, or content that does not fit the layout.
    """
    if split not in ("train", "val"):
        raise ValueError(f"split: expected 'train' or 'val', got {split!r}")
    if size is not None and size < 1:
        raise UserError(f"data set {spec}: expected a size of at least 1, got {size}")
    if spec == "synthetic":
        return SyntheticDataset(split, seed=seed, size=size)
    path = Path(spec)
    if not path.exists():
        raise UserError(
            f"{spec}: expected 'synthetic' or the path of a data set, but there is no such file or folder"
        )
    if path.is_dir() and is_lspet_folder(path):
        return LspetDataset(path, split, size=size)
    raise UserError(
        f"{spec}: expected a folder with joints.mat and images/ (LSP-extended), got {_contents(path)}"
    )


def _contents(path: Path) -> str:
    """A few names of what is there, for the message."""
    if path.is_file():
        return "a file"
    names = sorted(entry.name for entry in path.iterdir())
    return (
        "an empty folder"
        if not names
        else "a folder with " + ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
    )
