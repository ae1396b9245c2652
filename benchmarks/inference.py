"""One image through the released six-stage network: as the estimator runs it, and through every peer."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import torch
from networks import (
    Forward,
    apart,
    blobs,
    filled,
    last_stage,
    opencv,
    ours,
    tf32_notes,
    tiled_operations,
    without_tf32,
)
from torch import Tensor

from cpm_repro.bench import Case, Goal, Question, largest, main
from cpm_repro.device import has_bf16
from cpm_repro.inference.fast_convolution import spectrum_bytes
from cpm_repro.model import PoseMachine, multiply_accumulates

TOLERANCE = 1e-4
"""Of the maps' range: asked for of everything that calls itself float32."""

TOLERANCE_BF16 = 0.2
"""bfloat16 keeps 8 bits; with random weights errors grow over six stages. What it costs a trained network in
PCK is in benchmarks/bf16_pck.py."""


def _call(forward: Forward, data: list[Tensor], number: int) -> object:
    return forward(data[number % len(data)])


def _worst(ways: dict[str, Forward], data: list[Tensor]) -> float:
    """Largest difference of any way from eager PyTorch, which is compared with itself called again."""
    want = ways["eager PyTorch"](data[0])
    return largest(apart(forward(data[0]), want) for forward in ways.values())


def _float32(net: PoseMachine, fast: PoseMachine, device: str) -> dict[str, Forward]:
    plain, channels_last = torch.contiguous_format, torch.channels_last
    ways = {
        "cpm_repro": last_stage(fast, channels_last),
        "eager PyTorch": last_stage(net, plain),
        "eager PyTorch, channels last": last_stage(net, channels_last),
        "torch.compile": torch.compile(last_stage(net, plain), dynamic=False),
    }
    if device == "cpu":
        ways["OpenCV dnn"] = opencv(net)
    return ways


def _bf16(net: PoseMachine) -> Forward:
    """``net`` in bfloat16; takes float32 and gives float32, whose conversions count."""
    low = last_stage(net.bfloat16(), torch.channels_last)
    return lambda blob: low(blob.bfloat16()).float()


def ask(quick: bool, device: str) -> Question:
    """mpii_6stage on 1x4x368x368 (tiny on 1x4x128x128 when ``quick``)."""
    arch, side = ("tiny", 128) if quick else ("mpii_6stage", 368)
    net = filled(arch).to(device)
    fast = ours(net)
    data = blobs((1, 4, side, side), device)
    operations, tiled = tiled_operations(fast, data[0])
    direct = 2.0 * multiply_accumulates(net.description, side, side)
    bf16 = has_bf16(torch.device(device))

    def cases() -> Iterator[Case]:
        ways = _float32(net, fast, device)
        goals = [Goal("eager PyTorch", 1.3), Goal("eager PyTorch", 2.0)]
        goals += [Goal("OpenCV dnn", 3.0)] if device == "cpu" else []
        yield Case(
            f"{arch} 1x4x{side}x{side}",
            {name: partial(_call, forward, data) for name, forward in ways.items()},
            check=without_tf32(partial(_worst, ways, data), device),
            tolerance=TOLERANCE,
            operations=direct,
            goals=tuple(goals),
        )
        if bf16:
            half = {
                "cpm_repro, bf16": _bf16(ours(net)),
                "cpm_repro, float32": ways["cpm_repro"],
                "eager PyTorch, bf16, channels last": _bf16(copy.deepcopy(net)),
                "eager PyTorch": ways["eager PyTorch"],
            }
            yield Case(
                f"{arch} 1x4x{side}x{side}, bf16",
                {name: partial(_call, forward, data) for name, forward in half.items()},
                check=without_tf32(partial(_worst, half, data), device),
                tolerance=TOLERANCE_BF16,
                operations=direct,
                precision="bfloat16",
                goals=(Goal("cpm_repro, float32", 1.0),),
            )

    return Question(
        "Inference",
        "How long does one image take? Operations are those of direct convolutions, for every way.",
        cases(),
        (
            f"cpm_repro computes {operations / 1e9:.0f} of {direct / 1e9:.0f} GFLOP of direct convolution; "
            f"spectra of the weights take {spectrum_bytes(fast) / 1e6:.0f} MB. Layers through tiles, and the "
            f"tile's side: {', '.join(tiled) or 'none'}.",
            *([] if bf16 else ["bf16: not run, this processor has no such arithmetic."]),
            *tf32_notes(device),
        ),
    )


if __name__ == "__main__":
    main(ask, __file__)
