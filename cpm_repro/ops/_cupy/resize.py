"""imresize: csrc/cuda/imresize_kernel.h, launched as in imresize.cu, one axis after the other."""

from __future__ import annotations

import numpy as np
import torch

from cpm_repro.ops._cupy.runtime import Entry, blocks_for, launch, source

THREADS = 256  # kThreads of the kernel; a test compares
_TYPES = {torch.uint8: (0, "unsigned char"), torch.float32: (1, "float"), torch.float64: (2, "double")}

# ResizeParams of csrc/math/resize.h, field by field; a test compares the layout.
AXIS = np.dtype([("in", np.int32), ("out", np.int32), ("scale", np.float64)], align=True)
PARAMS = np.dtype(
    [
        ("from", np.uint64),
        ("to", np.uint64),
        ("outer", np.int64),
        ("inner", np.int64),
        ("axis", AXIS),
        ("type", np.int32),
    ],
    align=True,
)

HEADER = "imresize_kernel.h"
ENTRIES = tuple(
    Entry(
        f"resize_axis_{number}",
        "cpm::ResizeParams p",
        f"cpm::resize_kernels::resize_axis_body<{kind}>(p)",
        "cpm::resize_kernels::kThreads, cpm::resize_kernels::kBlocksAtLeast",
    )
    for number, kind in _TYPES.values()
)


def imresize(image: torch.Tensor, height: int, width: int, scale_y: float, scale_x: float) -> torch.Tensor:
    """As ``torch.ops.cpm_repro.imresize``."""
    wanted, scales = (height, width), (scale_y, scale_x)
    first = 0 if scale_y <= scale_x else 1
    for axis in (first, 1 - first):
        image = _resize_axis(image, axis, wanted[axis], scales[axis])
    return image


def _resize_axis(image: torch.Tensor, axis: int, wanted: int, scale: float) -> torch.Tensor:
    shape = list(image.shape)
    shape[axis] = wanted
    result = image.new_empty(shape)
    number = _TYPES[image.dtype][0]
    params = np.zeros(1, PARAMS)
    params["from"], params["to"], params["type"] = image.data_ptr(), result.data_ptr(), number
    params["outer"] = 1 if axis == 0 else shape[0]
    params["inner"] = np.prod(shape[axis + 1 :], dtype=np.int64)
    params["axis"]["in"], params["axis"]["out"], params["axis"]["scale"] = image.shape[axis], wanted, scale
    grid = (blocks_for(result.numel(), THREADS),)
    launch(source(HEADER, ENTRIES), f"resize_axis_{number}", grid, THREADS, (params,), image.device)
    return result
