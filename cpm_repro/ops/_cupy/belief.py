"""Belief maps and centre maps: csrc/cuda/belief_maps_kernel.h, launched as in belief_maps.cu."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cpm_repro.ops._cupy.runtime import TYPES, Entry, launch, source

MOST_LAUNCHED = 2**31 - 1  # blocks of a grid
# kThreads, kMostSlices, kMostSteps and kEnoughBlocks of the kernel; a test compares.
THREADS, MOST_SLICES, MOST_STEPS, ENOUGH_BLOCKS = 256, 8, 8, 528

# BeliefParams of csrc/math/belief.h, field by field; a test compares the layout.
PARAMS = np.dtype(
    [
        ("joints", np.uint64),
        ("visible", np.uint64),
        ("center", np.uint64),
        ("label", np.uint64),
        ("center_map", np.uint64),
        ("samples", np.int64),
        ("people", np.int32),
        ("parts", np.int32),
        ("h", np.int32),
        ("w", np.int32),
        ("center_h", np.int32),
        ("center_w", np.int32),
        ("stride", np.float32),
        ("sigma", np.float64),
        ("center_sigma", np.float64),
        ("center_cutoff", np.int32),
        ("type", np.int32),
    ],
    align=True,
)

# BeliefGrid of the kernel; a test compares.
GRID = np.dtype(
    [
        ("label_blocks", np.uint32),
        ("center_blocks", np.uint32),
        ("slices", np.int32),
        ("steps", np.int32),
    ]
)

HEADER = "belief_maps_kernel.h"
ENTRIES = tuple(
    Entry(
        f"belief_maps_{number}_{vector}",
        "cpm::BeliefParams p, cpm::BeliefGrid grid",
        f"cpm::belief_maps_body<{kind}, {vector}>(p, grid)",
        "cpm::kThreads",
    )
    for number, kind in TYPES.values()
    for vector in (1, 4)
)


def belief_maps_out(
    joints: torch.Tensor,
    visible: torch.Tensor,
    center: torch.Tensor | None,
    stride: float,
    sigma: float,
    center_sigma: float,
    label: torch.Tensor,
    center_map: torch.Tensor | None,
) -> None:
    """As ``torch.ops.cpm_repro.belief_maps_out``."""
    params = target_params(joints, visible, stride, sigma, label)
    params["label"] = label.data_ptr()
    if center is not None and center_map is not None:
        _add_center(params, center, center_sigma, True, center_map)
    _launch(params, label)


def center_map_out(center: torch.Tensor, sigma: float, cutoff: bool, center_map: torch.Tensor) -> None:
    """As ``torch.ops.cpm_repro.center_map_out``."""
    params = np.zeros(1, PARAMS)
    params["samples"] = center.shape[0]
    _add_center(params, center, sigma, cutoff, center_map)
    _launch(params, center_map)


def target_params(
    joints: torch.Tensor, visible: torch.Tensor, stride: float, sigma: float, like: torch.Tensor
) -> Any:
    """What describes the targets, on the grid and in the type of ``like`` (N, channels, h, w)."""
    params = np.zeros(1, PARAMS)
    params["joints"], params["visible"] = joints.data_ptr(), visible.data_ptr()
    params["samples"], params["people"], params["parts"] = joints.shape[:3]
    params["h"], params["w"] = like.shape[2:]
    params["stride"], params["sigma"] = stride, sigma
    params["type"] = TYPES[like.dtype][0]
    return params


def _add_center(params: Any, center: torch.Tensor, sigma: float, cutoff: bool, out: torch.Tensor) -> None:
    params["center"], params["center_map"] = center.data_ptr(), out.data_ptr()
    params["center_h"], params["center_w"] = out.shape[2:]
    params["center_sigma"], params["center_cutoff"] = sigma, cutoff


def belief_grid(params: Any, vector: int) -> Any:
    """As the kernel's function: how a sample is shared out, in vectors of ``vector`` cells."""
    one, grid = params[0], np.zeros(1, GRID)
    samples, parts = int(one["samples"]), int(one["parts"])
    label, center = (count // vector for count in _cells(params))
    slices, steps = 1, MOST_STEPS
    while samples * _blocks(label, slices) < ENOUGH_BLOCKS and slices < min(MOST_SLICES, parts):
        slices *= 2
    while samples * _blocks(center, 1, steps) < ENOUGH_BLOCKS and steps > 1:
        steps //= 2
    grid["label_blocks"], grid["center_blocks"] = _blocks(label, slices), _blocks(center, 1, steps)
    grid["slices"], grid["steps"] = slices, steps
    return grid


def _blocks(vectors: int, slices: int, steps: int = 1) -> int:
    return -(-vectors // (THREADS * steps // slices))


def _cells(params: Any) -> tuple[int, int]:
    """Cells of a label and of a centre map; 0 where there is none."""
    one = params[0]
    label, center = int(one["h"]) * int(one["w"]), int(one["center_h"]) * int(one["center_w"])
    return label if one["label"] else 0, center if one["center_map"] else 0


def _launch(params: Any, like: torch.Tensor) -> None:
    """Choose the vector width as the extension does, and launch."""
    one = params[0]
    width = 4 * like.element_size()
    aligned = all(int(one[name]) % width == 0 for name in ("label", "center_map"))
    vector = 4 if aligned and all(count % 4 == 0 for count in _cells(params)) else 1
    number = TYPES[like.dtype][0]
    params["type"] = number
    grid = belief_grid(params, vector)
    blocks, slices = int(grid["label_blocks"][0]) + int(grid["center_blocks"][0]), int(grid["slices"][0])
    if int(one["samples"]) * blocks == 0:
        return
    entry, threads = f"belief_maps_{number}_{vector}", (THREADS // slices, slices)
    blocks *= int(one["samples"])
    if blocks > MOST_LAUNCHED:
        raise ValueError(
            f"joints or center must hold few enough samples for one launch ({MOST_LAUNCHED} blocks), "
            f"got {int(one['samples'])} samples or {blocks} blocks"
        )
    launch(source(HEADER, ENTRIES), entry, (blocks,), threads, (params, grid), like.device)
