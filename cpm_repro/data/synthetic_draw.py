"""Drawing the synthetic people, their surroundings and what stands in front of them.

Both arms of a person look alike, and both legs: which is the left one shows only far away, in which way the
head (face or hair) and the chest (neckline, buttons, a badge in the middle; or a plain back) are turned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cpm_repro.data.synthetic_body import Pose
from cpm_repro.skeleton import CPM14

Colour = tuple[int, int, int]

_SHIFT = 4  # OpenCV draws at 1/16 pixel
_ONE = 1 << _SHIFT
_PART = {name: index for index, name in enumerate(CPM14.parts)}

_SKIN = ((140, 180, 228), (120, 160, 210), (95, 135, 190), (70, 105, 160), (50, 75, 120), (160, 195, 235))
_HAIR = ((25, 30, 40), (40, 55, 80), (50, 85, 130), (85, 140, 185), (110, 115, 120), (30, 45, 100))

# Limb widths as fractions of the standing height.
_UPPER_ARM, _FOREARM, _THIGH, _SHIN, _TRUNK, _NECK = 0.062, 0.05, 0.088, 0.066, 0.06, 0.06


@dataclass(frozen=True, slots=True)
class Look:
    """What a person wears; one value for both sides of everything."""

    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour
    shoes: Colour
    stripe: Colour | None
    long_sleeves: bool
    long_trousers: bool
    chest: int
    """0 plain in front too, 1 buttons, 2 badge, 3 open neckline."""


def draw_look(rng: np.random.Generator) -> Look:
    """Draw clothes and colours."""
    pick = rng.integers(0, (len(_SKIN), len(_HAIR), 2, 3, 4, 3))
    colours = rng.integers(20, 236, size=(4, 3)).tolist()
    return Look(
        skin=_SKIN[pick[0]],
        hair=_HAIR[pick[1]],
        shirt=tuple(colours[0]),
        trousers=tuple(colours[1]),
        shoes=tuple(c // 2 for c in colours[2]),
        stripe=tuple(colours[3]) if pick[5] == 0 else None,
        long_sleeves=bool(pick[2]),
        long_trousers=bool(pick[3]),
        chest=int(pick[4]),
    )


def draw_background(rng: np.random.Generator, height: int, width: int, clutter: int) -> np.ndarray:
    """(height, width, 3) uint8: a smooth two-colour field with ``clutter`` bars, blobs and boxes on it."""
    base = rng.integers(60, 200, size=3)
    coarse = np.clip(base + rng.integers(-45, 46, size=(4, 4, 3)), 0, 255).astype(np.uint8)
    # Smooth in two steps: OpenCV's cubic enlargement costs several times its linear one.
    smooth = cv2.resize(coarse, (width // 4, height // 4), interpolation=cv2.INTER_CUBIC)
    image = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    for _ in range(clutter):
        draw_object(image, rng, (rng.random(2) * (width, height)), rng.uniform(6, 34))
    return image


def draw_object(image: np.ndarray, rng: np.random.Generator, at: np.ndarray, size: float) -> np.ndarray:
    """Draw a random bar, ellipse or box of about ``size`` px at ``at`` (x, y).

    Returns its outline (M, 2) float32.
    """
    kind = int(rng.integers(3))
    colour = tuple(rng.integers(20, 236, size=3).tolist())
    angle = float(rng.uniform(0, 180))
    ratio = (0.25, 0.8, 0.6)[kind]
    half = (size, size * ratio)
    if kind == 1:
        circle = cv2.ellipse2Poly((0, 0), (64, max(1, round(64 * ratio))), round(angle), 0, 360, 20)
        outline = np.asarray(circle) * (size / 64)
    else:
        outline = np.asarray(cv2.boxPoints(((0.0, 0.0), (2 * half[0], 2 * half[1]), angle)))
    outline = (outline + at).astype(np.float32)
    cv2.fillConvexPoly(image, _fixed(outline), colour, cv2.LINE_AA, _SHIFT)
    return outline


def add_grain(image: np.ndarray, rng: np.random.Generator, strength: int) -> np.ndarray:
    """Add uniform pixel noise of about ± ``strength`` levels."""
    if strength <= 0:
        return image
    noise = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    noise = ((noise.astype(np.uint16) * (2 * strength + 1)) >> 8).astype(np.uint8)
    return np.asarray(cv2.subtract(cv2.add(image, noise), np.array((strength,) * 3 + (0,), np.float64)))


def draw_person(
    image: np.ndarray, pose: Pose, joints: np.ndarray, height: float, look: Look, front: float
) -> None:
    """Paint one person.

    Args:
        image: (H, W, 3) uint8, changed in place.
        pose: depth order and turn.
        joints: (14, 2) pixels.
        height: standing height in pixels.
        look: clothes.
        front: how strongly the face and the chest differ from the back, 0 (not at all) to 1.
    """
    pieces = [(_depth(pose, "neck", "left_hip") + 0.01, "trunk"), (pose.depth[_PART["neck"]], "head")]
    for side in ("left", "right"):
        pieces.append((_depth(pose, f"{side}_shoulder", f"{side}_wrist"), f"{side}_arm"))
        pieces.append((_depth(pose, f"{side}_hip", f"{side}_ankle") - 0.05, f"{side}_leg"))
    for _, piece in sorted(pieces):
        if piece == "trunk":
            _draw_trunk(image, pose, joints, height, look, front)
        elif piece == "head":
            _draw_head(image, pose, joints, height, look, front)
        elif piece.endswith("arm"):
            _draw_arm(image, joints, piece.split("_")[0], height, look)
        else:
            _draw_leg(image, joints, piece.split("_")[0], height, look)


def _depth(pose: Pose, *parts: str) -> float:
    return float(np.mean([pose.depth[_PART[part]] for part in parts]))


def _draw_arm(image: np.ndarray, joints: np.ndarray, side: str, height: float, look: Look) -> None:
    shoulder, elbow, wrist = (joints[_PART[f"{side}_{name}"]] for name in ("shoulder", "elbow", "wrist"))
    sleeve = look.shirt if look.long_sleeves else look.skin
    hand = wrist + 0.22 * (wrist - elbow)
    _capsule(image, wrist, hand, 0.9 * _FOREARM * height, look.skin)
    _capsule(image, elbow, wrist, _FOREARM * height, sleeve)
    if look.long_sleeves:
        _bands(image, elbow, wrist, _FOREARM * height, look.stripe)
    _capsule(image, shoulder, elbow, _UPPER_ARM * height, look.shirt)
    _bands(image, shoulder, elbow, _UPPER_ARM * height, look.stripe)
    if not look.long_sleeves:
        _capsule(image, shoulder + 0.65 * (elbow - shoulder), elbow, _FOREARM * height, look.skin)


def _draw_leg(image: np.ndarray, joints: np.ndarray, side: str, height: float, look: Look) -> None:
    hip, knee, ankle = (joints[_PART[f"{side}_{name}"]] for name in ("hip", "knee", "ankle"))
    lower = look.trousers if look.long_trousers else look.skin
    foot = ankle + 0.14 * (ankle - knee)
    _capsule(image, ankle, foot, 1.05 * _SHIN * height, look.shoes)
    _capsule(image, knee, ankle, _SHIN * height, lower)
    _capsule(image, hip, knee, _THIGH * height, look.trousers)


def _draw_trunk(
    image: np.ndarray, pose: Pose, joints: np.ndarray, height: float, look: Look, front: float
) -> None:
    corners = [joints[_PART[n]] for n in ("right_shoulder", "left_shoulder", "left_hip", "right_hip")]
    hips = corners[2:]
    width = _TRUNK * height
    neck = joints[_PART["neck"]]
    collar = (corners[0] + corners[1]) / 2
    waist = (hips[0] + hips[1]) / 2
    _capsule(image, hips[0], hips[1], 1.5 * width, look.trousers)
    _capsule(image, collar, neck, _NECK * height, look.skin, shade=False)
    outline = np.stack([corners[0], corners[1], *hips])
    cv2.fillConvexPoly(image, _fixed(outline), look.shirt, cv2.LINE_AA, _SHIFT)
    for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
        _capsule(image, a, b, width, look.shirt, shade=False)
    if look.stripe is not None:
        for at in (0.3, 0.5, 0.7):
            left, right = (
                (corners[1] + at * (hips[0] - corners[1])),
                (corners[0] + at * (hips[1] - corners[0])),
            )
            _line(image, left, right, 0.022 * height, look.stripe)
    if pose.facing > 0.25:
        _draw_chest(image, pose, collar, waist, height, look, front)


def _draw_chest(
    image: np.ndarray,
    pose: Pose,
    collar: np.ndarray,
    waist: np.ndarray,
    height: float,
    look: Look,
    front: float,
) -> None:
    """What a shirt has in front, on the middle line so that it does not itself mark a side."""
    down = waist - collar
    aside = np.array([-down[1], down[0]]) / max(1e-6, float(np.hypot(*down)))
    middle = collar - aside * np.sin(pose.turn) * 0.05 * height
    ink = tuple(round(s + front * ((250 if sum(look.shirt) < 384 else 15) - s)) for s in look.shirt)
    if look.chest == 1:
        for at in (0.2, 0.42, 0.64, 0.86):
            _dot(image, middle + at * down, 0.011 * height, ink)
    elif look.chest == 2:
        _line(image, middle + 0.28 * down, middle + 0.42 * down, 0.05 * height, ink)
    elif look.chest == 3:
        skin = tuple(round(s + front * (k - s)) for s, k in zip(look.shirt, look.skin, strict=True))
        tip = np.stack(
            [
                middle - 0.05 * height * aside - 0.1 * down,
                middle + 0.05 * height * aside - 0.1 * down,
                middle + 0.28 * down,
            ]
        )
        cv2.fillConvexPoly(image, _fixed(tip), skin, cv2.LINE_AA, _SHIFT)


def _draw_head(
    image: np.ndarray, pose: Pose, joints: np.ndarray, height: float, look: Look, front: float
) -> None:
    top, neck = joints[_PART["head"]], joints[_PART["neck"]]
    up = (top - neck) / max(1e-6, float(np.hypot(*(top - neck))))
    right = np.array([-up[1], up[0]])
    middle, angle = (top + neck) / 2, float(np.degrees(np.arctan2(up[1], up[0]))) + 90.0
    tall, wide = 0.078 * height, 0.06 * height
    _ellipse(image, middle, (wide, tall), angle, look.hair)
    towards = pose.facing
    if towards < -0.3:
        return
    # The face slides round the head as it turns and leaves a cap of hair above it.
    span = wide * (0.55 + 0.33 * min(1.0, towards + 0.3))
    face = middle - up * 0.16 * tall + right * np.sin(pose.turn) * (wide - span)
    skin = tuple(round(h + front * (s - h)) for h, s in zip(look.hair, look.skin, strict=True))
    _ellipse(image, face, (span, 0.8 * tall), angle, skin)
    gaze = face + right * np.sin(pose.turn) * 0.35 * span + up * 0.15 * tall
    dark = tuple(round((1 - front) * s + front * s * 0.3) for s in skin)
    for eye in (-1.0, 1.0):
        _dot(image, gaze + right * eye * 0.4 * span, 0.012 * height, dark)
    _line(
        image,
        face - up * 0.4 * tall - right * 0.25 * span,
        face - up * 0.4 * tall + right * 0.25 * span,
        0.012 * height,
        dark,
    )


def _capsule(
    image: np.ndarray, a: np.ndarray, b: np.ndarray, width: float, colour: Colour, shade: bool = True
) -> None:
    """A thick line with round ends, darker at its rim so that it looks round and stands out from its like."""
    if shade:
        _line(image, a, b, width, tuple(round(0.72 * c) for c in colour))
        _line(image, a, b, 0.66 * width, colour)
    else:
        _line(image, a, b, width, colour)


def _bands(image: np.ndarray, a: np.ndarray, b: np.ndarray, width: float, colour: Colour | None) -> None:
    """Stripes across a limb."""
    if colour is None:
        return
    along = b - a
    across = np.array([-along[1], along[0]]) / max(1e-6, float(np.hypot(*along))) * (0.3 * width)
    for at in (0.35, 0.65):
        _line(image, a + at * along - across, a + at * along + across, 0.3 * width, colour)


def _line(image: np.ndarray, a: np.ndarray, b: np.ndarray, width: float, colour: Sequence[int]) -> None:
    """A line of fractional width: OpenCV's own thickness is whole pixels and would jump between scales."""
    ax, ay = (a * _ONE).tolist()  # plain floats: this runs some fifty times a picture
    bx, by = (b * _ONE).tolist()
    half = width * _ONE / 2
    length = math.hypot(bx - ax, by - ay)
    if length > half / 8:
        nx, ny = (ay - by) * half / length, (bx - ax) * half / length
        corners = ((ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny), (ax - nx, ay - ny))
        outline = np.array([(round(x), round(y)) for x, y in corners], np.int32)
        cv2.fillConvexPoly(image, outline, colour, cv2.LINE_AA, _SHIFT)
    if width >= 3.0:
        cv2.circle(image, (round(ax), round(ay)), round(half), colour, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(image, (round(bx), round(by)), round(half), colour, -1, cv2.LINE_AA, _SHIFT)


def _dot(image: np.ndarray, at: np.ndarray, radius: float, colour: Sequence[int]) -> None:
    cv2.circle(image, _point(at), max(1, round(radius * _ONE)), colour, -1, cv2.LINE_AA, _SHIFT)


def _ellipse(
    image: np.ndarray, at: np.ndarray, axes: tuple[float, float], angle: float, colour: Sequence[int]
) -> None:
    size = (max(1, round(axes[0] * _ONE)), max(1, round(axes[1] * _ONE)))
    cv2.ellipse(image, _point(at), size, angle, 0, 360, colour, -1, cv2.LINE_AA, _SHIFT)


def _point(at: np.ndarray) -> tuple[int, int]:
    return round(float(at[0]) * _ONE), round(float(at[1]) * _ONE)


def _fixed(points: np.ndarray) -> np.ndarray:
    """(M, 2) pixels to the fixed-point integers that OpenCV's drawing takes with ``shift``."""
    return np.rint(np.asarray(points) * _ONE).astype(np.int32)
