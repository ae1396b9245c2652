"""Joint names, their orders in data sets and networks, left/right pairs, limbs and display colours.

Everything here is data about bodies; coordinates live elsewhere. Orders and limbs: spec page `data.md`
(the networks' 14 parts, MPII's 16 joints, LSP's 14, FLIC's 9).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from cpm_repro.errors import UserError


class Visibility(IntEnum):
    """What the data layer knows of a joint. Not COCO's coding: readers convert.

    OCCLUDED and VISIBLE joints get a peak in the belief maps, CROPPED ones (outside the image, missing,
    unlabelled, or padding for absent people) get none.
    """

    OCCLUDED = 0
    VISIBLE = 1
    CROPPED = 2


@dataclass(frozen=True)
class Skeleton:
    """Names and structure of the K parts of one kind of body.

    ``flip_pairs`` and ``limbs`` index into ``parts`` (0-based). ``torso`` is the pair of parts whose
    distance normalises PCK (left shoulder, right hip), or None if the body has no such pair. ``groups``
    orders the rows of score tables: (row name, part indices averaged in that row).
    """

    name: str
    parts: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]
    torso: tuple[int, int] | None = None
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.parts, str):
            raise UserError(f"skeleton {self.name}: wanted a list of part names, got {self.parts!r}")
        for name, value in (  # lists will do, but are never equal to tuples
            ("parts", tuple(self.parts)),
            ("flip_pairs", tuple(map(tuple, self.flip_pairs))),
            ("limbs", tuple(map(tuple, self.limbs))),
            ("torso", None if self.torso is None else tuple(self.torso)),
            ("groups", tuple((row, tuple(of)) for row, of in self.groups)),
        ):
            object.__setattr__(self, name, value)
        if len(set(self.parts)) != len(self.parts) or not self.parts:
            raise UserError(
                f"skeleton {self.name}: part names must be unique and not empty, got {self.parts}"
            )
        for pair in (*self.flip_pairs, *self.limbs, *([self.torso] if self.torso else [])):
            if len(pair) != 2 or not all(0 <= index < len(self.parts) for index in pair):
                raise UserError(
                    f"skeleton {self.name}: pair {pair} does not index the {len(self.parts)} parts"
                )
        turned = self.flip_permutation
        for part, other in enumerate(turned):
            if turned[other] != part:  # mirrored twice it would be another part, or two parts one
                raise UserError(
                    f"skeleton {self.name}: {self.parts[other]} is in more than one of the flip pairs"
                )
        if self.torso and self.torso[0] == self.torso[1]:
            raise UserError(
                f"skeleton {self.name}: the torso is a distance between two parts, "
                f"got {self.parts[self.torso[0]]} twice"
            )

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def flip_permutation(self) -> tuple[int, ...]:
        """Index list p with mirrored[k] = joints[p[k]]: left and right parts trade places."""
        order = list(range(len(self.parts)))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return tuple(order)

    def index(self, part: str) -> int:
        """Position of the part called ``part``."""
        return self.parts.index(part)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for files that carry weights."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Skeleton:
        """The inverse of :meth:`to_dict`, also after a way through JSON, which has no tuples.

        Raises:
            UserError: names or values that make no skeleton.
        """
        try:
            torso = values["torso"]
            return Skeleton(
                name=str(values["name"]),
                parts=tuple(map(str, values["parts"])),
                flip_pairs=_index_pairs(values["flip_pairs"]),
                limbs=_index_pairs(values["limbs"]),
                torso=None if torso is None else _index_pairs([torso])[0],
                groups=tuple((str(row), tuple(map(int, of))) for row, of in values["groups"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"these values describe no skeleton ({type(error).__name__}: {error})") from error


def wanted_skeleton(given: object) -> Skeleton:
    """What was given for a skeleton, if it is one; its name is none.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(given, Skeleton):
        known = ", ".join(name.upper() for name in SKELETONS)
        raise TypeError(f"skeleton: wanted a Skeleton (cpm_repro.skeleton has {known}), got {given!r:.80}")
    return given


