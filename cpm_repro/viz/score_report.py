"""``cpm eval`` of a file of predictions: the table with its intervals, curves, and the worst people."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.evaluation import (
    Interval,
    PairedDifference,
    ScoredFile,
    auc,
    bootstrap_interval,
    failures,
    paired_bootstrap,
    score_file,
)
from cpm_repro.evaluation.scored_file import photograph
from cpm_repro.files import atomic_write, inside, write_json
from cpm_repro.image_file import read_image
from cpm_repro.viz.plots import pck_figure
from cpm_repro.viz.pose import draw_pose
from cpm_repro.viz.save import save_png
from cpm_repro.viz.sheets import contact_sheet

_FEW = 10
"""Below so many people resampling them sees too little of what others would show."""


def score_report(
    predictions: str | Path,
    truth: str | Path | None = None,
    protocol: str | None = None,
    *,
    norm: str | None = None,
    threshold: float | None = None,
    swap_to_observer: bool | None = None,
    compare: str | Path | None = None,
    out: str | Path | None = None,
    images: str | Path | None = None,
    resamples: int = 1000,
) -> ScoredFile:
    """Score a file of predictions, print the table, and write everything about it to ``out`` if given.

    ``out`` gets ``scores.md``, ``scores.json``, ``scores.csv``, ``curves.png`` and ``.svg``, ``failures.csv``
    and, with ``images``, ``failures.png``: the twelve worst people, predictions in colour, truth in white.

    Args:
        predictions, truth, protocol, norm, threshold, swap_to_observer: see
            :func:`cpm_repro.evaluation.score_file`.
        compare: another file of predictions of the same people: the difference of the totals, paired.
        out: folder for the results.
        images: folder of the photographs that the truth names.
        resamples: of the bootstrap over people.

    Raises:
        UserError: files that cannot be scored.
        EnvironmentFailure: ``out`` cannot be written.
    """
    options: dict[str, Any] = {"norm": norm, "threshold": threshold, "swap_to_observer": swap_to_observer}
    scored = score_file(predictions, truth, protocol, **options)
    if not scored.table.joints:
        raise UserError(f"{predictions}: no joint of any person counts: {scored.table.protocol}")
    intervals = bootstrap_interval(scored.table, resamples=resamples)
    other, paired = None, None
    if compare is not None:
        other = score_file(compare, truth or predictions, scored.table.protocol_name, **options)
        paired = paired_bootstrap(scored.table, other.table, resamples=resamples)
    text = _markdown(scored, intervals, paired, str(compare))
    print(text)
    if out is not None:
        tables = {Path(predictions).stem: scored.table}
        if other is not None and compare is not None:
            tables[_other_name(Path(compare), tables)] = other.table
        _write(Path(out), scored, intervals, paired, text)
        pck_figure(tables, Path(out) / "curves.png")
        if images is not None:
            failure_sheet(scored, Path(images), Path(out) / "failures.png")
            if not failures(scored.table):
                print("nobody has a miss: no failures.png")
        print(f"written to {out}")
    return scored


def failure_sheet(scored: ScoredFile, images: Path, path: Path, count: int = 12) -> None:
    """Draw the ``count`` worst people whose photographs are in ``images`` on one page; nothing of no misses.

    Raises:
        UserError: there are misses, but no photograph of theirs.
    """
    import cv2

    if not failures(scored.table):
        return
    pictures, labels = [], []
    for failure in failures(scored.table):
        try:
            image = read_image(_photograph(scored.people[failure.person], images))
        except UserError:  # the truth may name more people than there are photographs here
            continue
        points = scored.predicted[failure.person]
        drawn = draw_pose(image, points, np.ones(len(points)), scored.skeleton, enlarge_to=480)
        factor = drawn.shape[1] / image.shape[1]
        for joint in scored.truth[failure.person][scored.table.counted[failure.person]]:
            x, y = (round((value + 0.5) * factor - 0.5) for value in joint)
            cv2.circle(drawn, (x, y), 4, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(drawn, (x, y), 3, (255, 255, 255), -1, cv2.LINE_AA)
        pictures.append(drawn)
        labels.append(f"{failure.person}: {failure.missed} of {failure.counted} missed")
        if len(pictures) == count:
            break
    if not pictures:
        raise UserError(f"{images}: none of the photographs named in {scored.people[0]}, ... can be read")
    save_png(path, contact_sheet(pictures, labels))


def _photograph(person: str, images: Path) -> Path:
    """Where the photograph of a person lies in ``images``: by its path there, or the end of it."""
    for whole in (person, photograph(person)):
        parts = Path(whole).parts
        for start in range(len(parts)):
            with suppress(UserError):  # a path that leads out of the folder
                if (place := inside(images, str(Path(*parts[start:])))).is_file():
                    return place
    return images / Path(person).name


def _markdown(
    scored: ScoredFile, intervals: Mapping[str, Interval], paired: PairedDifference | None, other: str
) -> str:
    """The table, a line of intervals below its numbers, and the notes."""
    head, rule, numbers, *notes = scored.table.to_markdown().splitlines()
    spans = [intervals.get(label) for label in (*scored.table.per_row, "Total", "Mean")]
    cells = " | ".join(f"{span.low:.1f}-{span.high:.1f}" if span else "-" for span in spans)
    lines = [head, rule, numbers, f"| {cells} |", *notes]
    first = next(iter(intervals.values()))
    few = ", too narrow for so few" if scored.table.people < _FEW else ""
    lines.append(
        f"Second line: {100 * first.level:g} % intervals by {first.resamples} resamples of people{few}. "
        f"AUC (thresholds 0 to 0.5): {auc(scored.table):.2f}."
    )
    if paired is not None:
        lines.append(
            f"Total above that of {other}: {paired.difference:+.2f} points; by paired resamples the "
            f"{100 * paired.level:g} % interval is {paired.low:+.2f} to {paired.high:+.2f}, "
            f"p = {paired.p_value:.2g}."
        )
    return "\n".join(lines)


def _write(
    out: Path,
    scored: ScoredFile,
    intervals: Mapping[str, Interval],
    paired: PairedDifference | None,
    text: str,
) -> None:
    with atomic_write(out / "scores.md", "w") as file:
        file.write(text + "\n")
    content = scored.table.to_dict()
    content["auc"] = auc(scored.table)
    content["intervals"] = {name: vars(interval) for name, interval in intervals.items()}
    if paired is not None:
        content["paired"] = vars(paired)
    write_json(out / "scores.json", content)
    table = scored.table
    rates = {**table.per_row, "Total": table.total, "Mean": table.mean_of_joints, **table.per_joint}
    rows = [
        (name, f"{value:.4f}", *(f"{end:.4f}" for end in (intervals[name].low, intervals[name].high)))
        if name in intervals
        else (name, f"{value:.4f}", "", "")
        for name, value in rates.items()
    ]
    _write_csv(out / "scores.csv", ("row", "percent", "low", "high"), rows)
    worst = [
        (
            scored.people[f.person],
            f.person,
            f.missed,
            f.counted,
            f"{f.mean_distance:.4f}",
            " ".join(f.worst_parts),
        )
        for f in failures(table)
    ]
    _write_csv(
        out / "failures.csv", ("name", "person", "missed", "counted", "mean_distance", "missed_parts"), worst
    )


def _write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with atomic_write(path, "w") as file:
        file.write(text.getvalue())


def _other_name(path: Path, taken: Mapping[str, Any]) -> str:
    return path.stem if path.stem not in taken else str(path)
