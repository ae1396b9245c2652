"""The fusion and its peaks: csrc/cuda/fuse_multiscale_kernel.h, launched as in fuse_multiscale.cu."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cpm_repro.ops._cupy.runtime import Entry, blocks_for, launch, pointer, source

# As in the headers; a test compares.
THREADS, TABLE_THREADS, BLOCK_ROWS, COLUMNS, ROWS = 128, 128, 128, 4, 32
TILE_COLUMNS, SLICE, WINDOW, CROSS, LANES, MAX_SCALES = 64, 8, 6, 5, 32, 64

# FuseParams of csrc/math/fuse.h and Tables of the kernel, field by field; a test compares the layouts.
PARAMS = np.dtype(
    [
        ("maps", np.uint64),
        ("out", np.uint64),
        *((name, np.int32) for name in ("scales", "channels", "h", "w", "image_h", "image_w")),
        *((name, np.int32) for name in ("stride", "background", "opencv", "row_major", "subpixel")),
        *((name, np.int32, MAX_SCALES) for name in ("pad_y", "pad_x", "scaled_h", "scaled_w")),
        ("weight", np.float32, MAX_SCALES),
    ],
    align=True,
)
TABLES = np.dtype(
    [
        ("base", np.uint64),
        ("weights", np.int64, 2),
        ("cover", np.int64, 2),
        ("first", np.int64, 2),
        ("dense", np.int64, 2),
        ("spans", np.int64, 2),
        ("blocks", np.int64),
        ("largest", np.int64),
        ("taps", np.int32, 2),
        ("depth", np.int32, 2),
    ],
    align=True,
)

HEADER = "fuse_multiscale_kernel.h"
_ROOM = "cpm::fuse_kernels::"
_BOUNDS, _BOTH = f"{_ROOM}kThreads, {_ROOM}kBlocksAtLeast", f"cpm::FuseParams p, {_ROOM}Tables t"
_TABLE_BOUNDS = f"{_ROOM}kTableThreads, {_ROOM}kTableBlocksAtLeast"
ENTRIES = (
    Entry("fuse_tables", _BOTH, f"{_ROOM}tables_body(p, t)", _TABLE_BOUNDS),
    *(
        Entry(
            f"fuse_{name}_{held}",
            f"{_BOTH}, unsigned long long* best",
            f"{_ROOM}fuse_body<{peaks}, {held}>(p, t, best)",
            _BOUNDS,
        )
        for name, peaks in (("maps", "false"), ("peaks", "true"))
        for held in (WINDOW, 1)
    ),
    Entry(
        "fuse_clear",
        "unsigned long long* best, int channels",
        f"{_ROOM}clear_body(best, channels)",
        f"{_ROOM}kThreads",
    ),
    Entry(
        "fuse_unpack",
        f"{_BOTH}, const unsigned long long* best, float* xy, float* score",
        f"{_ROOM}unpack_body(p, t, best, xy, score)",
        f"{_ROOM}kCross * {_ROOM}kLanes",
    ),
)


@dataclass(frozen=True)
class _Task:
    """One person's kernels-to-be: parameters, tables and the memory that these are made in."""

    params: Any
    tables: Any
    workspace: torch.Tensor  # must live until the launches are queued

    def launch(self, entry: str, grid: Sequence[int], *more: np.uint64, threads: int = THREADS) -> None:
        arguments = (self.params, self.tables, *more)
        launch(source(HEADER, ENTRIES), entry, grid, threads, arguments, self.workspace.device)

    def make(self, entry: str, best: np.uint64) -> None:
        """The tables, then maps or peaks out of them."""
        one = self.params[0]
        height, width = int(one["image_h"]), int(one["image_w"])
        grid = (blocks_for(max(height, width), TABLE_THREADS), int(one["scales"]), 3)
        self.launch("fuse_tables", grid, threads=TABLE_THREADS)
        tiles = fusion_tiles(int(one["channels"]), height, width)
        held = WINDOW if self.tables[0]["depth"][1] % WINDOW == 0 else 1
        self.launch(f"{entry}_{held}", (tiles,), best)


