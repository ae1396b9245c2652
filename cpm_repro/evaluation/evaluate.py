"""``evaluate``: predictions and truth in, a score table out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cpm_repro.errors import UserError
from cpm_repro.evaluation.protocols import NORMS, Protocol, find_protocol, table_rows
from cpm_repro.evaluation.suspicion import ScoreWarning, suspicions
from cpm_repro.evaluation.table import ScoreTable
from cpm_repro.skeleton import FLIC9, Skeleton, wanted_skeleton

_NO_TORSO = float(np.finfo(np.float64).tiny)
"""Stands for the length of a predicted torso that is none: nothing is near by it, and nobody is left out."""

_FLIC_FILE_PARTS = (0, 1, 2, 3, 4, 5, 6, 7, 10)
"""The nine parts in use among FLIC's eleven annotated ones; the eyes are dropped, the nose is "head"."""


def evaluate(
    pred: ArrayLike,
    gt: ArrayLike,
    protocol: str = "lsp-pck",
    *,
    labelled: ArrayLike | None = None,
    head_size: ArrayLike | None = None,
    norm: str | ArrayLike | None = None,
    threshold: float | None = None,
    skeleton: Skeleton | None = None,
    torso_box_wh: ArrayLike | None = None,
    swap_to_observer: bool | None = None,
    suspicious: bool = True,
) -> ScoreTable:
    """Score N people of K parts by a named protocol (spec `evaluation.md`).

    A joint is right if |pred - gt| <= threshold * normaliser. A prediction that is not a number is a miss and
    counts. A person whose normaliser is zero or unknown is left out of every score, and counted as such; only
    where the normaliser is the prediction's own torso, a prediction without one misses every joint.

    Args:
        pred: (N, K, 2) predicted positions, pixels; NaN where there is none.
        gt: (N, K, 2) true positions in the same pixels; NaN where unlabelled. FLIC's 11 annotated parts are
            taken too and reduced to the nine in use.
        protocol: "lsp-pck", "lspet-pck", "flic-pck" or "mpii-pckh".
        labelled: (N, K) of True and False (or 1 and 0), joints that have a label; all, if not given. Of
            ``Visibility`` codes that is ``visible != 2``, of COCO's v ``v > 0``.
        head_size: (N,) pixels, for mpii-pckh: 0.6 x diagonal of the head box.
        norm: a normaliser by name ("true-torso", for flic-pck also "predicted-torso", "box-diagonal",
            "box-height"), or (N,) pixels of the caller's own.
        threshold: share of the normaliser; the protocol's own (0.2, PCKh 0.5) if not given.
        skeleton: joint order of both arrays; the protocol's own if not given (lspet-pck: the networks' 14).
        torso_box_wh: (N, 2) width and height in pixels of FLIC's torso box, for the two box normalisers.
        swap_to_observer: turn the truth of people seen from behind to the observer's sides first; the
            protocol's own habit (only flic-pck does) if not given. Turning twice changes nothing.
        suspicious: look for shifted or mirrored predictions and warn (:class:`ScoreWarning`).

    Raises:
        UserError: an unknown protocol or normaliser, none at all, arrays of different people or parts, labels
            that are neither true nor false, or a threshold that is not a number >= 0.
        ValueError: an array of a wrong shape. TypeError: a ``skeleton`` that is none.
    """
    rule = find_protocol(protocol)
    skeleton = rule.skeleton if skeleton is None else wanted_skeleton(skeleton)
    predicted, truth = _positions("pred", pred), _positions("gt", gt)
    if rule.skeleton is FLIC9 and truth.shape[1] == 11 and predicted.shape[1] == 9:
        truth, labelled = truth[:, _FLIC_FILE_PARTS], _flic_labels(labelled)
    _check_same(predicted, truth, skeleton, rule)
    threshold = float(rule.threshold if threshold is None else threshold)
    if not 0 <= threshold < np.inf:
        raise UserError(f"threshold: wanted a number >= 0, got {threshold}")
    known = _labels(labelled, truth)
    if rule.observer_centric if swap_to_observer is None else swap_to_observer:
        truth, known = observer_centric(truth, skeleton, known)
    norms, norm_text = _normaliser(norm, rule, skeleton, predicted, truth, known, head_size, torso_box_wh)
    known[:, [index for index, part in enumerate(skeleton.parts) if part in rule.not_counted]] = False
    excluded, usable = _exclusions(norms, known)
    counts = known & usable[:, None]
    distances, missing = _distances(predicted, truth, norms, counts)
    found = suspicions(predicted, truth, norms, counts, threshold, skeleton) if suspicious else ()
    for text in found:
        warnings.warn(text, ScoreWarning, stacklevel=2)
    return ScoreTable(
        protocol_name=rule.name,
        metric=rule.metric,
        rule=rule_text(rule, norm_text, swap_to_observer),
        threshold=threshold,
        parts=skeleton.parts,
        rows=table_rows(skeleton, rule),
        distances=distances,
        excluded=excluded,
        nan_predictions=missing,
        warnings=found,
    )


