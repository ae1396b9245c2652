"""The peer of `training_photographs.py`: the same network trained by a plain PyTorch script.

One eager float32 loop over torch's DataLoader, targets drawn map by map in the loader's worker, losses with
torch's own operations. Network, optimiser, schedule, augmentation and seed are those of the ``tiny`` preset;
everything that the project's trainer adds (bfloat16, one share of the batch per core, belief maps made by its
kernel inside the step) is absent.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from cpm_repro.config import TrainConfig, preset
from cpm_repro.data import PoseDataset, open_dataset
from cpm_repro.data.augment import PersonAugment
from cpm_repro.errors import told_in_one_line
from cpm_repro.files import atomic_write
from cpm_repro.model import PoseMachine, build, initialise
from cpm_repro.skeleton import Visibility
from cpm_repro.training.muon import Muon
from cpm_repro.training.recipe import lr_factor, split_for_muon
from cpm_repro.training.sharding import Cores
from cpm_repro.training.validate import predict_dataset, score_stages


class PlainDataset(Dataset[tuple[np.ndarray, np.ndarray]]):
    """Network input (4, crop, crop) and target (2(K+1), crop/8, crop/8), drawn in numpy."""

    def __init__(self, dataset: PoseDataset, config: TrainConfig) -> None:
        self.dataset, self.config = dataset, config
        self.cutter = PersonAugment(config.augment)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        index, number = key
        rng = np.random.default_rng((self.config.seed, number))
        crop = self.cutter.cut(self.dataset[index], self.dataset.skeleton, rng)
        size = self.config.augment.crop
        image = (crop.image.transpose(2, 0, 1).astype(np.float32) - 128) / 256
        center = _bump(crop.center, np.arange(size), 21.0 * size / 368)
        cells = np.arange(size // 8) * 8 + 3.5
        parts = [np.zeros((2, len(cells), len(cells)), np.float32) for _ in range(len(self.dataset.skeleton))]
        for person, (joints, visible) in enumerate(zip(crop.joints, crop.visible, strict=True)):
            for part, (xy, code) in enumerate(zip(joints, visible, strict=True)):
                if code != Visibility.CROPPED:
                    bump = _bump(xy, cells, self.config.target.sigma)
                    groups = slice(0, 2) if person == 0 else slice(1, 2)
                    parts[part][groups] = np.minimum(parts[part][groups] + bump, 1)
        maps = np.stack(parts, axis=1)
        background = np.maximum(1 - maps.max(axis=1, keepdims=True), 0)
        label = np.concatenate([maps, background], axis=1).reshape(-1, len(cells), len(cells))
        return np.concatenate([image, center[None]]), label


def _bump(xy: np.ndarray, cells: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian at ``xy`` over the square grid of ``cells``, nothing beyond e = 4.6052."""
    d2 = (cells[None, :] - xy[0]) ** 2 + (cells[:, None] - xy[1]) ** 2
    e = d2 / (2 * sigma**2)
    return np.where(e > 4.6052, 0, np.exp(-e)).astype(np.float32)


class Epochs(Sampler[tuple[int, int]]):
    """Endless permutations: (sample, running number)."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __iter__(self) -> Iterator[tuple[int, int]]:
        number, epoch = 0, 0
        while True:
            for index in np.random.default_rng((self.seed, epoch)).permutation(self.count):
                yield int(index), number
                number += 1
            epoch += 1


def optimizers(net: PoseMachine, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """The preset's Muon for hidden matrices and AdamW for the rest."""
    solver = config.solver
    matrices, others = split_for_muon(net)
    return [
        Muon(matrices, lr=solver.muon_lr, momentum=solver.momentum, weight_decay=solver.weight_decay),
        torch.optim.AdamW(others, lr=solver.lr, betas=(0.9, 0.99), weight_decay=0.0),
    ]


def stage_losses(maps: list[Tensor], label: Tensor) -> Tensor:
    """Caffe's Euclidean loss per stage: stage 1 against everybody, later stages against the annotated one."""
    alone, everybody = label.chunk(2, dim=1)
    targets = [everybody] + [alone] * (len(maps) - 1)
    squares = [nn.functional.mse_loss(m, t, reduction="sum") for m, t in zip(maps, targets, strict=True)]
    return torch.stack(squares) / (2 * len(label))


def main() -> None:
    """Train for the given time; leave metrics and weights in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--people", type=int, help="validate on so many")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    config = preset("tiny")
    train_set = open_dataset(options.data, "train")
    val_set = open_dataset(options.data, "val", size=options.people)
    net = build(config.network.arch, parts=len(train_set.skeleton))
    initialise(net, config.solver.initialisation, torch.Generator().manual_seed(config.seed))
    members = optimizers(net, config)
    base = [group["lr"] for member in members for group in member.param_groups]
    loader = DataLoader(
        PlainDataset(train_set, config),
        config.solver.batch,
        sampler=Epochs(len(train_set), config.seed),
        num_workers=1,
        persistent_workers=True,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    metrics = (options.out / "metrics.jsonl").open("w", encoding="utf-8")
    started = time.monotonic()
    next_validation = config.validate_every
    for iteration, (data, label) in enumerate(loader):
        seconds = time.monotonic() - started
        progress = seconds / (60 * options.minutes)
        if progress >= min(next_validation, 1.0):
            validate(net, val_set, config, metrics, iteration, seconds)
            next_validation += config.validate_every
        if progress >= 1:
            break
        losses = stage_losses(net.train()(data), label)
        for member in members:
            member.zero_grad()
        losses.sum().backward()
        factor = lr_factor(config.solver, iteration, progress)
        groups = [group for member in members for group in member.param_groups]
        for group, rate in zip(groups, base, strict=True):
            group["lr"] = rate * factor
        for member in members:
            member.step()
        if iteration % 20 == 0:
            write(metrics, kind="train", iteration=iteration, seconds=seconds, loss=losses.tolist())
    from safetensors.torch import save

    with atomic_write(options.out / "last.safetensors") as file:
        file.write(save({name: weight.contiguous() for name, weight in net.state_dict().items()}))


def validate(
    net: PoseMachine,
    val_set: PoseDataset,
    config: TrainConfig,
    metrics: TextIO,
    iteration: int,
    seconds: float,
) -> None:
    """Score every stage on the held-out people; the time it takes counts, as it does in the trainer."""
    tables = score_stages(predict_dataset(net, val_set, config.augment, Cores(1)), val_set)
    totals = [table.total for table in tables]
    write(metrics, kind="validation", iteration=iteration, seconds=seconds, pck=totals)
    print(f"{seconds / 60:.1f} min, iteration {iteration}: PCK@0.2 per stage {totals}", flush=True)


def write(metrics: TextIO, **record: Any) -> None:
    """One line of metrics.jsonl."""
    metrics.write(json.dumps(record) + "\n")
    metrics.flush()


if __name__ == "__main__":
    with told_in_one_line("plain_training"):
        main()