def fusion_tiles(channels: int, height: int, width: int) -> int:
    """Blocks of the launch that fuses so many channels of an image; the front refuses 2**31."""
    return -(-width // TILE_COLUMNS) * -(-height // BLOCK_ROWS) * channels


def fuse_multiscale_out(
    maps: list[torch.Tensor],
    geometry: list[int],
    weights: list[float],
    stride: int,
    background: bool,
    opencv: bool,
    out: list[torch.Tensor],
) -> None:
    """As ``torch.ops.cpm_repro.fuse_multiscale_out``."""
    images = [side for full in out for side in full.shape[1:]]
    for params, full in zip(_params(maps, geometry, weights, images), out, strict=True):
        params["out"] = full.data_ptr()
        params["stride"], params["background"], params["opencv"] = stride, background, opencv
        _task(params, full).make("fuse_maps", np.uint64(0))


def fuse_multiscale_peaks(
    maps: list[torch.Tensor],
    geometry: list[int],
    weights: list[float],
    images: list[int],
    stride: int,
    background: bool,
    opencv: bool,
    row_major: bool,
    subpixel: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As ``torch.ops.cpm_repro.fuse_multiscale_peaks``."""
    counts = [person.shape[1] for person in maps]
    xy, score = maps[0].new_empty((sum(counts), 2)), maps[0].new_empty(sum(counts))
    keys = torch.empty(sum(counts), dtype=torch.int64, device=maps[0].device)
    places = zip(xy.split(counts), score.split(counts), keys.split(counts), strict=True)
    for params, (to_xy, to_score, best) in zip(_params(maps, geometry, weights, images), places, strict=True):
        params["stride"], params["background"], params["opencv"] = stride, background, opencv
        params["row_major"], params["subpixel"] = row_major, subpixel
        channels = int(params[0]["channels"])
        arguments = (pointer(best), np.int32(channels))
        launch(source(HEADER, ENTRIES), "fuse_clear", (1,), THREADS, arguments, xy.device)
        task = _task(params, xy)
        task.make("fuse_peaks", pointer(best))
        results = (pointer(best), pointer(to_xy), pointer(to_score))
        task.launch("fuse_unpack", (channels,), *results, threads=CROSS * LANES)
    return xy, score


def _params(
    maps: list[torch.Tensor], geometry: list[int], weights: list[float], images: list[int]
) -> Iterator[Any]:
    """Parameters person by person: sizes, pads and weights."""
    start = 0
    for index, person in enumerate(maps):
        scales = person.shape[0]
        params = np.zeros(1, PARAMS)
        params["maps"] = person.data_ptr()
        for name, value in zip(("scales", "channels", "h", "w"), person.shape, strict=True):
            params[name] = value
        params["image_h"], params["image_w"] = images[2 * index : 2 * index + 2]
        rows = np.reshape(geometry[4 * start : 4 * (start + scales)], (scales, 4))
        for column, name in enumerate(("pad_y", "pad_x", "scaled_h", "scaled_w")):
            params[name][0, :scales] = rows[:, column]
        params["weight"][0, :scales] = weights[start : start + scales]
        start += scales
        yield params


def _task(params: Any, like: torch.Tensor) -> _Task:
    """Where the tables lie, and memory for them."""
    tables, floats = lay_out(params)
    workspace = like.new_empty(floats)
    tables["base"] = workspace.data_ptr()
    return _Task(params, tables, workspace)


def lay_out(params: Any) -> tuple[Any, int]:
    """Offsets of the tables without their base, and the number of floats that they take."""
    one, tables, used = params[0], np.zeros(1, TABLES), 0
    scales = int(one["scales"])
    for axis, (cells, image, scaled, each) in enumerate(
        (("h", "image_h", "scaled_h", ROWS), ("w", "image_w", "scaled_w", COLUMNS))
    ):
        rows, groups = scales * int(one[image]), scales * -(-int(one[image]) // each)
        sides = (int(one[cells]), int(one["stride"]), int(one[image]))
        chains = [(*sides, int(one[scaled][s]), bool(one["opencv"])) for s in range(scales)]
        taps, depth = (
            max(map(chain_taps, *zip(*chains, strict=True))),
            max(chain_depth(each, *c) for c in chains),
        )
        if axis == 0:
            depth = _round_up(depth, SLICE)
        elif (whole := _round_up(depth, WINDOW)) <= sides[0]:
            depth = whole
        tables["taps"][0, axis], tables["depth"][0, axis] = taps, depth
        sizes = {
            "dense": groups * depth * each,
            "spans": 2 * groups,
            "weights": rows * taps,
            "cover": rows,
            "first": rows,
        }
        for name, floats in sizes.items():
            tables[name][0, axis] = used
            used += floats
        used = _round_up(used, 4)
    tables["blocks"] = used
    used += 2 * scales * -(-int(one["image_h"]) // BLOCK_ROWS)
    tables["largest"] = used
    return tables, used + scales * int(one["channels"])


def _round_up(value: int, to: int) -> int:
    return -(-value // to) * to


def chain_taps(cells: int, stride: int, image: int, scaled: int, opencv: bool) -> int:
    """The most neighbouring cells that one image pixel can depend on: ``chain_taps`` of csrc/math/fuse.h."""
    if opencv:
        return min(cells, 4)
    pixels = max(math.ceil(4.0 / min(image / scaled, 1.0)), 4)
    return min((pixels + stride - 2) // stride + 4, cells)


def chain_depth(count: int, cells: int, stride: int, image: int, scaled: int, opencv: bool) -> int:
    """The most that ``count`` neighbouring pixels depend on: ``chain_depth`` of csrc/math/fuse.h."""
    between = -(-(count - 1) * scaled // (image * stride))
    return min(chain_taps(cells, stride, image, scaled, opencv) + between, cells)