def _index_pairs(values: Iterable[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """Pairs of whole numbers out of lists of lists."""
    return tuple((int(first), int(second)) for first, second in values)


def permutation(source: Sequence[str], target: Sequence[str]) -> tuple[int, ...]:
    """Index list p with target[k] = source[p[k]]; every target name must occur in ``source``."""
    return tuple(list(source).index(name) for name in target)


_SIDES = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def _body_groups(parts: Sequence[str]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Rows of the paper's tables: head and neck as they are, every other part averaged over both sides."""
    rows: list[tuple[str, tuple[int, ...]]] = []
    if "head" in parts:
        rows.append(("Head", tuple(parts.index(name) for name in ("head", "neck") if name in parts)))
    for side in _SIDES:
        both = tuple(parts.index(f"{lr}_{side}") for lr in ("right", "left") if f"{lr}_{side}" in parts)
        if both:
            rows.append((side.capitalize(), both))
    return tuple(rows)


_NET_PARTS = (
    "head", "neck",
    "right_shoulder", "right_elbow", "right_wrist",
    "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle",
    "left_hip", "left_knee", "left_ankle",
)  # fmt: skip

_LSP_PARTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    "neck", "head",
)  # fmt: skip

_MPII_PARTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "pelvis", "thorax", "neck", "head",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip

_FLIC_PARTS = (
    "left_shoulder", "left_elbow", "left_wrist",
    "right_shoulder", "right_elbow", "right_wrist",
    "left_hip", "right_hip", "head",
)  # fmt: skip


def named_pairs(parts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """(right, left) index pairs of the parts whose names are the same but for right and left.

    At their beginning (`right_eye`), else in the middle or at the end where it is the only side there
    (`top_right`). In the order of the right ones; capitals make no difference.
    """
    places = {part.lower(): index for index, part in enumerate(parts)}
    others = [_other_side(part.lower()) for part in parts]
    return tuple((index, places[other]) for index, other in enumerate(others) if other in places)


def _other_side(name: str) -> str:
    """The left part's name for a right one's, both in small letters; "" where it is of no right part."""
    alone = "right" in name and name.count("right") + name.count("left") == 1
    return name.replace("right", "left", 1) if alone or name.startswith("right") else ""


def named_torso(parts: Sequence[str]) -> tuple[int, int] | None:
    """Indices of left_shoulder and right_hip, PCK's torso; None where they are not both there."""
    ends = ("left_shoulder", "right_hip")
    return (parts.index(ends[0]), parts.index(ends[1])) if set(ends) <= set(parts) else None


def skeleton_from_names(name: str, parts: Sequence[str], limbs: Sequence[tuple[int, int]] = ()) -> Skeleton:
    """A skeleton whose left/right pairs and torso follow from the names."""
    return Skeleton(name, tuple(parts), named_pairs(parts), tuple(limbs), named_torso(parts))


def _limbs(parts: Sequence[str], chains: Sequence[Sequence[str]]) -> tuple[tuple[int, int], ...]:
    """Index pairs of neighbours along each chain of part names."""
    return tuple((parts.index(a), parts.index(b)) for chain in chains for a, b in itertools.pairwise(chain))


_CHAINS = (
    ("head", "neck"),
    ("right_shoulder", "right_elbow", "right_wrist"),
    ("left_shoulder", "left_elbow", "left_wrist"),
    ("right_hip", "right_knee", "right_ankle"),
    ("left_hip", "left_knee", "left_ankle"),
)


def _body(name: str, parts: tuple[str, ...], chains: Sequence[Sequence[str]]) -> Skeleton:
    return Skeleton(
        name=name,
        parts=parts,
        flip_pairs=named_pairs(parts),
        limbs=_limbs(parts, chains),
        torso=named_torso(parts),
        groups=_body_groups(parts),
    )


CPM14 = _body("cpm14", _NET_PARTS, _CHAINS)
"""The networks' 14 parts: head, neck, then arm and leg chains, right before left."""

LSP14 = _body("lsp14", _LSP_PARTS, _CHAINS)
"""LSP and LSP-extended file order."""

MPII16 = _body("mpii16", _MPII_PARTS, (*_CHAINS, ("pelvis", "thorax", "neck")))
"""MPII file order; "neck" is MPII's upper neck, "head" its head top."""

FLIC9 = _body("flic9", _FLIC_PARTS, _CHAINS[1:3])
"""FLIC as the release uses it: nine parts; its "head" is the nose."""

SKELETONS = {skeleton.name: skeleton for skeleton in (CPM14, LSP14, MPII16, FLIC9)}

MPII_TO_CPM14 = permutation(_MPII_PARTS, _NET_PARTS)
"""Our part i takes MPII joint MPII_TO_CPM14[i] (spec `transform.md`, step 2)."""

LSP_TO_CPM14 = permutation(_LSP_PARTS, _NET_PARTS)
"""Our part i is LSP's joint LSP_TO_CPM14[i]."""


def limb_colours(skeleton: Skeleton) -> tuple[tuple[int, int, int], ...]:
    """One BGR colour per limb, evenly spaced around the colour circle so that neighbours differ."""
    return tuple(_hue_to_bgr(index / max(1, len(skeleton.limbs))) for index in range(len(skeleton.limbs)))


def part_colours(skeleton: Skeleton) -> tuple[tuple[int, int, int], ...]:
    """One BGR colour per part, evenly spaced around the colour circle."""
    return tuple(_hue_to_bgr(index / len(skeleton)) for index in range(len(skeleton)))


def _hue_to_bgr(hue: float) -> tuple[int, int, int]:
    """Fully saturated colour of ``hue`` in [0, 1) as 8-bit blue, green, red."""

    def channel(offset: float) -> int:
        distance = abs((hue + offset) % 1.0 - 0.5)  # 0.5 at the channel's own hue, 0 opposite to it
        return round(255 * min(1.0, max(0.0, 6 * distance - 1)))

    return channel(1 / 3), channel(2 / 3), channel(0.0)
