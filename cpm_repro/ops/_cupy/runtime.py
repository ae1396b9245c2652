"""Texts for NVRTC out of the headers of csrc/cuda, and launching what became of them on torch's stream."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

MOST_BLOCKS = 1 << 30  # of one launch of the losses and of imresize, whose kernels go on in strides

# Output types as csrc/math/belief.h numbers them, and their C++ names.
TYPES = {torch.float32: (0, "float"), torch.float16: (1, "cpm::Half"), torch.bfloat16: (2, "cpm::BFloat16")}


@dataclass(frozen=True)
class Entry:
    """One plain entry point: its name, its parameters, what it calls, and its launch bounds."""

    name: str
    parameters: str
    call: str
    bounds: str


def headers() -> Path:
    """The csrc folder: inside an installed package, beside it in a checkout.

    Raises:
        FileNotFoundError: the package was installed without its sources.
    """
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "csrc", package.parent / "csrc"):
        if (folder / "cuda" / "belief_maps_kernel.h").exists():
            return folder
    raise FileNotFoundError(f"the CuPy back end needs the sources of cpm_repro in {package / 'csrc'}")


def options() -> tuple[str, ...]:
    """NVRTC's options: where the headers are, and no contraction, as in the extension.

    CuPy adds ``-ftz=true`` behind them: numbers below 2**-126 are zeros here, and so are fused maps whose
    channel has no cell of 2**-100 or more, for what takes their scale back is one; not so in the extension.
    """
    return (f"-I{headers()}", "-std=c++17", "-fmad=false")


def _header_files() -> list[Path]:
    return [path for room in ("math", "cuda") for path in sorted((headers() / room).glob("*.h"))]


@functools.cache
def source(header: str, entries: tuple[Entry, ...]) -> str:
    """CUDA text with one ``extern "C"`` function per entry: CuPy then needs no C++ names.

    It begins with a hash of the headers: CuPy keeps what it compiled on disk, by the text alone.
    """
    content = b"".join(path.read_bytes() for path in _header_files())
    functions = [
        f'extern "C" __global__ void __launch_bounds__({entry.bounds}) {entry.name}({entry.parameters}) '
        f"{{ {entry.call}; }}\n"
        for entry in entries
    ]
    digest = hashlib.sha256(content).hexdigest()
    return f'// headers {digest}\n#include "cuda/{header}"\n{"".join(functions)}'


def pointer(tensor: torch.Tensor) -> np.uint64:
    """A tensor's address as a kernel's argument."""
    return np.uint64(tensor.data_ptr())


def blocks_for(work: int, threads: int = 1) -> int:
    """Blocks that do ``work`` pieces, ``threads`` each; at most MOST_BLOCKS."""
    return min((work + threads - 1) // threads, MOST_BLOCKS)


def launch(
    text: str,
    entry: str,
    grid: Sequence[int],
    threads: int | Sequence[int],
    arguments: tuple[Any, ...],
    device: torch.device,
) -> None:
    """Launch ``entry`` of ``text`` on torch's current stream of ``device``.

    Structs are passed by value as NumPy arrays of one element: CuPy takes those, and no ``numpy.void``.
    """
    import cupy

    block = (threads,) if isinstance(threads, int) else tuple(threads)
    with cupy.cuda.Device(device.index), _stream(device):
        _module(text).get_function(entry)(tuple(grid), block, arguments)


@functools.cache
def _module(text: str) -> Any:
    import cupy

    return cupy.RawModule(code=text, options=options(), backend="nvrtc")


class _TorchStream:
    """The protocol by which CuPy 14 takes other libraries' streams."""

    def __init__(self, address: int) -> None:
        self.address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        """The protocol's version, and the stream."""
        return 0, self.address


def _stream(device: torch.device) -> Any:
    import cupy

    address = torch.cuda.current_stream(device).cuda_stream
    if hasattr(cupy.cuda.Stream, "from_external"):
        return cupy.cuda.Stream.from_external(_TorchStream(address))
    return cupy.cuda.ExternalStream(address)  # CuPy 13 and before
