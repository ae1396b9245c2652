"""How fast are belief maps and centre maps made, against filling the same memory and against other ways?

Rows: fill (the limit: these results are written and nothing is read), ours, a straightforward C++ loop (every
cell, every part, double exp, one thread), NumPy over whole maps, eager torch, torch.compile.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from timing import Work, arguments, header, measure, report

from cpm_repro import ops
from cpm_repro.ops import _reference

PARTS, PEOPLE, GRID, SIZE = 14, 2, 46, 368

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


def works(n: int, device: str, compiled: object) -> tuple[dict[str, Work], int]:
    """What is timed for a batch of n, after comparing everything with the reference; and bytes written."""
    generator = torch.Generator().manual_seed(0)
    joints = (torch.rand(n, PEOPLE, PARTS, 2, generator=generator) * SIZE).to(device)
    center = (torch.rand(n, 2, generator=generator) * SIZE).to(device)
    visible = torch.ones(n, PEOPLE, PARTS, dtype=torch.int32, device=device)
    out = (
        torch.empty(n, 2 * (PARTS + 1), GRID, GRID, device=device),
        torch.empty(n, 1, SIZE, SIZE, device=device),
    )

    def ours() -> object:
        return ops.belief_maps(joints, visible, center=center, out=out)

    def eager() -> tuple[torch.Tensor, torch.Tensor]:
        label = _reference.belief_maps(joints, visible, (GRID, GRID), 8.0, 7.0)
        return label, _reference.center_map(center, (SIZE, SIZE), 21.0, True)

    expected = eager()
    ours()
    for got, want in zip(out, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-6)
    table: dict[str, Work] = {
        "fill": lambda: (out[0].fill_(0.5), out[1].fill_(0.5)),
        "cpm_repro": ours,
        "eager torch": eager,
        "torch.compile": torch.compile(eager, dynamic=False),
    }
    if device == "cpu":
        arrays = joints.numpy(), center.numpy()
        np.testing.assert_allclose(whole_maps_numpy(*arrays)[1], expected[1], atol=1e-5)
        table["NumPy, whole maps"] = lambda: whole_maps_numpy(*arrays)
        if isinstance(compiled, ctypes.CDLL):
            pointers = [ctypes.c_void_p(t.data_ptr()) for t in (joints, center, *out)]
            table["plain C++ loop"] = lambda: compiled.straightforward(
                *pointers, n, PEOPLE, PARTS, GRID, SIZE
            )
            table["plain C++ loop"]()
            torch.testing.assert_close(out[0], expected[0], rtol=0, atol=1e-5)
    return table, sum(t.numel() * t.element_size() for t in out)


def main() -> None:
    """Print the report."""
    options = arguments(__doc__ or "")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lines = header("belief_maps with centre map: 14 parts, 2 people, 46x46 and 368x368, float32")
    lines += [
        "| N | way | ms | GB/s | of fill | against ours |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    plain = straightforward() if device == "cpu" else None
    for n in [2] if options.quick else [1, 16, 256]:
        table, written = works(n, device, plain)
        times = measure(table, rounds=3 if options.quick else 30, budget_s=25)
        for name, seconds in times.items():
            rate, share = written / seconds / 1e9, times["fill"] / seconds
            ratio = seconds / times["cpm_repro"]
            lines.append(f"| {n} | {name} | {seconds * 1e3:.3f} | {rate:.1f} | {share:.0%} | {ratio:.1f}x |")
    lines += [
        "",
        "The predicted time is fill's: every value is written once and nothing but the joints is read.",
    ]
    report(lines, options.out)


if __name__ == "__main__":
    main()
