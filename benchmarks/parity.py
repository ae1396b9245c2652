"""How far the operators are from the golden arrays, back end by back end: one table.

Label and centre maps are the original's own; fused and resized maps were computed in float64 by the rules of
its scripts.

    python benchmarks/parity.py --golden FOLDER [--out parity.md]

FOLDER holds cpmdata.npz, multiscale_fusion.npz and matlab_imresize.npz. Exit code 1 if a limit is passed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cpm_repro import ops
from cpm_repro.bench.case import largest
from cpm_repro.environment import in_one_line
from cpm_repro.files import atomic_write
from cpm_repro.markdown import table

CUTOFF, BAND = 4.6052, 1e-5  # of the exponent: cells so near to it may fall either way
CONFIGS = ("none", "flip", "scale075", "scale125", "rotate", "all", "prob", "all368", "wide")


@dataclass
class Row:
    """One comparison: largest difference, what is allowed, and how many values were excused."""

    what: str
    compared: int
    largest: float
    allowed: float
    excused: str = ""

    @property
    def holds(self) -> bool:
        """Within what is allowed."""
        return self.largest <= self.allowed


def _near_cutoff(points: np.ndarray, size: tuple[int, int], stride: int, sigma: float) -> np.ndarray:
    """(h, w) cells whose exponent lies within BAND of the cut-off for any of the points (M, 2)."""
    y, x = np.mgrid[: size[0], : size[1]] * stride + (stride / 2 - 0.5)
    d2 = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
    return (abs(d2 / 2 / sigma**2 - CUTOFF) < BAND).any(0)


def _targets(golden: Path, device: str, backend: str) -> Iterator[Row]:
    """Label maps and centre maps of every sample of every configuration."""
    arrays = np.load(golden / "cpmdata.npz")
    worst, compared, excused = [0.0, 0.0], [0, 0], [0, 0]
    for config in CONFIGS:
        for sample, label in enumerate(arrays[f"{config}_label"]):
            people = [arrays[f"{config}_final_joints"][sample][None]]
            others = arrays[f"{config}_final_others_{sample}"]
            everybody = np.concatenate([*people, others.reshape(-1, *people[0].shape[1:])])[None]
            joints = torch.tensor(everybody[..., :2]).to(device)
            visible = torch.tensor(everybody[..., 2].astype(np.int64)).to(device)
            centre = arrays[f"{config}_center_map"][sample]
            objpos = torch.tensor(arrays[f"{config}_final_objpos"][sample][None]).float().to(device)
            made = ops.belief_maps(
                joints, visible, label.shape[1:], center=objpos, center_size=centre.shape, backend=backend
            )
            bands = (
                _near_cutoff(everybody[0, ..., :2].reshape(-1, 2), label.shape[1:], 8, 7.0),
                _near_cutoff(objpos.cpu().numpy(), centre.shape, 1, 21.0),
            )
            for k, (got, want) in enumerate(zip(made, (label[None], centre[None, None]), strict=True)):
                difference = abs(got.cpu().numpy() - want)[0].max(0)
                excused[k] += int((~(difference[bands[k]] <= 1e-6)).sum())
                worst[k] = largest([worst[k], float(difference[~bands[k]].max())])
                compared[k] += want.size
    for k, name in enumerate(("label maps", "centre maps")):
        yield Row(name, compared[k], worst[k], 1e-6, f"{excused[k]} cells at the cut-off")


def _fusion(golden: Path, device: str, backend: str) -> Iterator[Row]:
    """The three golden cases, and the peaks as the argmax of the golden maps."""
    arrays = np.load(golden / "multiscale_fusion.npz")
    for case in ("case0", "case1", "case2"):
        maps = torch.tensor(arrays[f"{case}_maps"]).to(device)
        geometry = [arrays[f"{case}_{key}"] for key in ("pads", "sizes", "image_hw")]
        fused = arrays[f"{case}_fused"]
        got = ops.fuse_multiscale(maps, *geometry, backend=backend).cpu().numpy()
        yield Row(f"fused maps, {case}", got.size, float(abs(got - fused).max()), 1e-5)
        xy, _ = ops.fuse_multiscale_peaks(maps, *geometry, backend=backend)
        flat = fused.transpose(0, 2, 1).reshape(len(fused), -1).argmax(1)
        want = np.stack([flat // fused.shape[1], flat % fused.shape[1]], 1)
        yield Row(f"peaks, {case}, pixels", len(want), float(abs(xy.cpu().numpy() - want).max()), 0.0)


def _imresize(golden: Path, device: str, backend: str) -> Iterator[Row]:
    """Every golden size; of 8-bit pictures at most one pixel may differ, at an exact tie of the rounding."""
    arrays = np.load(golden / "matlab_imresize.npz")
    worst, compared = {"double": 0.0, "uint8": 0.0}, {"double": 0, "uint8": 0}
    for key in arrays.files:
        name, _, how = key.partition("_")
        if how == "in":
            continue
        size = None if how.startswith("scale") else [int(side) for side in how[4:].split("x")]
        scale = float(how[5:]) if size is None else None
        image = torch.tensor(arrays[f"{name}_in"]).to(device)
        got = ops.imresize(image, scale, size, backend=backend).cpu().numpy()
        compared[name] += got.size
        if name == "double":
            worst[name] = largest([worst[name], float(abs(got - arrays[key]).max())])
        else:
            worst[name] += float((got != arrays[key]).sum())
    yield Row("imresize, float64", compared["double"], worst["double"], 1e-6)
    yield Row("imresize, uint8, differing pixels", compared["uint8"], worst["uint8"], 1.0, "a tie may differ")


def main() -> int:
    """Print the table; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = os.environ.get("CPM_GOLDEN", str(Path(__file__).parents[2] / "shared" / "golden"))
    parser.add_argument("--golden", type=Path, default=Path(default), help="default: $CPM_GOLDEN")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    missing = [
        name
        for name in ("cpmdata.npz", "multiscale_fusion.npz", "matlab_imresize.npz")
        if not (options.golden / name).exists()
    ]
    if missing:
        print(f"parity: {options.golden}: {', '.join(missing)} not there; name the folder with --golden")
        return 2
    rows: list[tuple[str, Row]] = []
    for backend in ops.available_backends():
        on = "cuda" if backend in ("cuda", "cupy") else "cpu"
        for part in (_targets, _fusion, _imresize):
            rows += [(backend, row) for row in part(options.golden, on, backend)]
    head = ("back end", "what", "values", "largest difference", "allowed", "excused")
    cells = [
        [
            backend,
            row.what,
            f"{row.compared:,}",
            f"{row.largest:.2g}{'' if row.holds else ' **too much**'}",
            f"{row.allowed:.2g}",
            row.excused,
        ]
        for backend, row in rows
    ]
    text = f"## Parity with the golden arrays\n\n{in_one_line()}.\n\n{table(head, cells, 'llrrrl')}\n"
    if options.out is not None:
        with atomic_write(options.out, "w") as file:
            file.write(text)
    print(text)
    return 0 if all(row.holds for _, row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
