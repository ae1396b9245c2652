"""Reading MPII's original .mat at its size: seconds, and memory of a new process.

The real file may not be passed on, so one of its structure is made: 25,000 images, people with all 16 joints.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from new_process import said

from cpm_repro.bench import Case, Question, largest, main
from cpm_repro.data.mpii import read_mpii_mat
from cpm_repro.matlab_file import load_matlab_file

SECONDS, MEGABYTES = 60, 2000
"""What is asked for, of `FULL` images."""
FULL = 25_000
_IMAGES, _PEOPLE = 10, 17
"""Images of the pattern that is repeated, and people in them: 1.7 an image, as in MPII."""
_MARK = b"NUMBER"

CHILD = """
from cpm_repro.data.mpii import read_mpii_mat
begin = time.perf_counter()
read = read_mpii_mat(sys.argv[1]).read
print(json.dumps([read, time.perf_counter() - begin, kilobytes("VmHWM") * 1024 / 1e6]))
"""


def _structs(items: list[dict[str, Any]]) -> np.ndarray:
    """A 1 x n struct array."""
    array = np.empty((1, len(items)), dtype=[(name, object) for name in items[0]])
    for index, item in enumerate(items):
        for name, value in item.items():
            array[name][0, index] = value
    return array


def _person(rng: np.random.Generator) -> dict[str, Any]:
    places = rng.uniform(100, 600, (16, 2))
    points = [
        {"x": x, "y": y, "id": float(k), "is_visible": str(k % 2)} for k, (x, y) in enumerate(places.tolist())
    ]
    objpos = _structs([{"x": 300.0, "y": 320.0}])
    head = {"x1": 280.0, "y1": 100.0, "x2": 330.0, "y2": 160.0}
    return {**head, "annopoints": _structs([{"point": _structs(points)}]), "scale": 3.2, "objpos": objpos}


def _element(value: np.ndarray) -> bytes:
    """One variable of a MATLAB 5 file, without the file's header of 128 bytes; its name does not matter."""
    file = BytesIO()
    scipy.io.savemat(file, {"a": value})
    return file.getvalue()[128:]


def _repeated(element: bytes, times: int) -> bytes:
    """A 1 x n struct array as 1 x (n times ``times``): the same elements again and again, names numbered.

    SciPy needs minutes to write as many; the layout is its own, so every place is known: flags (16 bytes),
    dimensions (16), the name, the length of field names, the names, then the fields.
    """

    def after(position: int) -> int:
        kind, size = struct.unpack_from("<II", element, position)
        return position + (8 if kind >> 16 else 8 + (size + 7) // 8 * 8)

    fields = after(after(after(8 + 16 + 16)))
    (count,) = struct.unpack_from("<i", element, 8 + 16 + 12)
    head = bytearray(element[:fields])
    body = b"".join(element[fields:].replace(_MARK, b"%06d" % number) for number in range(times))
    struct.pack_into("<I", head, 4, fields - 8 + len(body))
    struct.pack_into("<i", head, 8 + 16 + 12, count * times)
    return bytes(head) + body


def _write(path: Path, images: int) -> None:
    """RELEASE with ``images`` images, compressed as MATLAB does with -v7."""
    rng = np.random.default_rng(0)
    pattern = []
    for index in range(_IMAGES):
        people = [_person(rng) for _ in range(1 + (index < _PEOPLE - _IMAGES))]
        image = _structs([{"name": f"{_MARK.decode()}{index:03d}.jpg"}])
        pattern.append({"image": image, "annorect": _structs(people)})
    annolist = _repeated(_element(_structs(pattern)), images // _IMAGES)
    flags = _element(np.ones((1, images), np.uint8))
    # The outer struct is written with two empty fields, which are then replaced.
    empty = _structs([{"annolist": np.zeros((0, 0)), "img_train": np.zeros((0, 0))}])
    file = BytesIO()
    scipy.io.savemat(file, {"RELEASE": empty})
    whole = file.getvalue()
    blank = _element(np.zeros((0, 0)))
    outer = bytearray(whole[128 : len(whole) - 2 * len(blank)] + annolist + flags)
    struct.pack_into("<I", outer, 4, len(outer) - 8)
    packed = zlib.compress(bytes(outer), 6)
    path.write_bytes(whole[:128] + struct.pack("<II", 15, len(packed)) + packed)


def _difference(path: Path, images: int) -> float:
    """0 if every person is read and those of the pattern's repetitions are the same, else infinity."""
    annotations = read_mpii_mat(path)
    people = [person for _, person in annotations.people()]
    if annotations.problems or len(people) != annotations.read or len(people) != images * _PEOPLE // _IMAGES:
        return float("inf")
    return largest(
        float(np.abs(person.joints - people[k % _PEOPLE].joints).max()) for k, person in enumerate(people)
    )


def _read(path: Path, _: int) -> object:
    return read_mpii_mat(path)


def _scipy(path: Path, _: int) -> object:
    """SciPy and our checks alone: structs of arrays, nothing taken out of them yet."""
    return load_matlab_file(path, ("RELEASE",), squeeze_me=True)


def _fresh(path: Path, images: int) -> str:
    """The first read of a new process, whose memory is its own."""
    read, seconds, megabytes = said(CHILD, str(path))
    found = f"In a new process: {read} people in {seconds:.1f} s, peak memory {megabytes:.0f} MB"
    if images < FULL:
        return f"{found}; the goal is of {FULL} images."
    met = seconds < SECONDS and megabytes < MEGABYTES
    return f"{found}; asked for {SECONDS} s and {MEGABYTES} MB: {'met' if met else 'NOT met'}."


_FOLDER = tempfile.TemporaryDirectory()


def ask(quick: bool, device: str) -> Question:
    """25,000 images (500 when ``quick``); files are read on the CPU."""
    del device
    images = 500 if quick else FULL
    path = Path(_FOLDER.name) / "mpii_human_pose_v1_u12_1.mat"
    _write(path, images)

    def cases() -> Iterator[Case]:
        yield Case(
            f"{images} images",
            {"read_mpii_mat": partial(_read, path), "SciPy alone": partial(_scipy, path)},
            check=partial(_difference, path, images),
            tolerance=0.0,
        )

    return Question(
        "Reading MPII's .mat",
        f"How long does reading all annotations take ({path.stat().st_size / 1e6:.0f} MB on disk)?",
        cases(),
        notes=(_fresh(path, images),),
    )


if __name__ == "__main__":
    main(ask, __file__)
