"""``cpm predict``: poses of many images, written as JSON and pictures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.places import Box
from cpm_repro.inference.result import People
from cpm_repro.inference.weights import BUNDLED, bundled_weights


def predict_images(
    images: Sequence[Path], weights: Path | None, out: Path, *, box: Box | None = None
) -> list[People]:
    """Estimate the pose in each image; write ``predictions/`` and ``visualizations/`` below ``out``.

    An image that cannot be used is reported, the others go on. Without ``weights`` the bundled network runs,
    and says so.

    Raises:
        UserError: unusable weights, or at least one image that could not be used (after the rest is done).
        EnvironmentFailure: ``out`` cannot be written.
    """
    if weights is None:
        print(
            f"no --weights: this is {BUNDLED.stem}, a small network that ships with the package to try it out"
        )
    estimator = PoseEstimator(weights or bundled_weights())
    done: list[People] = []
    failures: list[str] = []
    quiet = not sys.stderr.isatty() or len(images) < 20
    work = tqdm(list(zip(images, _names(images), strict=True)), disable=quiet, unit="images")
    for path, name in work:
        try:
            people = estimator(path, boxes=[box] if box is not None else None, keep_maps=True)
        except EnvironmentFailure:
            raise
        except UserError as error:
            failures.append(str(error))
            continue
        write_prediction(people, out, name)
        done.append(people)
    if done and done[0] and done[0][0].assumed:
        print(f"assumed: {done[0][0].assumed} (give --box X0 Y0 X1 Y1 to say better)")
    if done:
        print(f"{len(done)} of {len(images)} images: {out / 'predictions'} and {out / 'visualizations'}")
    if failures:
        raise UserError("; ".join(failures))
    return done


def write_prediction(people: People, out: Path, name: str) -> tuple[Path, Path]:
    """JSON, overlay and one stage x joint grid per person; returns the paths of overlay and first grid."""
    from cpm_repro.viz import belief_grid, save_png  # drawing is needed by few callers

    people.save_json(out / "predictions" / f"{name}.json")
    overlay = out / "visualizations" / f"{name}.png"
    save_png(overlay, people.draw())
    first = out / "visualizations" / f"{name}_beliefs.png"
    for number, person in enumerate(people):
        if person.crop is None:
            continue
        suffix = f"_{number}" if len(people) > 1 else ""
        target = out / "visualizations" / f"{name}_beliefs{suffix}.png"
        save_png(target, belief_grid(person.crop, list(person.belief_maps), person.names))
        first = first if number else target
    return overlay, first


def _names(images: Sequence[Path]) -> list[str]:
    """One file name per image; images of the same name in different folders get a number."""
    names: list[str] = []
    for path in images:
        name, count = path.stem, 1
        while name in names:
            count += 1
            name = f"{path.stem}-{count}"
        names.append(name)
    return names
