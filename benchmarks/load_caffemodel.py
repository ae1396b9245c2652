"""Reading a released-size caffemodel of either generation: seconds, and memory as a share of the file."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from new_process import said

import cpm_repro as cpm
from cpm_repro.bench import Case, Goal, Question, largest, main
from cpm_repro.caffe.schema import message_class, new

SECONDS, SHARE = 1.0, 2.2
"""What is asked for, of a file of 120 MB: seconds, and memory relative to the file's size."""

CHILD = """
import cpm_repro as cpm
from cpm_repro.caffe.net import CaffeNet
from cpm_repro.inference.weights import load

way, path, arch = sys.argv[1:]
before, begin = kilobytes("VmRSS"), time.perf_counter()
result = cpm.caffe.read_caffemodel(path) if way == "read" else load(path, arch)
print(json.dumps([time.perf_counter() - begin, (kilobytes("VmHWM") - before) * 1024]))
"""


def _weights(arch: str) -> dict[str, list[np.ndarray]]:
    net = cpm.build(arch)
    return {
        layer.name: [array.detach().numpy() for array in net.layer(layer.name).parameters()]
        for layer in net.description.convolutions
    }


def _write_old(path: Path, weights: dict[str, list[np.ndarray]]) -> None:
    """The old generation: ``layers`` with enum types, every array with four axes."""
    net = new("NetParameter", name="old")
    types = message_class("V1LayerParameter").DESCRIPTOR.fields_by_name["type"].enum_type.values_by_name
    for name, arrays in weights.items():
        layer = net.layers.add(name=name, type=types["CONVOLUTION"].number)
        for array in arrays:
            num, channels, height, width = (1,) * (4 - array.ndim) + array.shape
            blob = layer.blobs.add(num=num, channels=channels, height=height, width=width)
            blob.data.extend(array.ravel().tolist())
    path.write_bytes(net.SerializeToString())


def _read(path: Path, _: int) -> object:
    return cpm.caffe.read_caffemodel(path)


def _load(path: Path, arch: str, _: int) -> object:
    return cpm.load(path, arch)


def _parse(path: Path, _: int) -> object:
    """The usual way: the whole message through protobuf, then an array of each blob."""
    net = message_class("NetParameter").FromString(path.read_bytes())
    return {
        layer.name: [np.array(blob.data, np.float32) for blob in layer.blobs]
        for layer in (*net.layer, *net.layers)
    }


def _copy(path: Path, _: int) -> object:
    """The file's bytes once into memory, without looking at them."""
    return path.read_bytes()


def _difference(path: Path, arch: str, weights: dict[str, list[np.ndarray]]) -> float:
    """Largest difference of what is read, and of the loaded module, from what was written."""
    got, state = cpm.caffe.read_caffemodel(path), cpm.load(path, arch).state_dict()
    worst = 0.0 if list(got) == list(weights) else float("inf")
    for name, arrays in weights.items():
        module = [state[f"{name}.weight"].numpy(), state[f"{name}.bias"].numpy()]
        for both in (got[name], module):
            for a, b in zip(both, arrays, strict=True):
                apart = float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")
                worst = largest([worst, apart])
    return worst


def _fresh(way: str, path: Path, arch: str, rounds: int) -> str:
    """First use in a new process: seconds and peak memory, median and spread, against what is asked for."""
    runs = [said(CHILD, way, str(path), arch) for _ in range(rounds)]
    size = path.stat().st_size
    seconds, shares = [run[0] for run in runs], [run[1] / size for run in runs]
    met = max(seconds) < SECONDS and max(shares) < SHARE
    return (
        f"first {way} in a new process, {path.stem} ({size / 1e6:.0f} MB): "
        f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), "
        f"memory {statistics.median(shares):.2f} of the file ({min(shares):.2f} to {max(shares):.2f}); "
        f"asked for {SECONDS:g} s and {SHARE:g}: {'met every time' if met else 'NOT met every time'}"
    )


_FOLDER = tempfile.TemporaryDirectory()


def ask(quick: bool, device: str) -> Question:
    """Both generations of mpii_6stage's weights (tiny when ``quick``); files are read on the CPU."""
    del device
    arch = "tiny" if quick else "mpii_6stage"
    weights, folder = _weights(arch), Path(_FOLDER.name)
    files = {"new generation": folder / "new.caffemodel", "old generation": folder / "old.caffemodel"}
    cpm.caffe.write_caffemodel(files["new generation"], weights)
    _write_old(files["old generation"], weights)

    def cases() -> Iterator[Case]:
        for name, path in files.items():
            yield Case(
                name,
                {
                    "read_caffemodel": partial(_read, path),
                    "cpm.load": partial(_load, path, arch),
                    "protobuf, then arrays": partial(_parse, path),
                    "read_bytes alone": partial(_copy, path),
                },
                check=partial(_difference, path, arch, weights),
                tolerance=0.0,
                bytes=2 * path.stat().st_size,  # copied once, out of the page cache
                goals=(Goal("protobuf, then arrays", 1.0),),
            )

    notes = [
        _fresh(way, path, arch, rounds=2 if quick else 7)
        for path in files.values()
        for way in ("read", "load")
    ]
    return Question(
        "Loading a caffemodel",
        "How long does it take with the file in the page cache, in what memory?",
        cases(),
        tuple(notes),
    )


if __name__ == "__main__":
    main(ask, __file__)
