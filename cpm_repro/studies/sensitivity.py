"""``sensitivity``: what a wrong centre, a wrong scale or a turned photograph costs. Nobody publishes it.

The paper's test procedure is given every person's centre and scale. In use a detector gives them, with
errors. The trained network is scored again on the same held-out people while one of the three is wrong by a
known amount. Nothing is trained for it beyond the base network, and no claim of the paper is at stake.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cpm_repro.config import TrainConfig
from cpm_repro.data import PoseDataset, PoseSample, Readable, open_dataset
from cpm_repro.data.augment import apply_matrix, warp_image
from cpm_repro.device import usable_device
from cpm_repro.inference.weights import load_model
from cpm_repro.markdown import table
from cpm_repro.skeleton import Skeleton
from cpm_repro.studies.draw import PCK_LABEL, line_with_spread
from cpm_repro.studies.plan import LEAST_PCK, Finding, Material, RunRecord, Study, Variant
from cpm_repro.studies.statistics import mean_and_spread
from cpm_repro.training.sharding import cores_for
from cpm_repro.training.validate import predict_dataset, score_stages
from cpm_repro.viz.figure import GUIDE, figure_of, save_figure, series_colours

SHIFTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
SCALES = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6)
DEGREES = (-45.0, -30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0, 45.0)
MOST_PEOPLE = 500
"""Held-out people that are looked at, where the configuration does not say: they are held in memory."""

COST = 5.0
"""Points of PCK@0.2: how far each error may go before it costs so much is what the paragraph says."""

RULE = (
    f"No claim of the paper. PCK@0.2 of the last stage against the error, mean over seeds; tolerated is the "
    f"largest error measured up to which the mean loses less than {COST:g} points at every step."
)
LABEL = "end-to-end"


@dataclass(frozen=True)
class Misplaced:
    """A data set with people believed to be elsewhere or of another size, or with turned photographs.

    ``shift`` is in shares of the person's extent, ``scale`` multiplies the size that is believed;
    ``degrees`` turn the photograph counter-clockwise about the person's centre, joints and all.
    """

    dataset: PoseDataset
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    degrees: float = 0.0

    @property
    def name(self) -> str:
        """The data set's own."""
        return self.dataset.name

    @property
    def skeleton(self) -> Skeleton:
        """The data set's own."""
        return self.dataset.skeleton

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> PoseSample:
        sample = turned(self.dataset[index], self.degrees)
        away = np.array(self.shift, np.float32) * sample.extent
        return replace(
            sample,
            center=sample.center + away,
            extent=sample.extent * self.scale,
            scale=sample.scale * self.scale,  # by which the release's crops are cut
        )


def turned(sample: PoseSample, degrees: float) -> PoseSample:
    """The sample with its photograph turned about the person's centre, on a canvas that holds all of it."""
    if not degrees:
        return sample
    height, width = sample.image.shape[:2]
    corners = np.array([(x, y) for x in (0, width - 1) for y in (0, height - 1)])
    side = 2 * math.ceil(np.linalg.norm(corners - sample.center, axis=1).max()) + 3
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    linear = np.array([[cos, sin], [-sin, cos]])
    middle = np.full(2, (side - 1) / 2)
    matrix = np.column_stack([linear, middle - linear @ sample.center.astype(np.float64)])
    return replace(
        sample,
        image=warp_image(sample.image, matrix, side),
        joints=apply_matrix(matrix, sample.joints),
        center=apply_matrix(matrix, sample.center),
    )


class Kept:
    """A data set whose samples are read or drawn once and then kept: they are scored many times over."""

    def __init__(self, dataset: PoseDataset) -> None:
        self.name, self.skeleton = dataset.name, dataset.skeleton
        read = map(Readable(dataset).read, range(len(dataset)))
        self._samples = [sample for sample in read if sample is not None]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> PoseSample:
        return self._samples[index]


def variants(base: TrainConfig) -> list[Variant]:
    """The base network alone."""
    return [Variant(LABEL, replace(base, scheme="end-to-end"))]


@dataclass(frozen=True)
class Series:
    """PCK@0.2 per seed at every error of one kind."""

    name: str
    unit: str
    errors: tuple[float, ...]
    right: float  # the error that is none
    pck: list[list[float]]  # (seeds, errors)

    def tolerated(self) -> tuple[float, float]:
        """The range of errors about ``right`` within which the mean loses less than COST points."""
        mean = np.mean(self.pck, axis=0)
        middle = self.errors.index(self.right)
        fine = mean > mean[middle] - COST
        low = high = middle
        while low > 0 and fine[low - 1]:
            low -= 1
        while high + 1 < len(fine) and fine[high + 1]:
            high += 1
        return self.errors[low], self.errors[high]


