"""The release's "MPII-like" scale of LSP people, who come without one (spec `data.md`).

A person's size is read off the limbs: each visible limb, divided by that limb's typical length relative to
the neck-head limb, votes for the length of the latter.
"""

from __future__ import annotations

import warnings

import numpy as np

from cpm_repro.skeleton import LSP14

TARGET = 41 / 35
"""scale_provided that stands for a neck-head limb of 41 px; what the release calls target_dist (1.171)."""

_BOX, _MARGIN, _UNIT = 368, 64, 35

_ORDER = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "neck", "head",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
_TO_ORDER = [LSP14.index(part) for part in _ORDER]

# Parent of each joint in _ORDER; the head has none. The left leg is odd in the original's list (hip and
# knee are each other's parents, the ankle hangs on the neck): that is what the release was trained with.
_PARENT = (1, 2, 6, 4, 3, 6, 7, None, 9, 10, 6, 12, 11, 6)
_LIMBS = [(joint, parent) for joint, parent in enumerate(_PARENT) if parent is not None]
_REFERENCE = _LIMBS.index((6, 7))


def limb_lengths(joints: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """(N, 13) lengths of the limbs in pixels, NaN where an end is not visible; LSP order in."""
    points, seen = joints[:, _TO_ORDER], visible[:, _TO_ORDER]
    a, b = np.array(_LIMBS).T
    offset = points[:, a] - points[:, b]
    return np.where(seen[:, a] & seen[:, b], np.hypot(offset[..., 0], offset[..., 1]), np.nan)


def limb_ratios(lengths: np.ndarray) -> np.ndarray:
    """(13,) median length of each limb relative to the neck-head limb, over the people who show both.

    A reference limb of length zero gives an infinite ratio, which counts in the median; 0 / 0 is left out.
    """
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a limb that nobody shows: NaN
        return np.nanmedian(lengths / lengths[:, _REFERENCE, None], axis=0)


def lsp_scales(joints: np.ndarray, visible: np.ndarray, ratios: np.ndarray | None = None) -> np.ndarray:
    """scale_provided of every person.

    Args:
        joints: (N, 14, 2) float64 pixels, LSP order; 0- or 1-based makes no difference.
        visible: (N, 14) bool.
        ratios: (13,) limb ratios; None pools them over these people. The release pools LSP-extended and LSP.

    Returns:
        (N,) float64; NaN for a person of whom nothing can be measured.
    """
    lengths = limb_lengths(joints, visible)
    ratios = limb_ratios(lengths) if ratios is None else ratios
    with np.errstate(divide="ignore", invalid="ignore"):
        size = _upper_quartile(lengths / ratios)
        factor = TARGET / (size / _UNIT)
        for axis in (0, 1):
            low = np.where(visible, joints[..., axis], np.inf).min(axis=1)
            high = np.where(visible, joints[..., axis], -np.inf).max(axis=1)
            factor = np.fmin(factor, (_BOX - _MARGIN) / (high - low))
        return np.where(visible.any(axis=1), TARGET / factor, np.nan)


def _upper_quartile(values: np.ndarray) -> np.ndarray:
    """0.75 quantile of each row without its NaN, by MATLAB's rule (NumPy's "hazen").

    An empty row gives NaN.
    """
    ordered = np.sort(values, axis=1)  # NaN go last
    count = (~np.isnan(values)).sum(axis=1)
    place = np.clip(0.75 * count - 0.5, 0, np.maximum(count - 1, 0))
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    rows = np.arange(len(values))
    below, above = ordered[rows, low], ordered[rows, high]
    weight = place - low
    return np.where(weight == 0, below, below + weight * (above - below))
