"""Ground truth: our own arrays, and the data sets' own files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.evaluation.evaluate import label_flags
from cpm_repro.evaluation.file_arrays import names, numbers
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
    torso: tuple[str, ...] | None = None  # two of the parts, whose distance scores are divided by
    extent: np.ndarray | None = None  # (N,) px, which they are divided by where the body has no torso


def read_truth(path: str | Path, protocol: str = "lsp-pck") -> TruthFile:
    """Read the annotated people that ``protocol`` scores.

    Known files:
        ``.npz``: ``gt`` (N, K, 2) and, if known, ``labelled`` or ``gt_visible`` (N, K), ``head_size`` (N,),
            ``torso_box_wh`` (N, 2), ``gt_order``, ``order`` or ``parts`` (K names), ``torso`` (two of the
            names) or, of a body without one, ``extent`` (N,) the people's sizes in px, ``image`` (N names).
            A third number in ``gt`` is not read; who is labelled must be there.
        LSP's ``joints.mat`` (3, 14, N): of 2000 people the last 1000 are the test set. LSP-extended's
            (14, 3, N): every 18th person (``lspet-pck``).
        FLIC's ``examples.mat``: the examples with ``istest``.
        MPII's validation people as HRNet's code keeps them, ``gt_valid.mat``: ``pos_gt_src`` (16, 2, N),
            ``jnt_missing`` (16, N), ``headboxes_src`` (2, 2, N).

    Raises:
        UserError: no such file, or none of these formats.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        return _from_npz(path)
    if path.suffix.lower() != ".mat":
        raise UserError(f"{path}: the truth comes as .npz or .mat, got {path.suffix or 'no suffix'!r}")
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
    gt = numbers(path, "gt", content["gt"], ("people", "joints", (2, 3)))
    people, joints = gt.shape[:2]
    order = names(path, content, ("gt_order", "order", "parts"), joints)
    label = next((key for key in ("labelled", "gt_visible") if key in content), None)
    if label is None and gt.shape[2] == 3:  # files mean labelled, hidden or a score by it
        raise UserError(
            f"{path}: what is the third number of each joint in gt? Wanted x and y, and who is labelled as "
            f"'labelled' ({people} x {joints})"
        )

    def optional(key: str | None, *shape: int) -> np.ndarray | None:
        return numbers(path, key, content[key], shape) if key in content else None

    labelled = optional(label, people, joints)
    parts = part_names(order, str(path)) if order else None
    torso = names(path, content, ("torso",), 2)
    if torso is not None:
        torso = part_names(torso, str(path))
        if not set(torso) <= set(parts or ()):
            raise UserError(f"{path}: the torso {' - '.join(torso)} is not among the parts")
    return TruthFile(
        source=str(path),
        positions=gt[..., :2],
        labelled=np.ones((people, joints), bool)
        if labelled is None
        else label_flags(f"{path}: {label}", labelled),
        parts=parts,
        head_size=optional("head_size", people),
        torso_box_wh=optional("torso_box_wh", people, 2),
        people=names(path, content, ("image",), people),
        torso=torso,
        extent=optional("extent", people),
    )


def _lsp(path: Path, joints: Any, protocol: str) -> TruthFile:
    joints = numbers(path, "joints", joints, (3, 14, "N"), (14, 3, "N"))
    if len(joints) == 14:  # LSP-extended: third column 1 = labelled
        joints = joints.transpose(2, 0, 1)[:: 18 if protocol == "lspet-pck" else 1]
        labelled = joints[..., 2] == 1
    else:  # LSP: third row 1 = occluded, but all are labelled
        joints = joints.transpose(2, 1, 0)
        joints = joints[1000:] if len(joints) == 2000 else joints
        labelled = np.ones(joints.shape[:2], bool)
    return TruthFile(str(path), joints[..., :2] - 1.0, labelled, LSP14.parts)


def _flic(path: Path, examples: Any) -> TruthFile:
    examples = np.asarray(examples).ravel()
    wanted = {"coords", "istest", "torsobox", "filepath"}
    if examples.dtype.names is None or not wanted <= set(examples.dtype.names):
        raise UserError(f"{path}: wanted examples with the fields {', '.join(sorted(wanted))}")
    test = [example for example in examples if np.any(example["istest"])]
    if not test:
        raise UserError(f"{path}: wanted test examples, got none with istest")
    coords = np.stack([numbers(path, "coords", example["coords"], (2, 29)) for example in test])
    used = np.isfinite(coords).all(axis=1).any(axis=0)
    if used.sum() != len(_FLIC_PARTS):
        raise UserError(f"{path}: wanted {len(_FLIC_PARTS)} columns of coords in use, got {used.sum()}")
    positions = coords[:, :, used].transpose(0, 2, 1) - 1.0
    boxes = np.stack([numbers(path, "torsobox", np.ravel(example["torsobox"]), (4,)) for example in test])
    finite: np.ndarray = np.isfinite(positions)
    return TruthFile(
        source=str(path),
        positions=positions,
        labelled=finite[..., 0] & finite[..., 1],
        parts=_FLIC_PARTS,
        torso_box_wh=boxes[:, 2:4] - boxes[:, 0:2],
        people=tuple("".join(map(str, np.ravel(example["filepath"]))) for example in test),
    )


def _mpii(path: Path, content: dict[str, Any]) -> TruthFile:
    missing = [name for name in ("jnt_missing", "headboxes_src") if name not in content]
    if missing:
        raise UserError(
            f"{path}: wanted pos_gt_src, jnt_missing and headboxes_src; missing: {', '.join(missing)}"
        )
    positions = numbers(path, "pos_gt_src", content["pos_gt_src"], (16, 2, "N"))
    people = positions.shape[2]
    boxes = numbers(path, "headboxes_src", content["headboxes_src"], (2, 2, people))
    absent = numbers(path, "jnt_missing", content["jnt_missing"], (16, people)).T.astype(bool)
    return TruthFile(
        source=str(path),
        positions=positions.transpose(2, 0, 1) - 1.0,
        labelled=~absent,
        parts=MPII16.parts,
        head_size=HEAD_SHARE * np.linalg.norm(boxes[1] - boxes[0], axis=0),
    )
