"""Poses of the synthetic people: a jointed body in three dimensions, turned and projected.

Body axes before turning: x towards the person's left, y down, z out of the chest. Lengths are fractions of
the standing height from head top to ankle. A person at turn 0 faces the camera, at 180 degrees faces away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cpm_repro.skeleton import CPM14

_PARTS = {name: index for index, name in enumerate(CPM14.parts)}

HEAD, NECK, SHOULDER_WIDTH, HIP_WIDTH = 0.145, 0.035, 0.215, 0.125
TORSO, UPPER_ARM, FOREARM, THIGH, SHIN = 0.30, 0.165, 0.15, 0.25, 0.255


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the joints of one person are.

    Attributes:
        joints: (14, 2) float64 in units of the standing height, origin at the middle of the hips, x right and
            y down in the picture, parts in the networks' order.
        depth: (14,) float64, larger is nearer to the camera.
        turn: radians; 0 faces the camera.
        lean: radians, clockwise turn of the whole body in the picture plane.
    """

    joints: np.ndarray
    depth: np.ndarray
    turn: float
    lean: float

    @property
    def facing(self) -> float:
        """1 faces the camera, 0 is seen from the side, -1 faces away."""
        return math.cos(self.turn)


def draw_pose(rng: np.random.Generator, back_facing: float, turn_spread: float, spread: float) -> Pose:
    """Draw a mostly upright pose.

    Args:
        rng: source of randomness.
        back_facing: probability of facing away.
        turn_spread: standard deviation of the turn about facing or facing away, degrees.
        spread: multiplies every deviation of the limbs from hanging straight; 1 is moderate.
    """
    turn = math.radians(turn_spread * rng.standard_normal()) + (
        math.pi if rng.random() < back_facing else 0.0
    )
    lean = math.radians(7.0 * spread * rng.standard_normal())
    body = np.zeros((14, 3))
    bend = math.radians(6.0 * spread * rng.standard_normal())
    top = np.array([math.sin(bend), -math.cos(bend), 0.0])
    chest = TORSO * top
    body[_PARTS["neck"]] = chest + NECK * top
    tilt = bend + math.radians(8.0 * spread * rng.standard_normal())
    body[_PARTS["head"]] = body[_PARTS["neck"]] + HEAD * np.array([math.sin(tilt), -math.cos(tilt), 0.0])
    across = np.array([math.cos(bend), math.sin(bend), 0.0])
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = chest + sign * SHOULDER_WIDTH / 2 * across
        elbow_angles, wrist_angles = _arm_angles(rng, spread)
        elbow = shoulder + UPPER_ARM * _direction(sign, *elbow_angles)
        _place(
            body,
            side,
            ("shoulder", "elbow", "wrist"),
            shoulder,
            elbow,
            elbow + FOREARM * _direction(sign, *wrist_angles),
        )
        hip = np.array([sign * HIP_WIDTH / 2, 0.0, 0.0])
        knee_angles, ankle_angles = _leg_angles(rng, spread)
        knee = hip + THIGH * _direction(sign, *knee_angles)
        _place(body, side, ("hip", "knee", "ankle"), hip, knee, knee + SHIN * _direction(sign, *ankle_angles))
    return _project(body, turn, lean)


def _arm_angles(rng: np.random.Generator, spread: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """(abduction, flexion) degrees of the upper arm and of the forearm: hanging, held out, or raised."""
    kind, along, bend, forward, lift = rng.random(5).tolist()
    if kind < 0.6:
        abduction = 8.0 + 30.0 * along * spread
    elif kind < 0.9:
        abduction = 35.0 + 60.0 * along * spread
    else:
        abduction = 110.0 + 50.0 * along
    flexion = (forward * 50.0 - 15.0) * spread
    return (abduction, flexion), (abduction + (bend * 120.0 - 50.0) * spread, flexion + 55.0 * lift * spread)


def _leg_angles(rng: np.random.Generator, spread: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """(abduction, flexion) degrees of thigh and shin: standing or striding, knees bend backwards."""
    out, forward, bend, sway = rng.random(4).tolist()
    abduction = 2.0 + 22.0 * out * spread
    flexion = (forward * 60.0 - 20.0) * spread
    return (abduction, flexion), (abduction + (sway * 16.0 - 10.0) * spread, flexion - 45.0 * bend * spread)


def _direction(sign: float, abduction: float, flexion: float) -> np.ndarray:
    """Unit vector of a limb lifted from hanging: ``abduction`` degrees sideways, ``flexion`` forwards."""
    a, f = math.radians(abduction), math.radians(flexion)
    return np.array([sign * math.sin(a), math.cos(a) * math.cos(f), math.cos(a) * math.sin(f)])


def _place(body: np.ndarray, side: str, names: tuple[str, ...], *points: np.ndarray) -> None:
    for name, point in zip(names, points, strict=True):
        body[_PARTS[f"{side}_{name}"]] = point


def _project(body: np.ndarray, turn: float, lean: float) -> Pose:
    """Turn about the vertical axis, drop depth, lean in the picture plane."""
    x = body[:, 0] * math.cos(turn) + body[:, 2] * math.sin(turn)
    depth = body[:, 2] * math.cos(turn) - body[:, 0] * math.sin(turn)
    cos, sin = math.cos(lean), math.sin(lean)
    joints = np.stack([x * cos - body[:, 1] * sin, x * sin + body[:, 1] * cos], axis=1)
    return Pose(joints, depth, turn, lean)
