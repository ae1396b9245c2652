"""The release's seven-scale estimate of one person: how much of its time is not the network?

Everything else is measured on its own, by running the procedure with a network whose maps are ready: the
network takes seconds, and what is left of one long time after another is subtracted is noise. On a GPU: is
everything else done within a millisecond?
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import cv2
import numpy as np
import torch
from networks import apart, filled, without_tf32

from cpm_repro import ops
from cpm_repro.bench import BenchmarkWrong, Case, Goal, Question, main
from cpm_repro.device import float32_products
from cpm_repro.inference.procedure import BenchmarkProcedure, Views, person_scale

TIMES = 10
"""A whole estimate is asked to take so many times as long as everything in it that is not the network."""

ON_A_GPU = 1e-3
"""Seconds per person that are asked for there, for everything except the network."""

Place = tuple[tuple[float, float], float]


def _photographs(height: int, width: int) -> list[np.ndarray]:
    """(H, W, 3) uint8 with structure at all sizes."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, height // 16, width // 16, 3), dtype=np.uint8)
    return [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in coarse]


def _estimate(procedure: BenchmarkProcedure, images: list[np.ndarray], place: Place, number: int) -> object:
    return procedure(images[number % len(images)], *place)


@torch.inference_mode()
def _network(procedure: BenchmarkProcedure, data: list[torch.Tensor], number: int) -> object:
    with float32_products(procedure.device, tf32=False):  # as the procedure has it
        return procedure.net(data[number % len(data)], stages=procedure.stages)


def _views(procedure: BenchmarkProcedure, images: list[np.ndarray], place: Place, number: int) -> object:
    return procedure.views(images[number % len(images)], *place)


def _input(procedure: BenchmarkProcedure, views: Views, _: int) -> object:
    return procedure.network_input(views)


class _ReadyMade(torch.nn.Module):
    """Stands where the network does: takes its input, and gives maps (S, K+1, h, w) that were made before."""

    def __init__(self, maps: torch.Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, data: torch.Tensor, stages: int | None = None) -> list[torch.Tensor]:  # noqa: ARG002
        return [self.maps]


def _without_network(procedure: BenchmarkProcedure, maps: torch.Tensor) -> BenchmarkProcedure:
    """The same procedure, from the photograph in the host's memory to the parts there, for those maps."""
    without = copy.copy(procedure)
    without.net = _ReadyMade(maps)
    return without


def _cases(arch: str, size: tuple[int, int], device: str, box: int) -> Iterator[Case]:
    net = filled(arch)
    procedure = BenchmarkProcedure(net, device=device, box=box)
    images, place = _photographs(*size), ((size[1] / 2, size[0] / 2), person_scale(size[0] / 200))
    views = [procedure.views(image, *place) for image in images]
    data = [procedure.network_input(view) for view in views]
    maps = procedure.stage_maps(views[0])
    without = _without_network(procedure, maps)

    def fuse(_: int) -> object:
        return ops.fuse_multiscale_peaks(maps, views[0].pads, views[0].sizes, size, order="column")

    def check() -> float:
        """The last stage's maps against eager PyTorch without tiles; the parts of ready maps exactly."""
        got, want = without(images[0], *place), procedure.peaks(maps, views[0], size)
        if not (np.array_equal(got.keypoints, want.keypoints) and np.array_equal(got.scores, want.scores)):
            raise BenchmarkWrong(f"{arch}: ready maps gave other parts than they have")
        with torch.inference_mode():
            plain = filled(arch).to(device)(data[0].contiguous())[-1]
        return apart(maps, plain)

    rest = {"all but the network": partial(_estimate, without, images, place)}
    height, width = size
    yield Case(
        f"{arch}, {width}x{height}",
        {
            **rest,
            "whole estimate": partial(_estimate, procedure, images, place),
            "network alone": partial(_network, procedure, data),
        },
        check=without_tf32(check, device),
        tolerance=1e-4,
        goals=(Goal("whole estimate", TIMES),),
    )
    yield Case(
        f"all but {arch}, {width}x{height}",
        {
            **rest,
            "resize and pad": partial(_views, procedure, images, place),
            "input blob": partial(_input, procedure, views[0]),
            "fuse and peaks": fuse,
        },
        check=without_tf32(check, device),
        tolerance=1e-4,
        allowed=ON_A_GPU if device == "cuda" else None,
        goals=(Goal("limit", 1.0),) if device == "cuda" else (),
    )


def ask(quick: bool, device: str) -> Question:
    """mpii_6stage on a 720p photograph and an LSP-sized one (tiny in a 128 px box when ``quick``)."""

    def cases() -> Iterator[Case]:
        if quick:
            yield from _cases("tiny", (180, 320), device, 128)
        else:
            yield from _cases("mpii_6stage", (720, 1280), device, 368)

    return Question(
        "Seven scales",
        "How much of a seven-scale estimate is not the network? Everything else is run on its own, with maps "
        f"that are ready. Asked for: the whole takes at least {TIMES} times as long, and on a GPU everything "
        f"else is done within {1000 * ON_A_GPU:g} ms: the limit of the second case. Its parts are timed on "
        "their own and need not add up.",
        cases(),
    )


if __name__ == "__main__":
    main(ask, __file__)
