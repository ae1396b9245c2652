"""``cpm viz``: pictures of what other commands left behind: runs, key points, belief maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.files import parse_json, read_json
from cpm_repro.image_file import read_image
from cpm_repro.memory import fitting
from cpm_repro.npz_file import load_npz
from cpm_repro.paths import what_is_at
from cpm_repro.skeleton import Skeleton
from cpm_repro.viz.beliefs import belief_grid
from cpm_repro.viz.page import results_page
from cpm_repro.viz.plots import curves
from cpm_repro.viz.pose import draw_poses
from cpm_repro.viz.save import save_png

DRAWN_SIDE = 640
"""Smaller photographs are enlarged until their longer side has so many pixels."""


def visualize(paths: Sequence[str | Path], out: str | Path, images: str | Path | None = None) -> list[Path]:
    """Draw each of ``paths`` and return the pictures' paths.

    A run folder gives its curves; a folder that ``cpm predict`` wrote a page (``report.html``) of its
    pictures and key points; a JSON of key points the photograph with them; a ``.npz`` of belief maps the
    stage x joint pictures.

    Args:
        paths: what to draw.
        out: folder for the pictures (the page stays in its own folder, beside what it shows).
        images: folder of the photographs, where they are no longer where the JSON says.

    Raises:
        UserError: something that is none of these, after the others are drawn.
        EnvironmentFailure: ``out`` cannot be written.
    """
    done: list[Path] = []
    problems: list[str] = []
    for path in map(Path, paths):
        try:
            with fitting(f"the picture of {path}", "wanted a smaller photograph or crop"):
                done += _draw(path, Path(out), Path(images) if images is not None else None)
        except UserError as error:
            if error.exit_code != UserError.exit_code:
                raise
            problems.append(str(error))
    for picture in done:
        print(picture)
    if problems:
        raise UserError("; ".join(problems))
    return done


def _draw(path: Path, out: Path, images: Path | None) -> list[Path]:
    """The pictures of one thing."""
    there = what_is_at(path)
    if there == "a folder" and (path / "metrics.jsonl").is_file():
        return [_curves(path / "metrics.jsonl", out / f"{path.resolve().name}_curves.png")]
    if there == "a folder" and (path / "predictions").is_dir():
        return [results_page(path)]
    if there == "a file" and path.suffix == ".npz":
        return _grids(path, out)
    if there == "a file" and path.suffix == ".json":
        return [_overlay(path, out, images)]
    raise UserError(
        f"{path}: wanted a run folder, a folder that cpm predict wrote, a JSON of key points "
        f"or a .npz of belief maps, got {there or 'nothing there'}"
    )


def _curves(metrics: Path, out: Path) -> Path:
    records = _records(metrics)
    try:
        return curves(records, out)[0]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{metrics}: expected records that cpm train wrote: {error!r}") from error


def _records(path: Path) -> list[Mapping[str, Any]]:
    """The lines of ``metrics.jsonl``; a last line that was cut off is left out."""
    records: list[Mapping[str, Any]] = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            records.append(parse_json(line))
        except ValueError as error:
            if number < len(lines):
                raise UserError(f"{path}, line {number}: expected JSON") from error
    return [record for record in records if isinstance(record, dict)]


def _grids(path: Path, out: Path) -> list[Path]:
    """One stage x joint picture per person of a file that ``cpm predict --maps`` wrote."""
    arrays = load_npz(path)
    try:
        names = [str(name) for name in arrays["names"]]
        stages = [arrays[f"stage{number}"] for number in range(1, 1 + _stages(arrays))]
        done = []
        for person, crop in enumerate(arrays["crops"]):
            picture = belief_grid(crop, [stage[person] for stage in stages], names)
            done.append(out / f"{path.stem}{f'_{person}' if person else ''}.png")
            save_png(done[-1], picture)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{path}: expected belief maps as cpm predict --maps writes them: {error}") from error
    return done


def _stages(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(name.startswith("stage") for name in arrays)


def _overlay(path: Path, out: Path, images: Path | None) -> Path:
    """The photograph with the poses of a JSON that ``cpm predict`` wrote."""
    values = read_json(path)
    if isinstance(values, dict) and "frames" in values:
        raise UserError(f"{path}: key points of a video: its overlay is made by cpm predict")
    try:
        people = values["people"]
        names = [point["name"] for point in people[0]["keypoints"]] if people else ["none"]
        limbs = tuple((int(a), int(b)) for a, b in values["limbs"]) if people else ()
        skeleton = Skeleton(str(values["skeleton"]), tuple(names), flip_pairs=(), limbs=limbs)
        numbers = [[(p["x"], p["y"], p["score"]) for p in person["keypoints"]] for person in people]
        points = np.array(numbers, np.float64).reshape(len(people), len(names), 3)
        source = Path(values["image"])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, UserError) as error:
        raise UserError(f"{path}: expected key points as cpm predict writes them: {error}") from error
    photograph = _photograph(source if images is None else images / source.name, path)
    target = out / f"{path.stem}.png"
    drawn = draw_poses(photograph, points[..., :2], points[..., 2], skeleton, enlarge_to=DRAWN_SIDE)
    save_png(target, drawn)
    return target


def _photograph(source: Path, path: Path) -> np.ndarray:
    """The photograph as ``cpm predict`` saw it: turned as its EXIF data says."""
    try:
        return read_image(source, exif=True)
    except UserError as error:
        raise UserError(f"{path}: its photograph: {error}; name its folder with --images") from error
