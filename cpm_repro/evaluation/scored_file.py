"""From files to a score: predictions and truth brought together person by person and part by part."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.evaluation.evaluate import evaluate
from cpm_repro.evaluation.part_names import place_of, reordered, skeleton_of
from cpm_repro.evaluation.prediction_files import PredictionFile, read_predictions
from cpm_repro.evaluation.protocols import Protocol, find_protocol
from cpm_repro.evaluation.suspicion import ScoreWarning, another_order
from cpm_repro.evaluation.table import ScoreTable
from cpm_repro.evaluation.truth_files import TruthFile, read_truth
from cpm_repro.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class ScoredFile:
    """A score together with what was scored, in the skeleton's order; people are those of the truth file."""

    table: ScoreTable
    skeleton: Skeleton
    predicted: np.ndarray  # (N, K, 2)
    truth: np.ndarray  # (N, K, 2)
    people: tuple[str, ...]  # names of the people, or their numbers


def score_file(
    predictions: str | Path,
    truth: str | Path | None = None,
    protocol: str | None = None,
    *,
    norm: str | None = None,
    threshold: float | None = None,
    swap_to_observer: bool | None = None,
) -> ScoredFile:
    """Score a file of predictions.

    Args:
        predictions: see :func:`read_predictions`.
        truth: see :func:`read_truth`; None where ``predictions`` (an ``.npz``) holds the truth too.
        protocol: one of :data:`PROTOCOLS`. None: told from what the truth has (a torso box: flic-pck, head
            sizes: mpii-pckh, the networks' 14 parts: lspet-pck, else lsp-pck).
        norm, threshold, swap_to_observer: as in :func:`evaluate`.

    Raises:
        UserError: files that cannot be read, or that are not of the same people or parts.
    """
    if truth is None and Path(predictions).suffix.lower() != ".npz":
        raise UserError(
            f"{predictions}: predictions alone: wanted their truth too (--truth), or an .npz of pred and gt"
        )
    true = read_truth(predictions if truth is None else truth, protocol or "")
    rule = find_protocol(protocol or _protocol_of(true))
    given = read_predictions(predictions, rule.name)
    skeleton = _skeleton(true, rule)
    by_extent = norm is None and rule.norm == "true-torso" and skeleton.torso is None

    def score(given: PredictionFile, true: TruthFile, suspicious: bool = True) -> tuple[ScoreTable, Any, Any]:
        predicted, positions, labelled = _aligned(given, true, skeleton, rule)
        table = evaluate(
            predicted,
            positions,
            rule.name,
            labelled=labelled,
            head_size=true.head_size if rule.norm == "head-size" else None,
            norm=true.extent if by_extent else norm,
            threshold=threshold,
            skeleton=skeleton,
            torso_box_wh=true.torso_box_wh,
            swap_to_observer=swap_to_observer,
            suspicious=suspicious,
        )
        return table, predicted, positions

    table, predicted, positions = score(given, true)
    if (other := _in_the_named_order(given, true, skeleton)) is not None:
        nameless, parts, files = other
        told = another_order(nameless, skeleton, parts, table.total, score(*files, suspicious=False)[0].total)
        if told:
            warnings.warn(told, ScoreWarning, stacklevel=2)
            table = replace(table, warnings=(*table.warnings, told))
    people = true.people or tuple(str(number) for number in range(len(positions)))
    return ScoredFile(table, skeleton, predicted, positions, people)


def photograph(person: str) -> str:
    """The photograph of a person called by it, as ``walk.jpg#2`` is the second one of ``walk.jpg``."""
    return re.sub(r"#[0-9]+$", "", person)


def _same(name: str, other: str) -> bool:
    """Whether two files may mean one person by these names.

    One may number the people of a photograph and the other not; one may have its folder, as samples have the
    data set's name, and the other not.
    """
    numbered = photograph(name) != name and photograph(other) != other
    names = [(name if numbered else photograph(name)), (other if numbered else photograph(other))]
    short, long = sorted(names, key=len)
    return short == long or long.endswith(f"/{short}")


def _protocol_of(true: TruthFile) -> str:
    if true.torso_box_wh is not None:
        return "flic-pck"
    if true.head_size is not None:
        return "mpii-pckh"
    return "lspet-pck" if true.parts and true.parts[0] == "head" else "lsp-pck"


def _skeleton(true: TruthFile, rule: Protocol) -> Skeleton:
    """The protocol's own skeleton when the truth has its parts, else the one the truth names."""
    parts = true.parts
    if parts is None or all(place_of(part, parts) is not None for part in rule.skeleton.parts):
        return rule.skeleton
    return skeleton_of(parts, true.torso)


def _aligned(
    given: PredictionFile, true: TruthFile, skeleton: Skeleton, rule: Protocol
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, truth and labels in the skeleton's order."""
    if len(given.positions) != len(true.positions):
        raise UserError(
            f"{given.source} predicts {len(given.positions)} people, {true.source} has {len(true.positions)}"
        )
    for index, (name, true_name) in enumerate(zip(given.people or (), true.people or (), strict=False)):
        if not _same(name, true_name):
            raise UserError(
                f"{given.source} is in another order than {true.source}: person {index} is "
                f"{name}, there {true_name}"
            )
    true_parts = true.parts or _assumed(true.source, true.positions.shape[1], skeleton)
    given_parts = given.parts or _assumed(given.source, given.positions.shape[1], skeleton)
    wanted = skeleton.parts
    predicted = reordered(given.positions, given_parts, wanted, given.source, optional=rule.not_counted)
    positions = reordered(true.positions, true_parts, wanted, true.source)
    labelled = reordered(true.labelled, true_parts, wanted, true.source) == 1
    return predicted, positions, labelled


def _in_the_named_order(
    given: PredictionFile, true: TruthFile, skeleton: Skeleton
) -> tuple[str, tuple[str, ...], tuple[PredictionFile, TruthFile]] | None:
    """The file without names, the order that the other one names, and both files read in that order.

    None unless just one of them names its joints, in another order than the skeleton's.
    """
    parts = given.parts or true.parts or ()
    places = [place_of(part, parts) for part in skeleton.parts]
    own = list(range(len(parts)))
    if bool(given.parts) == bool(true.parts) or places == own or set(places) != set(own):
        return None
    nameless = true.source if given.parts else given.source
    return nameless, parts, (replace(given, parts=parts), replace(true, parts=parts))


def _assumed(source: str, count: int, skeleton: Skeleton) -> tuple[str, ...]:
    """The skeleton's own order, for a file that names no joints."""
    if count != len(skeleton):
        raise UserError(
            f"{source}: {count} joints without names; wanted the {len(skeleton)} of {skeleton.name}"
        )
    return skeleton.parts
