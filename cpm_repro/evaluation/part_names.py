"""Joint names as files spell them, and arrays brought from one order into another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.skeleton import SKELETONS, Skeleton, skeleton_from_names

_SHORT = {
    "sho": "shoulder",
    "elb": "elbow",
    "wri": "wrist",
    "hip": "hip",
    "kne": "knee",
    "ank": "ankle",
    "eye": "eye",
}


def part_name(name: str) -> str:
    """Our name of a part: "Rsho", "r_sho", "right_shoulder" are one; FLIC's "nose" is called head."""
    plain = name.strip().lower().replace(" ", "_")
    side = {"r": "right", "l": "left"}.get(plain[:1], "")
    short = plain[1:].lstrip("_")
    if side and short in _SHORT:
        return f"{side}_{_SHORT[short]}"
    return {"nose": "head", "head_top": "head", "upper_neck": "neck"}.get(plain, plain)


def part_names(names: Iterable[str], source: str) -> tuple[str, ...]:
    """Our names of all parts of a file; a UserError when two are the same part."""
    parts = tuple(part_name(str(name)) for name in names)
    if len(set(parts)) != len(parts):
        raise UserError(f"{source}: joint names must differ, got {', '.join(parts)}")
    return parts


def reordered(
    positions: np.ndarray,
    parts: Sequence[str],
    wanted: Sequence[str],
    source: str,
    optional: Sequence[str] = (),
) -> np.ndarray:
    """(N, K, ...) of ``parts`` as (N, len(wanted), ...) of ``wanted``.

    Parts nobody wants are dropped; an ``optional`` part that is not there becomes NaN.

    Raises:
        UserError: a wanted part is not there.
    """
    missing = [part for part in wanted if part not in parts and part not in optional]
    if missing:
        raise UserError(f"{source}: wanted the parts {', '.join(wanted)}; missing: {', '.join(missing)}")
    result = np.full((len(positions), len(wanted), *positions.shape[2:]), np.nan)
    for index, part in enumerate(wanted):
        if part in parts:
            result[:, index] = positions[:, list(parts).index(part)]
    return result


def skeleton_of(parts: Sequence[str]) -> Skeleton:
    """The known skeleton of exactly these parts in this order, or one made of the names alone."""
    parts = tuple(parts)
    for skeleton in SKELETONS.values():
        if skeleton.parts == parts:
            return skeleton
    return skeleton_from_names("file", parts)