def observer_centric(
    truth: np.ndarray, skeleton: Skeleton, labelled: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Swap left and right parts of people seen from behind (right shoulder right of the left one).

    truth (N, K, 2) and labelled (N, K) of ``skeleton``'s order; returns new arrays (spec `data.md`, FLIC).
    Whose shoulders are not both labelled stays.

    Raises:
        UserError: the skeleton has no shoulders.
    """
    if not {"right_shoulder", "left_shoulder"} <= set(skeleton.parts):
        raise UserError(
            f"{skeleton.name} has no shoulders, by which sides are turned to the observer's: "
            "swap_to_observer=False (--keep-sides) leaves them"
        )
    right, left = skeleton.index("right_shoulder"), skeleton.index("left_shoulder")
    turned = labelled[:, right] & labelled[:, left] & (truth[:, right, 0] > truth[:, left, 0])
    order = list(skeleton.flip_permutation)
    truth, labelled = truth.copy(), labelled.copy()
    truth[turned] = truth[turned][:, order]
    labelled[turned] = labelled[turned][:, order]
    return truth, labelled


def _positions(name: str, value: ArrayLike) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != 3 or array.shape[2] != 2:
        raise ValueError(f"{name}: wanted shape (people, parts, 2), got {array.shape}")
    return array


def _check_same(predicted: np.ndarray, truth: np.ndarray, skeleton: Skeleton, rule: Protocol) -> None:
    if len(predicted) != len(truth):
        raise UserError(
            f"predictions and truth are not of the same people: {len(predicted)} predicted, {len(truth)} true"
        )
    if predicted.shape[1] != truth.shape[1]:
        raise UserError(
            f"predictions have {predicted.shape[1]} parts per person, the truth has {truth.shape[1]}"
        )
    if truth.shape[1] != len(skeleton):
        raise UserError(
            f"{rule.name} with the {len(skeleton)} parts of {skeleton.name} cannot score "
            f"{truth.shape[1]} parts: give skeleton="
        )


def _labels(labelled: ArrayLike | None, truth: np.ndarray) -> np.ndarray:
    known = np.isfinite(truth).all(axis=2)
    if labelled is None:
        return known
    given = np.asarray(labelled)
    if given.shape != truth.shape[:2]:
        raise ValueError(f"labelled: wanted shape {truth.shape[:2]}, got {given.shape}")
    return known & label_flags("labelled", given)


def label_flags(name: str, labels: np.ndarray) -> np.ndarray:
    """Bool of an array of True and False, or 1 and 0.

    Codes of more than two values are not guessed at: 2 is "not labelled" here and "seen" in COCO.

    Raises:
        UserError: another value.
    """
    unclear = labels[(labels != 0) & (labels != 1)] if labels.dtype != bool else labels[:0]
    if unclear.size:
        raise UserError(
            f"{name}: wanted True and False (or 1 and 0), got {unclear.tolist()[0]!r}: "
            "of Visibility codes give visible != 2, of COCO's v > 0"
        )
    return labels.astype(bool)


def _flic_labels(labelled: ArrayLike | None) -> ArrayLike | None:
    if labelled is None or np.asarray(labelled).shape[-1] != 11:
        return labelled
    return np.asarray(labelled)[:, _FLIC_FILE_PARTS]


def _normaliser(
    norm: str | ArrayLike | None, rule: Protocol, skeleton: Skeleton, predicted: np.ndarray,
    truth: np.ndarray, known: np.ndarray, head_size: ArrayLike | None, torso_box_wh: ArrayLike | None,
) -> tuple[np.ndarray, str]:  # fmt: skip
    """(N,) pixels, NaN where the person has none, and what it is in words."""
    people = len(truth)
    if norm is not None and not isinstance(norm, str):
        return _per_person("norm", norm, (people,)), "length given for each person"
    name = rule.norm if norm is None else norm
    if name not in rule.norms:
        raise UserError(f"{rule.name} knows the normalisers {', '.join(rule.norms)}, got {name!r}")
    if name == "head-size":
        if head_size is None:
            raise UserError(f"{rule.name} wants head_size=, one length in pixels per person, got none")
        return _per_person("head_size", head_size, (people,)), NORMS[name]
    if name.startswith("box"):
        if torso_box_wh is None:
            raise UserError(f"norm={name!r} wants torso_box_wh=, width and height per person, got none")
        box = _per_person("torso_box_wh", torso_box_wh, (people, 2))
        return (np.hypot(box[:, 0], box[:, 1]) if name == "box-diagonal" else box[:, 1]), NORMS[name]
    if skeleton.torso is None:
        raise UserError(
            f"skeleton {skeleton.name} names no torso: give norm=, one length per person, or an .npz two of "
            "its parts as `torso` or the people's sizes as `extent`"
        )
    a, b = skeleton.torso
    ends = " and ".join(skeleton.parts[part].replace("_", " ") for part in (a, b))
    words = NORMS[name].replace("left shoulder and right hip", ends)  # another body has another torso
    if name == "predicted-torso":
        with np.errstate(over="ignore", invalid="ignore"):
            length = _length(predicted[:, a] - predicted[:, b])
        return np.where((length > 0) & (length < np.inf), length, _NO_TORSO), words
    torso = _length(truth[:, a] - truth[:, b])
    return np.where(known[:, a] & known[:, b], torso, np.nan), words


def _per_person(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name}: wanted shape {shape}, got {array.shape}")
    return array


def _length(difference: np.ndarray) -> np.ndarray:
    return np.sqrt((difference**2).sum(axis=-1))


def _exclusions(norms: np.ndarray, known: np.ndarray) -> tuple[dict[str, int], np.ndarray]:
    """Counts of people left out, each for one reason, and (N,) bool of the others."""
    labelled = known.any(axis=1)
    reasons = {
        "no labelled joint": ~labelled,
        "zero-size normaliser": labelled & (norms == 0),
        "negative normaliser": labelled & (norms < 0),
        "normaliser not labelled": labelled & ~(norms < np.inf),
    }
    left_out = {reason: int(people.sum()) for reason, people in reasons.items() if people.any()}
    return left_out, labelled & (norms > 0) & (norms < np.inf)


def _distances(
    predicted: np.ndarray, truth: np.ndarray, norms: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, int]:
    """Normalised distances as :class:`ScoreTable` wants them, and how many predictions are not numbers.

    Distance is divided by the normaliser, not the threshold multiplied: where the exact quotient is the
    threshold itself, only the quotient is sure to round to the very same number (0.29 x 100 < 29).
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        distances = _length(predicted - truth) / norms[:, None]
    missing = counts & ~np.isfinite(predicted).all(axis=2)
    distances[missing] = np.inf
    distances[norms == _NO_TORSO] = np.inf
    distances[~counts] = np.nan
    return distances, int(missing.sum())


def rule_text(rule: Protocol, norm_text: str | None = None, swap: bool | None = None) -> str:
    """A protocol's rule in words; its own normaliser and sides if no others are given."""
    norm_text = norm_text or NORMS[rule.norm]
    parts = [f"right if the distance is <= threshold x {norm_text}"]
    if rule.observer_centric if swap is None else swap:
        parts.append("sides are the observer's")
    elif rule.observer_centric:
        parts.append("sides are the person's own")
    if rule.not_counted:
        parts.append(f"without {' and '.join(rule.not_counted)}")
    return ", ".join(parts)
