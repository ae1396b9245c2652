"""Ground truth: our own arrays, and the data sets' own files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.evaluation.part_names import part_names
from cpm_repro.matlab_file import load_matlab_file
from cpm_repro.npz_file import load_npz
from cpm_repro.skeleton import LSP14, MPII16

_FLIC_PARTS = (
    "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
    "left_hip", "right_hip", "left_eye", "right_eye", "head",
)  # fmt: skip
"""FLIC's eleven annotated parts (spec `data.md`); the nose is called head here."""

HEAD_SHARE = 0.6
"""MPII's head size is this share of the head box's diagonal (spec `evaluation.md`)."""


@dataclass(frozen=True, eq=False)
class TruthFile:
    """Annotated positions of N people and what their scoring needs."""

    source: str
    positions: np.ndarray  # (N, K, 2) float64 pixels, 0-based where the file's format says which it is
    labelled: np.ndarray  # (N, K) bool
    parts: tuple[str, ...] | None
    head_size: np.ndarray | None = None  # (N,) px
    torso_box_wh: np.ndarray | None = None  # (N, 2) px
    people: tuple[str, ...] | None = None


def read_truth(path: str | Path, protocol: str = "lsp-pck") -> TruthFile:
    """Read the annotated people that ``protocol`` scores.

    Known files:
        ``.npz``: ``gt`` (N, K, 2) and, if known, ``labelled`` or ``gt_visible`` (N, K), ``head_size`` (N,),
            ``torso_box_wh`` (N, 2), ``gt_order``, ``order`` or ``parts`` (K names), ``image`` (N names).
        LSP's ``joints.mat`` (3, 14, N): of 2000 people the last 1000 are the test set. LSP-extended's
            (14, 3, N): every 18th person (``lspet-pck``).
        FLIC's ``examples.mat``: the examples with ``istest``.
        MPII's validation people as HRNet's code keeps them, ``gt_valid.mat``: ``pos_gt_src`` (16, 2, N),
            ``jnt_missing`` (16, N), ``headboxes_src`` (2, 2, N).

    Raises:
        UserError: no such file, or none of these formats.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _from_npz(path)
    content = load_matlab_file(path)
    if "joints" in content:
        return _lsp(path, content["joints"], protocol)
    if "examples" in content:
        return _flic(path, content["examples"])
    if "pos_gt_src" in content:
        return _mpii(path, content)
    found = ", ".join(key for key in content if not key.startswith("__"))
    raise UserError(
        f"{path}: wanted joints (LSP), examples (FLIC) or pos_gt_src (MPII validation); got {found}"
    )


def _from_npz(path: Path) -> TruthFile:
    content = load_npz(path)
    if "gt" not in content:
        raise UserError(f"{path}: wanted an array 'gt', got {', '.join(content) or 'an empty file'}")
    gt = content["gt"].astype(np.float64)
    if gt.ndim != 3 or gt.shape[2] < 2:
        raise UserError(f"{path}: wanted gt as people x joints x 2, got {' x '.join(map(str, gt.shape))}")
    names = next((content[key] for key in ("gt_order", "order", "parts") if key in content), None)
    if names is not None and len(names) != gt.shape[1]:
        raise UserError(f"{path}: {len(names)} joint names for {gt.shape[1]} joints in 'gt'")
    label = next((content[key] for key in ("labelled", "gt_visible") if key in content), None)
    labelled = np.ones(gt.shape[:2], bool) if label is None else label.astype(bool)
    if labelled.shape != gt.shape[:2]:
        raise UserError(f"{path}: wanted labels of shape {gt.shape[:2]}, got {labelled.shape}")
    return TruthFile(
        source=str(path),
        positions=gt[..., :2],
        labelled=labelled,
        parts=part_names(names, str(path)) if names is not None else None,
        head_size=content.get("head_size"),
        torso_box_wh=content.get("torso_box_wh"),
        people=tuple(map(str, content["image"])) if "image" in content else None,
    )


def _lsp(path: Path, joints: Any, protocol: str) -> TruthFile:
    joints = np.asarray(joints, dtype=np.float64)
    if joints.ndim == 3 and joints.shape[:2] == (14, 3):  # LSP-extended: third column 1 = labelled
        joints = joints.transpose(2, 0, 1)[::18] if protocol == "lspet-pck" else joints.transpose(2, 0, 1)
        labelled = joints[..., 2] == 1
    elif joints.ndim == 3 and joints.shape[:2] == (
        3,
        14,
    ):  # LSP: third row 1 = occluded, but all are labelled
        joints = joints.transpose(2, 1, 0)
        joints = joints[1000:] if len(joints) == 2000 else joints
        labelled = np.ones(joints.shape[:2], bool)
    else:
        raise UserError(f"{path}: wanted joints as 3 x 14 x N or 14 x 3 x N, got {joints.shape}")
    return TruthFile(str(path), joints[..., :2] - 1.0, labelled, LSP14.parts)


def _flic(path: Path, examples: Any) -> TruthFile:
    examples = np.asarray(examples).ravel()
    wanted = {"coords", "istest", "torsobox", "filepath"}
    if examples.dtype.names is None or not wanted <= set(examples.dtype.names):
        raise UserError(f"{path}: wanted examples with the fields {', '.join(sorted(wanted))}")
    test = [example for example in examples if np.any(example["istest"])]
    coords = np.array([np.asarray(example["coords"], dtype=np.float64) for example in test])
    if coords.ndim != 3 or coords.shape[1] != 2:
        raise UserError(f"{path}: wanted coords as 2 x 29 for every example, got {coords.shape}")
    used = np.isfinite(coords).all(axis=1).any(axis=0)
    if used.sum() != len(_FLIC_PARTS):
        raise UserError(f"{path}: wanted {len(_FLIC_PARTS)} columns of coords in use, got {used.sum()}")
    positions = coords[:, :, used].transpose(0, 2, 1) - 1.0
    boxes = np.array([np.asarray(example["torsobox"], dtype=np.float64).ravel() for example in test])
    finite: np.ndarray = np.isfinite(positions)
    return TruthFile(
        source=str(path),
        positions=positions,
        labelled=finite[..., 0] & finite[..., 1],
        parts=_FLIC_PARTS,
        torso_box_wh=boxes[:, 2:4] - boxes[:, 0:2],
        people=tuple(str(np.ravel(example["filepath"])[0]) for example in test),
    )


def _mpii(path: Path, content: dict[str, Any]) -> TruthFile:
    missing = [name for name in ("jnt_missing", "headboxes_src") if name not in content]
    if missing:
        raise UserError(
            f"{path}: wanted pos_gt_src, jnt_missing and headboxes_src; missing: {', '.join(missing)}"
        )
    positions = np.asarray(content["pos_gt_src"], dtype=np.float64)
    if positions.ndim != 3 or positions.shape[:2] != (16, 2):
        raise UserError(f"{path}: wanted pos_gt_src as 16 x 2 x N, got {positions.shape}")
    boxes = np.asarray(content["headboxes_src"], dtype=np.float64)
    if boxes.shape != (2, 2, positions.shape[2]):
        raise UserError(f"{path}: wanted headboxes_src as 2 x 2 x {positions.shape[2]}, got {boxes.shape}")
    absent: np.ndarray = np.asarray(content["jnt_missing"]).T.astype(bool)
    return TruthFile(
        source=str(path),
        positions=positions.transpose(2, 0, 1) - 1.0,
        labelled=~absent,
        parts=MPII16.parts,
        head_size=HEAD_SHARE * np.linalg.norm(boxes[1] - boxes[0], axis=0),
    )
