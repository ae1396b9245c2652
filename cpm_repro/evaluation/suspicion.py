"""Mistakes that still give a score: a shift by a pixel, left and right exchanged, another order of joints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpm_repro.skeleton import Skeleton


class ScoreWarning(UserWarning):
    """A score was computed, but the predictions look as if they were written by another convention."""


def suspicions(
    predicted: np.ndarray, truth: np.ndarray, norms: np.ndarray, counts: np.ndarray,
    threshold: float, skeleton: Skeleton,
) -> tuple[str, ...]:  # fmt: skip
    """Warnings about (N, K, 2) predictions; empty when nothing looks wrong."""
    found = (
        _shifted(predicted, truth, norms, counts, threshold),
        _mirrored(predicted, truth, norms, counts, threshold, skeleton),
    )
    return tuple(text for text in found if text)


def another_order(
    source: str, taken: Skeleton, parts: Sequence[str], total: float, other_total: float
) -> str:
    """What to say of a file that names no joints and scores more when read in another order; else nothing.

    Args:
        source: the file.
        taken: whose order it was read in, which came to the score ``total``.
        parts: the other order, which would come to ``other_total``.
    """
    if not other_total > total + 1:
        return ""
    return (
        f"{source} names no joints and was read in the order of {taken.name}: the score rises from "
        f"{total:.2f} to {other_total:.2f} in the order {', '.join(parts)}; name them in the file (parts)"
    )


def _shifted(
    predicted: np.ndarray, truth: np.ndarray, norms: np.ndarray, counts: np.ndarray, threshold: float
) -> str:
    """A median error of about a pixel right and down (or left and up): the mark of 0-based against 1-based.

    The median is taken over joints found (within the threshold). Both its coordinates must be beyond a
    quarter of a pixel on the same side, their mean nearer to one pixel than to none and than to two, by three
    standard errors (of a median: 1.25 s / sqrt(n); s from the quartiles, as the errors have heavy tails).
    A network's own bias is a fraction of a pixel and seldom alike in x and y: the published LSP predictions
    have (+0.47, -0.42).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        error = predicted - truth
        near = counts & ((error**2).sum(axis=2) <= (threshold * norms[:, None]) ** 2)
    if near.sum() < 20:
        return ""
    low, middle, high = np.percentile(error[near], [25, 50, 75], axis=0)
    uncertain = 3 * 1.25 * (high - low) / 1.349 / np.sqrt(near.sum())
    for sign, given, wanted in ((1, "1", "0"), (-1, "0", "1")):
        alike = (sign * middle - uncertain > 0.25).all()
        if alike and abs(middle.mean() - sign) + uncertain.mean() / np.sqrt(2) < 0.5:
            return (
                f"predictions are shifted by a constant ({middle[0]:+.2f}, {middle[1]:+.2f}) px: "
                f"{given}-based predictions against {wanted}-based truth?"
            )
    return ""


def _mirrored(
    predicted: np.ndarray, truth: np.ndarray, norms: np.ndarray, counts: np.ndarray, threshold: float,
    skeleton: Skeleton,
) -> str:  # fmt: skip
    """The score rises when left and right are exchanged: by more than a point and three standard errors."""
    if not skeleton.flip_pairs or not counts.any():
        return ""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        reach = threshold * norms[:, None]
        as_given = counts & (np.sqrt(((predicted - truth) ** 2).sum(axis=2)) <= reach)
        turned = predicted[:, list(skeleton.flip_permutation)]
        exchanged = counts & (np.sqrt(((turned - truth) ** 2).sum(axis=2)) <= reach)
    gain = exchanged.sum(axis=1) - as_given.sum(axis=1)
    before, after = (100 * hits.sum() / counts.sum() for hits in (as_given, exchanged))
    spread = 100 * gain.std() * np.sqrt(len(gain)) / counts.sum()
    if after - before <= max(1.0, 3 * spread):
        return ""
    return (
        f"the score rises from {before:.2f} to {after:.2f} when left and right are exchanged: "
        "mirrored predictions, or another joint order?"
    )
