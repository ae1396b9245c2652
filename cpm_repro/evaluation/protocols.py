"""The rules by which predictions are scored, one function each: who counts, and what a distance is divided by.

Spec `evaluation.md` is the source of every rule here. The rule is printed beside every number, because one
set of predictions can be given very different scores by rules that sound alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cpm_repro.config import unknown
from cpm_repro.errors import UserError
from cpm_repro.skeleton import CPM14, FLIC9, LSP14, MPII16, Skeleton


@dataclass(frozen=True)
class Case:
    """What a protocol is given: M people, K joints; pixels."""

    pred: np.ndarray  # (M, K, 2) float64, NaN where nothing was predicted
    gt: np.ndarray  # (M, K, 2) float64
    labelled: np.ndarray  # (M, K) bool
    skeleton: Skeleton
    head_size: np.ndarray | None = None  # (M,)
    norm: str | np.ndarray | None = None


@dataclass(frozen=True)
class Rule:
    """What a protocol answers."""

    norm: (
        np.ndarray
    )  # (M,) float64: distances are divided by this; not positive or NaN: the person is left out
    counted: np.ndarray  # (M, K) bool: joints that count
    threshold: float
    text: str


def lsp_pck(case: Case) -> Rule:
    """LSP, person-centric: torso = left shoulder to right hip of the truth; every joint of everybody counts."""
    return Rule(
        _torso(case.gt, case), np.ones_like(case.labelled), 0.2, "normaliser |left shoulder - right hip|"
    )


def lspet_pck(case: Case) -> Rule:
    """LSP-extended held-out: people whose torso is labelled count, and of them the labelled joints."""
    norm = _torso(case.gt, case)
    a, b = _torso_parts(case)
    norm = np.where(case.labelled[:, a] & case.labelled[:, b], norm, np.nan)
    return Rule(
        norm, case.labelled, 0.2,
        "normaliser |left shoulder - right hip|, people with both labelled, labelled joints",
    )  # fmt: skip


def flic_pck(case: Case) -> Rule:
    """FLIC: elbows and wrists are the reported numbers; ``norm`` names the normaliser or gives it per person."""
    known = ["true-torso", "predicted-torso", "box-diagonal", "box-height"]
    name = "true-torso" if case.norm is None else case.norm
    if isinstance(name, np.ndarray):
        return Rule(_per_person("norm", name, case), case.labelled, 0.2, "normaliser as given per person")
    if name not in known:
        raise UserError(unknown("FLIC normaliser", name, known))
    if name in ("box-diagonal", "box-height"):
        raise UserError(
            f"flic-pck: norm={name!r} needs the torso boxes: pass their diagonals or heights as an array (N,)"
        )
    points = case.gt if name == "true-torso" else case.pred
    return Rule(_torso(points, case), case.labelled, 0.2, f"normaliser {name} |left shoulder - right hip|")


def mpii_pckh(case: Case) -> Rule:
    """MPII: head size (0.6 of the head box's diagonal); pelvis and thorax are left out; labelled joints count."""
    if case.head_size is None:
        raise UserError("mpii-pckh needs head_size: (N,) pixels, 0.6 of each head box's diagonal")
    counted = case.labelled.copy()
    for name in ("pelvis", "thorax"):
        if name in case.skeleton.parts:
            counted[:, case.skeleton.index(name)] = False
    norm = _per_person("head_size", case.head_size, case)
    return Rule(norm, counted, 0.5, "normaliser head size (0.6 of the head box's diagonal)")


PROTOCOLS: dict[str, tuple[Callable[[Case], Rule], Skeleton]] = {
    "lsp-pck": (lsp_pck, LSP14),
    "lspet-pck": (lspet_pck, CPM14),
    "flic-pck": (flic_pck, FLIC9),
    "mpii-pckh": (mpii_pckh, MPII16),
}
"""Each protocol's rule and the joint order it assumes when none is given."""


def _torso_parts(case: Case) -> tuple[int, int]:
    if case.skeleton.torso is None:
        raise UserError(f"skeleton {case.skeleton.name} has no torso to divide distances by")
    return case.skeleton.torso


def _torso(points: np.ndarray, case: Case) -> np.ndarray:
    a, b = _torso_parts(case)
    length: np.ndarray = np.linalg.norm(points[:, a] - points[:, b], axis=-1)
    return length


def _per_person(name: str, values: np.ndarray, case: Case) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.shape != (len(case.gt),):
        raise ValueError(f"{name}: wanted shape ({len(case.gt)},), got {values.shape}")
    return values
