"""Belief maps through CuPy: the kernel of the extension, compiled at run time, for people without nvcc.

CuPy is imported when a kernel is first needed. The sources are the extension's, csrc/math and csrc/cuda.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch

THREADS = 256  # kThreads of the kernel; a test compares

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

_TYPES = {torch.float32: (0, "float"), torch.float16: (1, "Half"), torch.bfloat16: (2, "BFloat16")}


def source() -> str:
    """CUDA text for NVRTC: one plain entry point per output type and vector width."""
    entries = [
        f'extern "C" __global__ void belief_maps_{kind}_{vector}'
        f"(cpm::BeliefParams p, long long label_vectors, long long vectors) {{\n"
        f"  cpm::belief_maps_body<{'cpm::' if kind != 'float' else ''}{kind}, {vector}>"
        f"(p, label_vectors, vectors);\n}}\n"
        for _, kind in _TYPES.values()
        for vector in (1, 4)
    ]
    return '#include "cuda/belief_maps_kernel.h"\n' + "".join(entries)


def options() -> tuple[str, ...]:
    """NVRTC's options: where the headers are, and no contraction, as in the extension."""
    return (f"-I{headers()}", "-std=c++17", "-fmad=false")


def headers() -> Path:
    """The csrc folder: inside an installed package, beside it in a checkout.

    Raises:
        FileNotFoundError: the package was installed without its sources.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "csrc", package.parent / "csrc"):
        if (folder / "cuda" / "belief_maps_kernel.h").exists():
            return folder
    raise FileNotFoundError(f"the CuPy back end needs the sources of cpm_repro in {package / 'csrc'}")


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
    params = np.zeros((), PARAMS)
    params["joints"], params["visible"], params["label"] = (
        joints.data_ptr(),
        visible.data_ptr(),
        label.data_ptr(),
    )
    params["samples"], params["people"], params["parts"] = joints.shape[:3]
    params["h"], params["w"] = label.shape[2:]
    params["stride"], params["sigma"] = stride, sigma
    if center is not None and center_map is not None:
        _add_center(params, center, center_sigma, True, center_map)
    _launch(params, label)


def center_map_out(center: torch.Tensor, sigma: float, cutoff: bool, center_map: torch.Tensor) -> None:
    """As ``torch.ops.cpm_repro.center_map_out``."""
    params = np.zeros((), PARAMS)
    params["samples"] = center.shape[0]
    _add_center(params, center, sigma, cutoff, center_map)
    _launch(params, center_map)


def _add_center(params: Any, center: torch.Tensor, sigma: float, cutoff: bool, out: torch.Tensor) -> None:
    params["center"], params["center_map"] = center.data_ptr(), out.data_ptr()
    params["center_h"], params["center_w"] = out.shape[2:]
    params["center_sigma"], params["center_cutoff"] = sigma, cutoff


def _launch(params: Any, like: torch.Tensor) -> None:
    """Choose the vector width as the extension does, and launch on torch's current stream."""
    cells = (int(params["h"]) * int(params["w"]), int(params["center_h"]) * int(params["center_w"]))
    width = 4 * like.element_size()
    aligned = all(int(params[name]) % width == 0 for name in ("label", "center_map"))
    vector = 4 if aligned and all(count % 4 == 0 for count in cells) else 1
    params["type"], kind = _TYPES[like.dtype]
    label_vectors, vectors = cells[0] // vector, sum(cells) // vector
    total = int(params["samples"]) * vectors
    if total == 0:
        return
    blocks = min((total + THREADS - 1) // THREADS, 1 << 30)
    import cupy

    with cupy.cuda.Device(like.device.index):
        stream = cupy.cuda.ExternalStream(torch.cuda.current_stream(like.device).cuda_stream)
        kernel = _module().get_function(f"belief_maps_{kind}_{vector}")
        with stream:
            kernel((blocks,), (THREADS,), (params[()], np.int64(label_vectors), np.int64(vectors)))


@functools.cache
def _module() -> Any:
    import cupy

    return cupy.RawModule(code=source(), options=options(), backend="nvrtc")
