"""``cpm eval --procedure release``: a whole data set by the release's test procedure, scored and written."""

from __future__ import annotations

import hashlib
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cpm_repro.device import usable_device
from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.evaluation import ScoreTable, ScoreWarning, evaluate
from cpm_repro.files import atomic_write, write_json
from cpm_repro.inference.journal import Journal
from cpm_repro.inference.predictions import Predictions, write_predictions
from cpm_repro.inference.procedure import MULTIPLIERS, BenchmarkProcedure
from cpm_repro.inference.subjects import Split, Subjects, open_subjects
from cpm_repro.inference.weights import load_model, own_data, refuse_other_parts
from cpm_repro.memory import fitting
from cpm_repro.model import PoseMachine

JOURNAL = "progress.jsonl"
_REPORT_EVERY = 30.0
"""Seconds between lines of progress where there is no terminal."""


def evaluate_release(
    weights: Path,
    data: str | None,
    out: Path | None,
    *,
    arch: str | None = None,
    device: str | None = None,
    split: Split = "val",
    first: int | None = None,
) -> ScoreTable | None:
    """Estimate the people of a data set by the release's procedure; print, write and return their score.

    With ``out`` every finished person is kept there at once, and the same call goes on after them.

    Args:
        weights: see :func:`cpm_repro.inference.weights.load`. arch: their architecture.
        device: where to run; None takes a GPU when there is one.
        data: see `open_subjects`; None takes what the weights were trained on.
        out: folder for predictions (.npz, .mat, .json) and scores.
        split: whom; see `open_subjects`.
        first: only the first so many people.

    Returns:
        The table; None where the truth is secret.

    Raises:
        UserError: unusable weights, device or data, results of other work in ``out``, or people who could not
            be estimated (after all others are done and written; they count as misses); too little memory.
    """
    place = usable_device(device)  # refused before a network is built
    model = load_model(weights, arch)
    data = data or own_data(model, weights)
    if first is not None and first < 1:
        raise UserError(f"first: wanted at least one person, got {first}")
    procedure = BenchmarkProcedure(model.net, box=model.augment.crop, device=place)
    subjects = open_subjects(data, split, model.augment)
    refuse_other_parts(model, weights, data, subjects.skeleton)
    count = min(len(subjects), first or len(subjects))
    about = {
        "weights": weights_digest(model.net),
        "data": subjects.name,
        "split": split,
        "people": count,
        "set of people": people_digest(subjects, count),
        "box": procedure.box,
        "placed": subjects.placed,
    }
    journal = Journal(None if out is None else out / JOURNAL, about, partial(_fits, count, model.net.parts))
    kept = "" if out is None else f"; who is done is kept in {out}"
    with fitting("a person at the scales of the procedure", f"give another --device{kept}"):
        failures = _estimate_all(procedure, subjects, count, journal, out)
    return _finish(Predictions.collect(subjects, count, journal.entries), subjects, about, out, failures)


def weights_digest(net: PoseMachine) -> str:
    """Names a network by its parameters: 16 hexadecimal digits that differ where a bit of them does."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def people_digest(subjects: Subjects, count: int) -> str:
    """Names the first people of a data set by what is stated of them, as `weights_digest` names a network."""
    digest = hashlib.sha256()
    for person in map(subjects.truth, range(count)):
        digest.update(repr((person.id, person.number, person.stated)).encode())
        if person.joints is not None:
            digest.update(np.ascontiguousarray(person.joints, np.float64).tobytes())
    return digest.hexdigest()[:16]


def _fits(count: int, parts: int, index: int, entry: Mapping[str, Any]) -> bool:
    """Whether a journal's entry is that of one of ``count`` people with so many parts."""
    try:
        joints, scores = (np.asarray(entry.get(name), np.float64) for name in ("keypoints", "scores"))
    except (ValueError, TypeError):
        return False
    shaped = joints.shape == (parts, 2) and scores.shape == (parts,)
    return shaped and 0 <= index < count and bool(np.isfinite(joints).all() and np.isfinite(scores).all())


def _estimate_all(
    procedure: BenchmarkProcedure, subjects: Subjects, count: int, journal: Journal, out: Path | None
) -> list[str]:
    """Estimate those who are not in the journal yet; returns a line per person who could not be."""
    left = [index for index in range(count) if index not in journal.entries]
    if len(left) < count:
        print(f"{out}: {count - len(left)} of {count} people are done, going on after them")
    failures: list[str] = []
    try:
        for index in _with_progress(left):
            try:
                subject = subjects.subject(index)
                found = procedure(subject.image, subject.center, subject.scale0)
            except EnvironmentFailure:
                raise
            except UserError as error:
                failures.append(f"{subjects.truth(index).id}: {error}")
                continue
            journal.add(index, {"keypoints": found.keypoints.tolist(), "scores": found.scores.tolist()})
    except KeyboardInterrupt:
        if out is not None:
            done = len(journal.entries)
            print(f"\n{done} of {count} people are kept in {out}; the same command goes on", file=sys.stderr)
        raise
    return failures


def _with_progress(indices: list[int]) -> Iterator[int]:
    """The indices, with a bar on a terminal and a line now and then elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(indices, unit="people")
        return
    start = said = time.monotonic()
    for done, index in enumerate(indices):
        now = time.monotonic()
        if done and now - said >= _REPORT_EVERY:
            said, each = now, (now - start) / done
            minutes = each * (len(indices) - done) / 60
            print(f"{done} of {len(indices)} people, {each:.2f} s each, {minutes:.1f} min left", flush=True)
        yield index


def _finish(
    predictions: Predictions, subjects: Subjects, about: dict[str, Any], out: Path | None, failures: list[str]
) -> ScoreTable | None:
    """Print and write what came out; a UserError at the very end tells of people who are missing."""
    table = _score(predictions, subjects)
    text = _report(table, about)
    print(text)
    if out is not None:
        write_predictions(predictions, subjects, about, out)
        with atomic_write(out / "scores.md", "w") as file:
            file.write(text + "\n")
        if table is not None:
            write_json(out / "scores.json", table.to_dict())
        print(f"written to {out}")
    if failures:
        shown = "; ".join(failures[:3]) + ("; ..." if len(failures) > 3 else "")
        raise UserError(f"{len(failures)} of {len(predictions.keypoints)} people count as misses: {shown}")
    return table


def _score(predictions: Predictions, subjects: Subjects) -> ScoreTable | None:
    if predictions.truth is None:
        return None
    by_extent = subjects.protocol == "lspet-pck" and subjects.skeleton.torso is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)  # the report below the table says it
        return evaluate(
            predictions.keypoints,
            predictions.truth,
            subjects.protocol,
            labelled=predictions.labelled,
            head_size=predictions.head_size if subjects.protocol == "mpii-pckh" else None,
            norm=predictions.extent if by_extent else None,
            skeleton=subjects.skeleton,
            torso_box_wh=predictions.torso_box_wh,
        )


def _report(table: ScoreTable | None, about: dict[str, Any]) -> str:
    scales = ", ".join(f"{multiplier:g}" for multiplier in MULTIPLIERS)
    lines = [
        f"{about['people']} people of {about['data']} ({about['split']}), the release's test procedure: "
        f"scales {scales}, box {about['box']} px, {about['placed']}"
    ]
    if table is None:
        return "\n\n".join([*lines, "The truth is secret: nothing to score here."])
    remarks = [f"warning: {remark}" for remark in table.warnings]
    return "\n\n".join([*lines, table.to_markdown(), *remarks])
