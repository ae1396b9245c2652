"""What a reader takes for finished in a folder of results."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cpm_repro.data.lmdb_store import LmdbDataset
from cpm_repro.errors import UserError


def finished(folder: Path) -> dict[str, Any]:
    """What a reader takes for finished below ``folder``, by name; a file that is not whole is refused."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.suffix in (".tmp", ".part") or path.name == "lock.mdb":
            continue
        if path.suffix == ".mdb":
            found |= {f"{name}:{key}": value for key, value in records_of(path.parent).items()}
            with contextlib.suppress(UserError):
                found[name] = len(LmdbDataset(path.parent))
        else:
            found[name] = READ[path.suffix](path.read_bytes())
    return found


def records_of(folder: Path) -> dict[str, bytes]:
    lmdb = pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    with lmdb.open(str(folder), readonly=True, lock=False) as store, store.begin() as transaction:
        return {bytes(key).decode(): bytes(value) for key, value in transaction.cursor()}


def pixels(raw: bytes) -> bytes:
    image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image.tobytes()


def arrays(raw: bytes) -> dict[str, bytes]:
    with np.load(io.BytesIO(raw)) as content:
        return {name: content[name].tobytes() for name in content.files}


READ: dict[str, Callable[[bytes], Any]] = {
    ".json": json.loads,
    ".png": pixels,
    ".npz": arrays,
    ".csv": lambda raw: list(csv.reader(raw.decode().splitlines())),
    ".md": bytes.decode,
    ".svg": lambda raw: raw.decode().rstrip().endswith("</svg>"),  # it holds its date
}
