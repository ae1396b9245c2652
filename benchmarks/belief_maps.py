"""Belief maps and centre maps: against filling the same memory and against other ways of making them.

These results are written once and nothing but the joints is read, so filling the same tensors is the limit.
Whatever writes into given tensors takes others at every call, ROTATED bytes in all: the same few would make
filling measure the cache.
The plain C++ loop looks at every cell of every part with exponentials in double precision, on one thread.
"""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from kernels import CUPY, ROTATED, Outputs, fill, in_turn, rotated

from cpm_repro import ops
from cpm_repro.bench import BenchmarkWrong, Case, Goal, Question, largest, main
from cpm_repro.ops import _reference

PARTS, PEOPLE, GRID, SIZE = 14, 2, 46, 368

AT_THE_CUTOFF = 1e-5
"""Share of cells that other arithmetic may find on the other side of e = 4.6052."""

STRAIGHTFORWARD = r"""
#include <math.h>
static void bump(float* map, int side, int stride, double sigma, double cx, double cy) {
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x) {
      double px = stride / 2.0 - 0.5 + x * stride, py = stride / 2.0 - 0.5 + y * stride;
      double e = ((px - cx) * (px - cx) + (py - cy) * (py - cy)) / 2 / sigma / sigma;
      if (e > 4.6052) continue;
      float v = map[y * side + x] + (float)exp(-e);
      map[y * side + x] = v > 1 ? 1 : v;
    }
}
extern "C" void straightforward(const float* joints, const float* centers, float* label, float* center_map,
                                int n, int people, int parts, int grid, int size) {
  for (int i = 0; i < n; ++i) {
    for (int g = 0; g < 2; ++g) {
      float* group = label + ((long)i * 2 + g) * (parts + 1) * grid * grid;
      for (long k = 0; k < (long)(parts + 1) * grid * grid; ++k) group[k] = 0;
      for (int p = 0; p < (g ? people : 1); ++p)
        for (int k = 0; k < parts; ++k) {
          const float* j = joints + (((long)i * people + p) * parts + k) * 2;
          bump(group + (long)k * grid * grid, grid, 8, 7.0, j[0], j[1]);
        }
      for (long c = 0; c < (long)grid * grid; ++c) {
        float most = 0;
        for (int k = 0; k < parts; ++k) most = fmaxf(most, group[(long)k * grid * grid + c]);
        group[(long)parts * grid * grid + c] = fmaxf(1 - most, 0);
      }
    }
    float* map = center_map + (long)i * size * size;
    for (long k = 0; k < (long)size * size; ++k) map[k] = 0;
    bump(map, size, 1, 21.0, centers[2 * i], centers[2 * i + 1]);
  }
}
"""


def straightforward() -> ctypes.CDLL | None:
    """The plain C++ loop, compiled with -O3, or None without a compiler."""
    compiler = shutil.which("c++")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "plain.cpp"), Path(folder, "plain.so")
        source.write_text(STRAIGHTFORWARD)
        subprocess.run([compiler, "-O3", "-fPIC", "-shared", str(source), "-o", str(library)], check=True)
        return ctypes.CDLL(str(library))


