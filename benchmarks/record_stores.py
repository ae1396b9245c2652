"""The release's LMDB layout and the compact one: reading a sample from each, and their sizes.

Needs the folder CPM_DATA with `lspet/`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from cpm_repro.bench import Case, Question, largest, main
from cpm_repro.data import ImageSizes, LmdbDataset, read_record_set, write_lmdb

_READ = 64


def _read(dataset: LmdbDataset, number: int) -> None:
    for k in range(_READ):
        _ = dataset[(number * _READ + k) % len(dataset)]


def _difference(one: LmdbDataset, other: LmdbDataset) -> float:
    """Largest difference of pixels and coordinates over the first people."""
    worst = 0.0
    for k in range(_READ):
        a, b = one[k], other[k]
        pixels, joints = a.image.astype(int) - b.image, a.joints - b.joints
        worst = largest([worst, *(float(np.abs(difference).max()) for difference in (pixels, joints))])
    return worst


def ask(quick: bool, device: str) -> Question:  # noqa: ARG001
    """The first people of lspet in both layouts, in a temporary folder."""
    data = Path(os.environ.get("CPM_DATA", Path(__file__).parents[2] / "shared" / "data"))
    folder = tempfile.TemporaryDirectory()
    people = read_record_set(data / "lspet", ImageSizes())
    count = 100 if quick else 2000
    records, files = people.records[:count], people.files[:count]
    sizes = {}
    for name, compact in (("compact", True), ("release", False)):
        out = Path(folder.name) / name
        write_lmdb(records, files, out, compact=compact)
        sizes[name] = (out / "data.mdb").stat().st_blocks * 512 / 1e6
    compact_mb, release_mb = sizes["compact"], sizes["release"]
    encoded = sum(file.stat().st_size for file in files) / 1e6

    def cases() -> Iterator[Case]:
        cv2.setNumThreads(1)
        compact, release = (LmdbDataset(Path(folder.name) / name) for name in ("compact", "release"))
        yield Case(
            f"{_READ} people of lspet",
            {"compact": partial(_read, compact), "release's layout": partial(_read, release)},
            check=partial(_difference, compact, release),
            tolerance=0.0,
        )
        folder.cleanup()

    return Question(
        "Record stores",
        "How large is an LMDB of the same people in each layout, and how long does reading samples take?",
        cases(),
        notes=(
            f"{count} people of {len(set(files))} images: the release's layout takes {release_mb:.1f} MB, "
            f"the compact one {compact_mb:.1f} MB, {release_mb / compact_mb:.1f} times less; the image "
            f"files alone are {encoded:.1f} MB.",
            "The compact layout decodes each image when it is read; the release's holds it decoded, once for "
            "every person in it.",
        ),
    )


if __name__ == "__main__":
    main(ask, __file__)
