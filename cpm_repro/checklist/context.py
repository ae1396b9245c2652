"""What a check may use, and whether what a claim needs is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


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