def whole_maps_numpy(joints: np.ndarray, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same maps with NumPy, whole maps at a time, float32."""

    def bumps(at: np.ndarray, side: int, stride: int, sigma: float) -> np.ndarray:
        axis = np.arange(side, dtype=np.float32) * stride + (stride / 2 - 0.5)
        dx, dy = axis - at[..., 0, None], axis - at[..., 1, None]
        e = (dx[..., None, :] ** 2 + dy[..., :, None] ** 2) / np.float32(2 * sigma**2)
        return np.where(e > 4.6052, np.float32(0), np.exp(-e))

    drawn = bumps(joints, GRID, 8, 7.0)
    alone, everybody = drawn[:, 0], np.minimum(drawn.sum(1), 1)
    groups = [x for g in (alone, everybody) for x in (g, 1 - g.max(1, keepdims=True))]
    return np.concatenate(groups, 1), bumps(center, SIZE, 1, 21.0)[:, None]


class Batch:
    """One batch's inputs and outputs, and every way of making the one from the other."""

    def __init__(self, n: int, device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.n = n
        self._compiled = torch.compile(self.eager, dynamic=False)
        self.joints = (torch.rand(n, PEOPLE, PARTS, 2, generator=generator) * SIZE).to(device)
        self.center = (torch.rand(n, 2, generator=generator) * SIZE).to(device)
        self.visible = torch.ones(n, PEOPLE, PARTS, dtype=torch.int32, device=device)
        shapes = ((n, 2 * (PARTS + 1), GRID, GRID), (n, 1, SIZE, SIZE))
        self.outs = rotated(*shapes, device=device)
        self.bytes = sum(tensor.nbytes for tensor in self.outs[0])

    def ours(self, number: int = 0, backend: str | None = None) -> object:
        """The operator, into given tensors."""
        label, center_map = in_turn(self.outs, number)
        out = (label, center_map)
        return ops.belief_maps(self.joints, self.visible, center=self.center, out=out, backend=backend)

    def eager(self, _: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Whole maps in torch."""
        label = _reference.belief_maps(self.joints, self.visible, (GRID, GRID), 8.0, 7.0)
        return label, _reference.center_map(self.center, (SIZE, SIZE), 21.0, True)

    def compiled(self, _: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """The same through torch.compile."""
        return self._compiled()

    def with_numpy(self, _: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Whole maps in NumPy."""
        return whole_maps_numpy(self.joints.numpy(), self.center.numpy())

    def with_loop(self, library: ctypes.CDLL, number: int = 0) -> None:
        """The plain C++ loop, into given tensors."""
        given = (self.joints, self.center, *in_turn(self.outs, number))
        addresses = [ctypes.c_void_p(tensor.data_ptr()) for tensor in given]
        library.straightforward(*addresses, self.n, PEOPLE, PARTS, GRID, SIZE)

    def difference(self, library: ctypes.CDLL | None) -> float:
        """Ours from eager torch; the other ways must be right too, but where cells lie at the cut-off."""
        expected = self.eager()
        others: dict[str, Outputs] = {"torch.compile": self.compiled()}
        if self.joints.device.type == "cpu":
            others["NumPy"] = tuple(map(torch.from_numpy, self.with_numpy()))
        if library is not None:
            self.with_loop(library)
            others["the plain C++ loop"] = self.outs[0]
        for name, other in others.items():
            for got, want in zip(other, expected, strict=True):
                right = (got - want).abs() <= 1e-5  # what is not a number is not
                if (share := 1 - float(right.double().mean())) > AT_THE_CUTOFF:
                    raise BenchmarkWrong(f"N={self.n}: {share:.1e} of the cells by {name} are wrong")
        differences = []
        for backend in (None, *CUPY):
            for tensor in self.outs[0]:
                tensor.fill_(math.nan)  # the loop's own result, which is right, lies there
            self.ours(backend=backend)
            pairs = zip(self.outs[0], expected, strict=True)
            differences += [float((got - want).abs().max()) for got, want in pairs]
        return largest(differences)


def belief_maps_case(n: int, device: str, library: ctypes.CDLL | None) -> Case:
    """Every way for a batch of ``n``, with the goals of that device."""
    batch = Batch(n, device)
    works: dict[str, Callable[[int], object]] = {
        "cpm_repro": batch.ours,
        "fill": partial(fill, batch.outs),
        "eager torch": batch.eager,
        "torch.compile": batch.compiled,
    }
    if CUPY:
        works["cpm_repro, CuPy back end"] = partial(batch.ours, backend="cupy")
    captured = tuple(works) if device == "cuda" else ()
    if device == "cuda":
        works["cpm_repro, called from Python"] = batch.ours
    on_cpu = (Goal("limit", 0.6), Goal("eager torch", 1.0), Goal("torch.compile", 1.0))
    goals = on_cpu if device == "cpu" else (Goal("eager torch", 10.0), Goal("torch.compile", 2.0))
    if device == "cuda" and n == 256:
        goals = (Goal("limit", 0.85), *goals)
    if device == "cpu":
        works["NumPy, whole maps"] = batch.with_numpy
        goals = (*goals, Goal("NumPy, whole maps", 1.0))
        works["cpm_repro, one set of outputs"] = lambda _: batch.ours()
        works["fill, one set of outputs"] = lambda _: fill(batch.outs)
    if library is not None:
        works["plain C++ loop"] = partial(batch.with_loop, library)
        goals = (*goals, Goal("plain C++ loop", 10.0))
    return Case(
        f"N={n}",
        works,
        check=partial(batch.difference, library),
        tolerance=1e-6,
        bytes=batch.bytes,
        axis=("N", n),
        limit="fill",
        goals=goals,
        graphs=captured,
    )


def ask(quick: bool, device: str) -> Question:
    """14 parts, 2 people, 46x46 cells, 368x368 pixels, float32."""

    def cases() -> Iterator[Case]:
        library = straightforward() if device == "cpu" else None
        for n in (2,) if quick else (1, 16, 256):
            torch.compiler.reset()
            yield belief_maps_case(n, device, library)

    about = (
        "How fast are belief maps (14 parts, 2 people, 46x46) with the centre map (368x368) made, in float32?"
    )
    notes = (
        f"Every call writes into other outputs, {ROTATED / 1e6:.0f} MB in turn, so that none is still "
        "in the caches; with one set of outputs, small batches stay there. Eager torch, torch.compile and "
        "NumPy make new ones.",
    )
    return Question("Belief maps", about, cases(), notes)


if __name__ == "__main__":
    main(ask, __file__)
