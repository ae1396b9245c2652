"""Poses drawn on their images, in the manner of OpenPose: blended elliptic limbs, a dot per joint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from cpm_repro.config import TRUNCATED_BELIEF
from cpm_repro.skeleton import Skeleton, limb_colours, part_colours, wanted_skeleton
from cpm_repro.viz.save import check_image
from cpm_repro.viz.text import BACKGROUND, put_text, text_width

_SHIFT = 4
"""cv2 takes coordinates in 1/16 px, so that small people do not jump to whole pixels."""


def draw_pose(
    image: np.ndarray,
    keypoints: ArrayLike,
    scores: ArrayLike,
    skeleton: Skeleton,
    threshold: float = TRUNCATED_BELIEF,
    enlarge_to: int = 0,
) -> np.ndarray:
    """Draw one person; returns a new picture.

    Args:
        image: (H, W, 3) uint8 BGR.
        keypoints: (K, 2) pixels, 0-based; a joint that is not a number is not drawn.
        scores: (K,) belief of each joint. Up to ``threshold`` a joint is hollow (the release's
            "truncated?"), and its limbs are thin.
        skeleton: names, limbs and colours of the K parts.
        threshold: see ``scores``.
        enlarge_to: smaller images are enlarged until their longer side has so many pixels.
    """
    points, values = np.asarray(keypoints, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    return draw_poses(image, points[None], values[None], skeleton, threshold, enlarge_to)


def draw_poses(
    image: np.ndarray,
    keypoints: ArrayLike,
    scores: ArrayLike,
    skeleton: Skeleton,
    threshold: float = TRUNCATED_BELIEF,
    enlarge_to: int = 0,
) -> np.ndarray:
    """Draw P people: keypoints (P, K, 2), scores (P, K); the rest as in :func:`draw_pose`."""
    check_image("image", image)
    wanted_skeleton(skeleton)
    points, values = np.asarray(keypoints, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if points.ndim != 3 or points.shape[1:] != (len(skeleton), 2):
        raise ValueError(f"keypoints: wanted (people, {len(skeleton)}, 2), got {points.shape}")
    if values.shape != points.shape[:2]:
        raise ValueError(f"scores: wanted {points.shape[:2]}, got {values.shape}")
    canvas, factor = enlarged(image, enlarge_to)
    points = (points + 0.5) * factor - 0.5  # pixel centres stay pixel centres
    for person, value in zip(points, values, strict=True):
        _draw_person(canvas, person, value > threshold, skeleton)
    return canvas


def enlarged(image: np.ndarray, longer_side: int) -> tuple[np.ndarray, float]:
    """A copy of ``image``, enlarged until its longer side has ``longer_side`` pixels; and the factor."""
    import cv2

    factor = max(1.0, longer_side / max(image.shape[:2]))
    if factor == 1.0:
        return image.copy(), 1.0
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)), factor


def legend(skeleton: Skeleton, height: int) -> np.ndarray:
    """A panel (height, W, 3) uint8 BGR that names the colour of every part."""
    import cv2

    wanted_skeleton(skeleton)
    size = int(np.clip(height / (1.7 * len(skeleton) + 1), 9, 20))
    names = [part.replace("_", " ") for part in skeleton.parts]
    panel = np.empty((height, max(text_width(name, size) for name in names) + 4 * size, 3), np.uint8)
    panel[:] = BACKGROUND
    step = min(1.7 * size, height / (len(names) + 0.5))
    for index, (name, colour) in enumerate(zip(names, part_colours(skeleton), strict=True)):
        y = round(step * (index + 0.75))
        cv2.circle(panel, (int(1.3 * size), y), int(0.42 * size), colour, -1, cv2.LINE_AA)
        put_text(panel, name, int(2.4 * size), y, size)
    return panel


def _draw_person(canvas: np.ndarray, points: np.ndarray, sure: np.ndarray, skeleton: Skeleton) -> None:
    known = np.isfinite(points).all(axis=1)
    if not known.any():
        return
    width = _limb_width(points[known], canvas.shape)
    for (a, b), colour in zip(skeleton.limbs, limb_colours(skeleton), strict=True):
        if known[a] and known[b]:
            both = bool(sure[a] and sure[b])
            _draw_limb(
                canvas, points[a], points[b], width if both else width / 3, colour, 0.6 if both else 0.4
            )
    for point, colour, is_known, is_sure in zip(points, part_colours(skeleton), known, sure, strict=True):
        if is_known:
            _draw_joint(canvas, point, 1.15 * width, colour, hollow=not is_sure)


def _limb_width(points: np.ndarray, shape: Sequence[int]) -> float:
    """Half the width of a limb: a share of the person's extent, within limits set by the picture's size."""
    extent = float(np.max(points.max(axis=0) - points.min(axis=0)))
    longer = max(shape[:2])
    return float(np.clip(0.016 * extent, max(1.5, 0.004 * longer), max(2.0, 0.014 * longer)))


def _draw_limb(
    canvas: np.ndarray, a: np.ndarray, b: np.ndarray, width: float, colour: Sequence[int], opacity: float
) -> None:
    """Blend a filled ellipse from ``a`` to ``b`` into the canvas."""
    import cv2

    outline = _ellipse((a + b) / 2, max(float(np.linalg.norm(b - a)) / 2, width), width, b - a)
    low = np.floor(outline.min(axis=0)).astype(int) - 1
    high = np.ceil(outline.max(axis=0)).astype(int) + 2
    x0, y0 = np.maximum(low, 0)
    x1, y1 = np.minimum(high, (canvas.shape[1], canvas.shape[0]))
    if x0 >= x1 or y0 >= y1:
        return  # the limb lies outside the picture
    patch = canvas[y0:y1, x0:x1]
    painted = patch.copy()
    cv2.fillConvexPoly(painted, _fixed(outline - (x0, y0)), tuple(colour), cv2.LINE_AA, _SHIFT)
    cv2.addWeighted(painted, opacity, patch, 1 - opacity, 0, dst=patch)


def _ellipse(center: np.ndarray, along: float, across: float, direction: np.ndarray) -> np.ndarray:
    """(64, 2) points of an ellipse whose long axis has ``direction``."""
    turn = np.arctan2(direction[1], direction[0])
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x, y = along * np.cos(t), across * np.sin(t)
    rotated = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1)
    return np.asarray(center + rotated)


def _draw_joint(
    canvas: np.ndarray, point: np.ndarray, radius: float, colour: Sequence[int], *, hollow: bool
) -> None:
    """A dot with a dark edge; a ring when the joint is not sure. Points far outside are not drawn."""
    import cv2

    if not (
        -radius <= point[0] <= canvas.shape[1] + radius and -radius <= point[1] <= canvas.shape[0] + radius
    ):
        return
    x, y = (int(value) for value in _fixed(point))
    edge = max(1, round(radius / 4))

    def circle(r: float, paint: Sequence[int], thickness: int) -> None:
        cv2.circle(canvas, (x, y), max(1, round(r * 2**_SHIFT)), tuple(paint), thickness, cv2.LINE_AA, _SHIFT)

    if hollow:
        circle(1.25 * radius + edge, (0, 0, 0), edge)
        circle(1.25 * radius, colour, edge)
    else:
        circle(radius + edge / 2, (0, 0, 0), -1)
        circle(radius - edge / 2, colour, -1)


def _fixed(points: np.ndarray) -> np.ndarray:
    """Coordinates as cv2's fixed-point integers."""
    return np.asarray(np.round(points * 2**_SHIFT).astype(np.int32))
