"""Joint names as files spell them, and arrays brought from one order into another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

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

_INSTEAD = {"head": ("head_top", "nose"), "neck": ("upper_neck",)}
"""What a file may call a part of ours, the nearest first; FLIC's head is the nose."""


def part_name(name: str) -> str:
    """Our name of a part: "Rsho", "r_sho", "right_shoulder" are one."""
    plain = name.strip().lower().replace(" ", "_")
    side = {"r": "right", "l": "left"}.get(plain[:1], "")
    short = plain[1:].lstrip("_")
    if side and short in _SHORT:
        return f"{side}_{_SHORT[short]}"
    return plain


def part_names(names: Iterable[str], source: str) -> tuple[str, ...]:
    """Our names of all parts of a file; a UserError when two are the same part."""
    parts = tuple(part_name(str(name)) for name in names)
    if len(set(parts)) != len(parts):
        raise UserError(f"{source}: joint names must differ, got {', '.join(parts)}")
    return parts


def place_of(part: str, parts: Sequence[str]) -> int | None:
    """Index of ``part`` among a file's ``parts``, or of what stands for it there; None where it is not."""
    found = next((name for name in (part, *_INSTEAD.get(part, ())) if name in parts), None)
    return None if found is None else list(parts).index(found)


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
    places = {part: place_of(part, parts) for part in wanted}
    missing = [part for part, place in places.items() if place is None and part not in optional]
    if missing:
        raise UserError(f"{source}: wanted the parts {', '.join(wanted)}; missing: {', '.join(missing)}")
    result = np.full((len(positions), len(wanted), *positions.shape[2:]), np.nan)
    for index, part in enumerate(wanted):
        if (place := places[part]) is not None:
            result[:, index] = positions[:, place]
    return result


def skeleton_of(parts: Sequence[str], torso: Sequence[str] | None = None) -> Skeleton:
    """The known skeleton of exactly these parts in this order, or one made of the names alone.

    A ``torso`` of two of the parts is what distances are divided by.
    """
    parts = tuple(parts)
    if torso is not None:
        ends = (parts.index(torso[0]), parts.index(torso[1]))
        return replace(skeleton_of(parts), torso=ends)
    for skeleton in SKELETONS.values():
        if skeleton.parts == parts:
            return skeleton
    return skeleton_from_names("file", parts)


def skeleton_arrays(skeleton: Skeleton, extent: np.ndarray) -> dict[str, np.ndarray]:
    """What a file of predictions says of the body, for whoever scores the file alone.

    ``extent`` (N,) px goes with a body without a torso: what its distances are divided by.
    """
    arrays = {"parts": np.array(skeleton.parts)}
    if skeleton.torso is not None:
        arrays["torso"] = np.array([skeleton.parts[end] for end in skeleton.torso])
    else:
        arrays["extent"] = extent
    return arrays