def analyse(material: Material) -> Finding:
    """Tables and the figure; the remark says what is tolerated."""
    found = [_measure(run, usable_device(material.device)) for run in material.runs[LABEL]]
    series = [
        Series(
            "centre", "shares of the person's extent, mean of four ways", SHIFTS, 0.0, [f[0] for f in found]
        ),
        Series("scale", "times the right one", SCALES, 1.0, [f[1] for f in found]),
        Series("rotation", "degrees", DEGREES, 0.0, [f[2] for f in found]),
    ]
    return Finding(
        verdicts=(),
        tables={f"{s.name.capitalize()} error, {s.unit}": _table(s) for s in series},
        figures={"What errors of the input cost": _draw(material, series)},
        remark=_remark(series),
        numbers={s.name: {"errors": list(s.errors), "pck": s.pck} for s in series},
    )


def _measure(run: RunRecord, device: torch.device) -> tuple[list[float], list[float], list[float]]:
    """PCK@0.2 of the final weights under every shift, scale and rotation."""
    model = load_model(run.folder / "checkpoints" / "last.pt")
    config = run.config
    people = Kept(
        open_dataset(config.data, "val", seed=config.seed, size=config.validate_people or MOST_PEOPLE)
    )
    net = model.net.to(device)
    with cores_for(net, device, batch=16) as cores:

        def score(dataset: PoseDataset) -> float:
            predictions = predict_dataset(net, dataset, config.augment, cores)
            return score_stages(predictions, people)[-1].total

        def shifted(size: float) -> float:
            ways = ((size, 0.0), (-size, 0.0), (0.0, size), (0.0, -size)) if size else ((0.0, 0.0),)
            return float(np.mean([score(Misplaced(people, shift=way)) for way in ways]))

        return (
            [shifted(size) for size in SHIFTS],
            [score(Misplaced(people, scale=scale)) for scale in SCALES],
            [score(Misplaced(people, degrees=degrees)) for degrees in DEGREES],
        )


def _remark(series: Sequence[Series]) -> str:
    reached = float(np.mean([seed[SHIFTS.index(0.0)] for seed in series[0].pck]))
    if reached < LEAST_PCK:
        return (
            f"Undecided: the network reached {reached:.1f} % PCK@0.2, below the {LEAST_PCK:g} % from which "
            f"losses mean something; a budget several times as long would decide."
        )
    ranges = [s.tolerated() for s in series]
    return (
        f"Less than {COST:g} points of PCK@0.2 are lost while the centre is wrong by up to {ranges[0][1]:g} "
        f"of the person's extent, the scale lies between {ranges[1][0]:g} and {ranges[1][1]:g} of the right "
        f"one, or the photograph is turned by {ranges[2][0]:g} to {ranges[2][1]:g} degrees "
        f"(of the errors measured)."
    )


def _table(series: Series) -> str:
    middle = series.errors.index(series.right)
    rows = []
    for index, error in enumerate(series.errors):
        scores = [seed[index] for seed in series.pck]
        lost = [seed[index] - seed[middle] for seed in series.pck]
        rows.append([f"{error:g}", mean_and_spread(scores), "" if index == middle else mean_and_spread(lost)])
    return table(["error", "PCK@0.2", "difference"], rows)


def _draw(material: Material, series: Sequence[Series]) -> Path:
    with figure_of((12, 4), len(series)) as (figure, panels):
        highest = max(max(max(seed) for seed in s.pck) for s in series)
        for axes, one in zip(panels, series, strict=True):
            line_with_spread(axes, one.errors, one.pck, series_colours(1)[0], "last stage")
            axes.axvline(one.right, **GUIDE)
            axes.set(xlabel=f"{one.name} error, {one.unit}", ylim=(0, 1.08 * highest))
            axes.xaxis.label.set_fontsize(9)
        panels[0].set_ylabel(PCK_LABEL)
        return save_figure(figure, material.out / "sensitivity")[0]


STUDY = Study(
    "sensitivity",
    "How much accuracy do a wrong centre, a wrong scale and a turned photograph cost?",
    RULE,
    variants,
    analyse,
)
