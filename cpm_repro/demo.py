"""``cpm demo``: the whole way once, on rendered people: train, score, draw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cpm_repro.config import TrainConfig, check, preset
from cpm_repro.files import write_json

DEMO_MINUTES = 3.0
_PEOPLE = (3, 7, 12)
"""Held-out people that are drawn: the same three every time, not the best three."""


def demo_config(minutes: float | None, seed: int) -> TrainConfig:
    """The tiny preset on the built-in synthetic data set."""
    budget = DEMO_MINUTES if minutes is None else minutes
    return replace(preset("tiny"), name="demo", data="synthetic", minutes=budget, seed=seed)


def demo(out: Path, *, minutes: float | None = None, seed: int = 0) -> None:
    """Train ``tiny`` on synthetic people, score it on 500 held-out ones, draw three of them.

    Leaves ``people.png``, one belief-map grid per person, ``curves.png``, ``scores.json`` and the run folder
    below ``out``; prints where they are. A run that was interrupted goes on where it was.

    Raises:
        UserError: a number that no run can work with, or what :func:`run_from_config` refuses.
    """
    config = demo_config(minutes, seed)
    check(config)
    # Importing torch takes seconds, for which a refusal need not wait.
    from cpm_repro.data import open_dataset
    from cpm_repro.inference.estimator import PoseEstimator
    from cpm_repro.inference.outputs import write_prediction
    from cpm_repro.training import run_from_config
    from cpm_repro.viz import contact_sheet, save_png

    print("Training a 3-stage pose machine on rendered people; the held-out people are never trained on.")
    result = run_from_config(config, out / "run", resume=True)
    if result.stopped:
        return
    dataset = open_dataset(config.data, "val", seed=seed)
    estimator = PoseEstimator(out / "run")
    overlays, grids = [], []
    for index in _PEOPLE:
        sample = dataset[index]
        half = sample.extent / 2
        box = (*(sample.center - half), *(sample.center + half))
        people = estimator(sample.image, boxes=[box], keep_maps=True)
        people.source = sample.id
        _, grid = write_prediction(people, out, f"person{index}")
        overlays.append(people.draw())
        grids.append(grid)
    save_png(out / "people.png", contact_sheet(overlays, [f"held-out person {index}" for index in _PEOPLE]))
    write_json(out / "scores.json", [table.to_dict() for table in result.tables])
    print("\nLook at:")
    for path in (out / "people.png", *grids, out / "run" / "curves.png", out / "scores.json"):
        print(f"  {path}")
