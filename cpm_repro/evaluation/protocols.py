"""The rules by which published numbers were made, as data (spec `evaluation.md`).

The same predictions give different numbers under each of them, so a table always names its rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from cpm_repro.config import unknown
from cpm_repro.errors import UserError
from cpm_repro.skeleton import CPM14, FLIC9, LSP14, MPII16, Skeleton


@dataclass(frozen=True)
class Protocol:
    """One scoring rule: a joint is right if its distance to the truth is <= threshold * normaliser."""

    name: str
    metric: str  # "PCK" or "PCKh"
    threshold: float
    norm: str  # default normaliser: a key of NORMS
    norms: tuple[str, ...]  # normalisers that may be asked for by name
    skeleton: Skeleton  # joint order unless the caller gives another
    not_counted: tuple[str, ...] = ()  # parts left out of every score
    head_top_alone: bool = False  # the Head row is the head top without the neck
    observer_centric: bool = False  # the truth's sides are turned to the observer's first


NORMS = {
    "true-torso": "distance of left shoulder and right hip in the truth",
    "predicted-torso": "distance of left shoulder and right hip in the prediction",
    "box-diagonal": "diagonal of the annotated torso box",
    "box-height": "height of the annotated torso box",
    "head-size": "head size (0.6 x diagonal of the head box)",
}
"""Named normalisers and what they are."""

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("lsp-pck", "PCK", 0.2, "true-torso", ("true-torso",), LSP14),
        Protocol("lspet-pck", "PCK", 0.2, "true-torso", ("true-torso",), CPM14),
        Protocol(
            "flic-pck", "PCK", 0.2, "true-torso",
            ("true-torso", "predicted-torso", "box-diagonal", "box-height"), FLIC9, observer_centric=True,
        ),
        Protocol(
            "mpii-pckh", "PCKh", 0.5, "head-size", ("head-size",), MPII16,
            not_counted=("pelvis", "thorax"), head_top_alone=True,
        ),
    )
}  # fmt: skip
"""All known protocols by name."""


def find_protocol(name: str) -> Protocol:
    """The protocol called ``name``; a UserError lists the known ones."""
    if name not in PROTOCOLS:
        raise UserError(unknown("protocol", str(name), list(PROTOCOLS)))
    return PROTOCOLS[name]


_SHORT = {"Shoulder": "Sho", "Elbow": "Elb", "Wrist": "Wri", "Knee": "Kne", "Ankle": "Ank"}


def table_rows(skeleton: Skeleton, protocol: Protocol) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Rows of the score table in the paper's order: (label, part indices averaged in it).

    A skeleton without groups has one row per counted part.
    """
    if not skeleton.groups:
        return tuple((part, (index,)) for index, part in enumerate(skeleton.parts)
                     if part not in protocol.not_counted)  # fmt: skip
    rows = []
    for label, indices in skeleton.groups:
        alone = label == "Head" and protocol.head_top_alone and "head" in skeleton.parts
        rows.append((_SHORT.get(label, label), (skeleton.index("head"),) if alone else indices))
    return tuple(rows)
