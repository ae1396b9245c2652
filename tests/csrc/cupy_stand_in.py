"""A stand-in for the module cupy: runs the texts that CuPy would compile on the CPU."""

from __future__ import annotations

import contextlib
import ctypes
import math
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import stand_in
from compiled import compile_library

CALLS = """
#include <type_traits>
#include <utility>

template <typename... A, size_t... I>
void run(void (*kernel)(A...), const unsigned int* sizes, void** values, std::index_sequence<I...>) {
  stand_in::launch(dim3(sizes[0], sizes[1], sizes[2]), dim3(sizes[3], sizes[4], sizes[5]), 0,
                   [&] { kernel(*static_cast<std::remove_const_t<A>*>(values[I])...); });
}

// 0, or which argument has not the bytes of its parameter, counted from 1; -1 when their number is another,
// -2 when a GPU would have refused the launch.
template <typename... A>
int call(void (*kernel)(A...), const unsigned int* sizes, void** values, const long long* bytes, int count) {
  const long long wanted[] = {(long long)sizeof(A)...};
  if (count != (int)sizeof...(A)) return -1;
  for (int i = 0; i < count; ++i) {
    if (bytes[i] != wanted[i]) return i + 1;
  }
  run(kernel, sizes, values, std::index_sequence_for<A...>());
  return cudaGetLastError() == cudaSuccess ? 0 : -2;
}
"""


class CuPy:
    """What the back end uses of cupy; ``streams`` are the addresses that kernels were launched on.

    ``grids`` and ``entries`` are the blocks and the names of what was launched.
    """

    def __init__(self, folder: Path, new: bool = True) -> None:
        self.folder = folder
        self.streams: list[int] = []
        self.grids: list[tuple[int, ...]] = []
        self.entries: list[str] = []
        self._current: list[int] = []
        self._modules: dict[str, Any] = {}
        stream = SimpleNamespace(from_external=self._from_external) if new else SimpleNamespace()
        self.cuda = SimpleNamespace(
            Device=lambda _: contextlib.nullcontext(), Stream=stream, ExternalStream=self._stream
        )

    def _from_external(self, other: Any) -> Any:
        version, address = other.__cuda_stream__()
        assert version == 0
        return self._stream(address)

    @contextlib.contextmanager
    def _stream(self, address: int) -> Iterator[None]:
        self._current.append(address)
        yield
        self._current.pop()

    def RawModule(self, *, code: str, options: tuple[str, ...], backend: str) -> Any:
        """The module; each text is compiled once."""
        assert backend == "nvrtc"
        if code not in self._modules:
            self._modules[code] = _Module(self, code, [o for o in options if o.startswith("-I")])
        return self._modules[code]


class _Module:
    def __init__(self, cupy: CuPy, code: str, includes: list[str]) -> None:
        self.cupy = cupy
        entry = r'^extern "C" __global__ void __launch_bounds__\((.*)\) (\w+)\([^()]*\) \{'
        entries = re.findall(entry, code, re.MULTILINE)
        callers = [
            f'extern "C" int call_{name}(const unsigned int* sizes, void** values, '
            f"const long long* bytes, int count) {{ return call({name}, sizes, values, bytes, count); }}\n"
            f'extern "C" int threads_{name}() {{ const int bounds[] = {{{bounds}}}; return bounds[0]; }}\n'
            for bounds, name in entries
        ]
        folder = cupy.folder / str(len(cupy._modules))
        folder.mkdir()
        text = f'#include "cuda_runtime.h"\n{code}{CALLS}{"".join(callers)}'
        flags = ["-ffp-contract=off", f"-I{stand_in.ROOT}/tests/csrc/cuda_stand_in", *includes]
        self.compiled = compile_library(folder, text, *flags)

    def get_function(self, name: str) -> Any:
        function = getattr(self.compiled, f"call_{name}")

        def kernel(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
            sizes = (ctypes.c_uint * 6)(*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3])
            values = [_by_value(argument) for argument in arguments]
            addresses = (ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values])
            bytes_ = (ctypes.c_longlong * len(values))(*[value.nbytes for value in values])
            assert math.prod(sizes[3:]) == getattr(self.compiled, f"threads_{name}")()
            assert function(sizes, addresses, bytes_, len(values)) == 0, f"arguments of {name}"
            self.cupy.streams.append(self.cupy._current[-1])
            self.cupy.grids.append(tuple(grid))
            self.cupy.entries.append(name)

        return kernel


def _by_value(argument: Any) -> np.ndarray:
    """As CuPy takes it: arrays of one element and numbers; of these NumPy's own, whose width is plain."""
    if isinstance(argument, np.ndarray) and argument.size == 1:
        return argument
    if isinstance(argument, np.number):
        return np.array(argument)
    raise TypeError(f"unsupported kernel argument {type(argument).__name__}")
