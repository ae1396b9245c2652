"""How the kernels' cost grows: people, parts, cells of belief maps; scales, image, threads of the fusion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from fuse_multiscale import bump_maps, geometry, multiply_adds
from kernels import fill, in_turn, rotated
from torch import Tensor

from cpm_repro import ops
from cpm_repro.bench import Case, Question, main
from cpm_repro.device import torch_threads

SAMPLES = 16
PEOPLE, PARTS, CELLS = 2, 14, 46
SCALES, IMAGE = 7, (720, 1280)


def belief_case(
    axis: str, value: int, device: str, people: int = PEOPLE, parts: int = PARTS, cells: int = CELLS
) -> Case:
    """Labels of SAMPLES crops whose joints lie anywhere in them."""
    generator = torch.Generator().manual_seed(0)
    joints = torch.rand(SAMPLES, people, parts, 2, generator=generator).to(device) * (8 * cells)
    visible = torch.ones(SAMPLES, people, parts, dtype=torch.int32, device=device)
    outputs = rotated((SAMPLES, 2 * (parts + 1), cells, cells), device=device)

    def ours(number: int) -> Tensor:
        return ops.belief_maps(joints, visible, (cells, cells), out=in_turn(outputs, number)[0])

    def difference() -> float:
        expected = ops.belief_maps(joints, visible, (cells, cells), backend="reference")
        return float((ours(0) - expected).abs().max())

    return Case(
        f"belief maps, {axis} {value}",
        {"cpm_repro": ours, "fill": partial(fill, outputs)},
        check=difference,
        tolerance=1e-6,
        bytes=outputs[0][0].nbytes,
        axis=(axis, value),
        limit="fill",
        graphs=("cpm_repro", "fill"),
    )


def fusion_case(
    axis: str, value: int, device: str, scales: int = SCALES, image: tuple[int, int] = IMAGE, threads: int = 0
) -> Case:
    """Maps of the first ``scales`` of seven, or of these again and again; and the peaks alone."""
    pads, sizes = geometry(image)
    which = [number % SCALES for number in range(scales)]
    maps = bump_maps(PARTS + 1).to(device)[which]
    arguments = (maps, [pads[k] for k in which], [sizes[k] for k in which], image)
    outputs = rotated((PARTS + 1, *image), device=device)

    def on_threads(work: Callable[[int], object], number: int) -> object:
        with torch_threads(threads):
            return work(number)

    def fuse(number: int) -> Tensor:
        return ops.fuse_multiscale(*arguments, out=in_turn(outputs, number)[0])

    def peaks(_: int) -> tuple[Tensor, Tensor]:
        return ops.fuse_multiscale_peaks(*arguments)

    def difference() -> float:
        """Of two channels from the chain step by step; the peaks must be those of the maps."""
        some = maps[:, -2:]
        expected = ops.fuse_multiscale(some, *arguments[1:], backend="reference")
        full = fuse(0)
        if not torch.equal(peaks(0)[1], full.amax((1, 2))):
            return math.inf
        return float((full[-2:] - expected).abs().max())

    ways: dict[str, Callable[[int], object]] = {
        "fuse_multiscale": fuse,
        "fill": partial(fill, outputs),
        "fuse_multiscale_peaks": peaks,
    }
    return Case(
        f"fusion, {axis} {value}",
        {name: partial(on_threads, way) for name, way in ways.items()} if threads else ways,
        check=difference,
        tolerance=1e-5,
        bytes=outputs[0][0].nbytes,
        operations=2 * (PARTS + 1) * multiply_adds(*arguments[1:]),
        axis=(axis, value),
        graphs=tuple(ways),
    )


def ask(quick: bool, device: str) -> Question:
    """From an ordinary size, one thing grows at a time."""

    def cases() -> Iterator[Case]:
        for people in (1, 2) if quick else (1, 2, 8, 32):
            yield belief_case("people", people, device, people=people)
        for parts in () if quick else (5, 14, 30):
            yield belief_case("parts", parts, device, parts=parts)
        for cells in () if quick else (23, 46, 92):
            yield belief_case("cells a side", cells, device, cells=cells)
        for scales in (1,) if quick else (1, 3, 7, 14):
            yield fusion_case("scales", scales, device, scales=scales, image=(90, 160) if quick else IMAGE)
        for rows in () if quick else (360, 720, 1440):
            yield fusion_case("rows of the image", rows, device, image=(rows, rows * 16 // 9))
        if device == "cpu" and not quick:
            for threads in range(1, torch.get_num_threads() + 1):
                yield fusion_case("threads", threads, device, threads=threads)

    about = (
        f"{SAMPLES} crops of {PEOPLE} people with {PARTS} parts on {CELLS}x{CELLS} cells; {SCALES} scales "
        f"of {PARTS + 1} maps on a {IMAGE[0]}x{IMAGE[1]} image: what does more of each cost?"
    )
    return Question("Kernels, growing", about, cases())


if __name__ == "__main__":
    main(ask, __file__)
