"""How much memory does one image take, from weights to belief maps, and what do the faster ways cost?

Every number is the peak of a new process over what it held after importing everything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial

import torch
from networks import apart, blobs, filled, last_stage, ours
from new_process import said

from cpm_repro import ops
from cpm_repro.bench import Case, Question, main

CHILD = """
sys.path.insert(0, sys.argv[2])
import torch
from networks import filled, blobs, last_stage, ours
import cpm_repro.ops

options = json.loads(sys.argv[1])
before = kilobytes("VmRSS")
if options["what"] == "network":
    net = filled(options["arch"], options["stages"])
    plain, last = torch.contiguous_format, torch.channels_last
    if options["way"] == "bf16":
        net = net.bfloat16()
    forward = last_stage(net, plain) if options["way"] == "eager" else last_stage(
        ours(net) if options["way"] == "tiles" else net, last)
    for data in blobs((options["batch"], 4, options["side"], options["side"])):
        forward(data.bfloat16() if options["way"] == "bf16" else data)
else:
    maps = torch.rand(7, 15, 46, 46)
    size = [options["side"] * 9 // 16, options["side"]]
    place = [[0, 0, 0, 0]] * 7, [[368, 368]] * 7, tuple(size)
    if options["way"] == "peaks":
        cpm_repro.ops.fuse_multiscale_peaks(maps, *place)
    else:
        full = cpm_repro.ops.fuse_multiscale(maps, *place)
        full.flatten(1).argmax(1)
print(json.dumps((kilobytes("VmHWM") - before) * 1024))
"""


def _peak(options: dict[str, object], _: int) -> float:
    """Peak bytes of a new process that does what ``options`` say."""
    return float(said(CHILD, json.dumps(options), sys.path[0]))


def _apart(arch: str, side: int) -> float:
    net, (data, *_) = filled(arch), blobs((1, 4, side, side))
    want = last_stage(net, torch.contiguous_format)(data)
    return apart(last_stage(ours(net), torch.channels_last)(data), want)


def _peaks_apart() -> float:
    """Largest difference of the peaks' heights from the maxima of the full maps, on a small image."""
    maps, image = torch.rand(7, 15, 46, 46, generator=torch.Generator().manual_seed(0)), (90, 160)
    place = [[0, 0, 0, 0]] * 7, [[368, 368]] * 7, image
    _, score = ops.fuse_multiscale_peaks(maps, *place)
    return float((score - ops.fuse_multiscale(maps, *place).amax((1, 2))).abs().max())


def ask(quick: bool, device: str) -> Question:
    """mpii_6stage at 368x368 by stages and batch (tiny at 128x128 when ``quick``), and the fusion's peaks."""
    if device != "cpu":
        return Question("Memory", "Only the CPU's memory is measured here: not measured on a GPU.", ())
    arch, side = ("tiny", 128) if quick else ("mpii_6stage", 368)
    worst = _apart(arch, side)

    def network(stages: int, batch: int, axis: tuple[str, float]) -> Case:
        common = {"what": "network", "arch": arch, "stages": stages, "batch": batch, "side": side}
        ways = {"cpm_repro": "tiles", "eager PyTorch": "eager", "eager PyTorch, bf16": "bf16"}
        return Case(
            f"{axis[0]} {axis[1]:g}: {arch}, {stages} stages, {batch}x4x{side}x{side}",
            {name: partial(_peak, {**common, "way": way}) for name, way in ways.items()},
            check=lambda: worst,
            tolerance=1e-4,
            axis=axis,
            unit="bytes",
        )

    def cases() -> Iterator[Case]:
        for stages in (1, 3) if quick else (1, 3, 6):
            yield network(stages, 1, ("stages", stages))
        for batch in (1, 2) if quick else (1, 2, 4):
            yield network(3, batch, ("batch", batch))
        fusion = {"what": "fusion", "side": 320 if quick else 1280}
        yield Case(
            f"fusion of 7 scales, {fusion['side']} wide",
            {
                "fuse_multiscale_peaks": partial(_peak, {**fusion, "way": "peaks"}),
                "fuse_multiscale, then argmax": partial(_peak, {**fusion, "way": "maps"}),
            },
            check=_peaks_apart,
            tolerance=0.0,
            unit="bytes",
        )

    return Question(
        "Memory",
        "How much does a new process hold at most, above what its imports took?",
        cases(),
    )


if __name__ == "__main__":
    main(ask, __file__)
