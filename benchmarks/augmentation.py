"""From photographs to network input: the release's own steps, and one composed warp.

Needs the folder CPM_DATA with `mpii_sample/` and `lspet/`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from cpm_repro.bench import Case, Goal, Question, main
from cpm_repro.config import AugmentConfig
from cpm_repro.data import Crop, LspetDataset, PoseSample, TrainLoader, collate
from cpm_repro.data.loader import stream
from cpm_repro.data.release import ReleaseAugment
from cpm_repro.image_file import read_image
from cpm_repro.inference.network_input import network_input
from cpm_repro.skeleton import CPM14

_CROP, _SIZE = 368, (1280, 720)
_BATCH, _BATCHES, _WORKERS = 16, 16, 2


def _people(folder: Path) -> list[PoseSample]:
    """MPII's sample photographs of 1280 x 720 with their centre and scale; joints do not matter here."""
    people = []
    for item in json.loads((folder / "annotations.json").read_text(encoding="utf-8")):
        image = read_image(folder / "images" / item["image"])
        if image.shape[1::-1] == _SIZE:
            center = np.array(item["center"], np.float32) - 1
            joints = np.zeros((1, 14, 2), np.float32)
            visible = np.ones((1, 14), np.uint8)
            people.append(PoseSample(image, joints, visible, center, 1.0, item["image"], item["scale"]))
    return people


def _cut(people: list[PoseSample], method: str, number: int) -> list[Crop]:
    """Every person once, drawn by ``number`` alone."""
    augment = ReleaseAugment.of(AugmentConfig(crop=_CROP, method=method))
    return [augment.cut(person, CPM14, stream(0, number, k)) for k, person in enumerate(people)]


def _input(people: list[PoseSample], method: str, out: torch.Tensor, number: int) -> None:
    batch = collate(_cut(people, method, number))
    network_input(batch.image, batch.center, out=out)


def _apart(people: list[PoseSample]) -> float:
    """Largest mean difference of a crop's pixels, in levels after a blur of 2 px (see ReleaseAugment)."""
    worst = 0.0
    for number in range(5):
        for pair in zip(_cut(people, "fast", number), _cut(people, "exact", number), strict=True):
            a, b = (cv2.GaussianBlur(crop.image, (0, 0), 2).astype(int) for crop in pair)
            worst = max(worst, float(np.abs(a - b).mean()))
    return worst


def _loaded(
    dataset: LspetDataset, config: AugmentConfig, number: int, workers: int = _WORKERS
) -> torch.Tensor:
    """The network inputs of `_BATCHES` batches; the last one."""
    with TrainLoader(dataset, config, _BATCH, seed=number, workers=workers) as loader:
        for _ in range(_BATCHES):
            batch = next(loader)
            data = network_input(batch.image, batch.center)
    return data


def _workers_matter(dataset: LspetDataset, config: AugmentConfig) -> float:
    """Largest difference between the inputs that two workers and none make."""
    with_workers, without = (_loaded(dataset, config, 0, workers) for workers in (_WORKERS, 0))
    return float((with_workers - without).abs().max())


def ask(quick: bool, device: str) -> Question:  # noqa: ARG001
    """Warps on the CPU, whatever the device: people of their own scale, then larger and smaller ones."""
    data = Path(os.environ.get("CPM_DATA", Path(__file__).parents[2] / "shared" / "data"))

    def cases() -> Iterator[Case]:
        cv2.setNumThreads(1)
        torch.set_num_threads(1)  # work is divided by samples, between the loader's workers
        people = _people(data / "mpii_sample")
        own = ", ".join(f"{person.scale:.1f}" for person in people)
        sizes = {f"their own scales, {own}": people}
        for scale in () if quick else (1.171, 2.0, 3.0, 6.0):
            sizes[f"scale {scale:g}"] = [replace(person, scale=scale) for person in people]
        out = torch.zeros(len(people), 4, _CROP, _CROP)
        for name, group in sizes.items():
            yield Case(
                f"{len(group)} x 1280x720, {name}",
                {method: partial(_input, group, method, out) for method in ("fast", "exact")},
                check=partial(_apart, group),
                tolerance=0.7,
                goals=(Goal("exact", 5.0),),
            )
        dataset = LspetDataset(data / "lspet", "train", cache_bytes=0)
        configs = {m: AugmentConfig(crop=_CROP, method=m) for m in ("fast", "box", "exact")}
        yield Case(
            f"lspet, {_WORKERS} workers, {_BATCH * _BATCHES} people",
            {method: partial(_loaded, dataset, config) for method, config in configs.items()},
            check=partial(_workers_matter, dataset, configs["fast"]),
            tolerance=0.0,
        )

    return Question(
        "Augmentation",
        "How long does it take from decoded photographs to the network's input at crop 368 (MPII's samples), "
        "and from the files through the loader (lspet)?",
        cases(),
        notes=(
            "One thread a way, two workers in the lspet row. Crop, (pixel - 128) / 256 and the centre map "
            "are in every time; in the lspet row reading and decoding too, nothing cached.",
            f"The goal of 150 samples/s is {_BATCH * _BATCHES / 150 * 1000:.0f} ms in the lspet row.",
            "The difference of the first rows is the mean of a crop's pixels in levels after a blur of 2 px, "
            "the largest of five draws; of the lspet row that between two workers and none.",
        ),
    )


if __name__ == "__main__":
    main(ask, __file__)
