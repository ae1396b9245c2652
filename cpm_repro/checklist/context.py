"""What a check may use, and whether what a claim needs is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.evaluation.file_arrays import Side, names, numbers
from cpm_repro.npz_file import load_npz


@dataclass(frozen=True)
class Golden:
    """A file of arrays that the original made; what is not as a check wants it is another file's content."""

    path: Path
    content: dict[str, np.ndarray]

    def array(self, name: str, *shape: Side) -> np.ndarray:
        """The numbers of that name, which must have that shape.

        Raises:
            UserError: they are not there, or something else.
        """
        if name not in self.content:
            raise UserError(f"{self.path}: wanted the array {name}, got {len(self.content)} others")
        numbers(self.path, name, self.content[name], shape)
        return self.content[name]

    def words(self, name: str, count: int) -> tuple[str, ...]:
        """As many names as that, under that name; errors as of :meth:`array`."""
        found = names(self.path, self.content, (name,), count)
        if found is None:
            raise UserError(f"{self.path}: wanted the names {name}, got {len(self.content)} other arrays")
        return found


@dataclass(frozen=True)
class Context:
    """Folders given to the checklist; None where none was given."""

    data: Path | None = None  # holds published_predictions/
    golden: Path | None = None  # arrays made by running the original
    weights: Path | None = None  # released .caffemodel files, or folders of them

    def path(self, need: str) -> Path:
        """The file of a need that is not :meth:`missing`."""
        path = self._place(need)
        assert path is not None, "the runner asks what is missing first"
        return path

    def golden_file(self, name: str) -> Golden:
        """A golden file that is not :meth:`missing`; UserError if it is no such file."""
        path = self.path(f"golden/{name}")
        return Golden(path, load_npz(path))

    def _place(self, need: str) -> Path | None:
        """Where ``predictions/NAME``, ``golden/NAME``, ``weights/NAME`` or ``data/NAME`` would be."""
        kind, _, name = need.partition("/")
        folders = {
            "predictions": self.data / "published_predictions" if self.data else None,
            "golden": self.golden,
            "weights": self.weights,
            "data": self.data,
        }
        folder = folders.get(kind)
        if folder is None or not name:
            return None
        # The release keeps each network's weights in a folder of its own.
        below = sorted(folder.glob(f"*/{name}")) if kind == "weights" else []
        return below[0] if below and not (folder / name).exists() else folder / name

    def missing(self, needs: Sequence[str]) -> list[str]:
        """Those of ``needs`` that are not there, in words."""
        lacking = []
        for need in needs:
            if need == "gpu":
                if not _has_gpu():
                    lacking.append("a CUDA device")
                continue
            path = self._place(need)
            if path is None or not path.exists():
                lacking.append(_in_words(need))
        return lacking


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _in_words(need: str) -> str:
    kind, _, name = need.partition("/")
    options = {
        "predictions": "published_predictions/{} (give its parent folder with --data)",
        "golden": "golden file {} (give its folder with --golden)",
        "data": "{} (give the folder that holds it with --data)",
        "weights": "weights {} (give their folder with --weights)",
    }
    return options[kind].format(name) if kind in options and name else need
