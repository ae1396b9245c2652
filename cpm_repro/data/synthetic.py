"""The built-in data set: jointed people drawn on the fly, no files needed.

It is a task that needs what the paper is about: the left and the right limb look alike where they are, and
only evidence far away (which way head and chest face) tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cpm_repro.data.sample import PoseSample, center_and_extent
from cpm_repro.data.synthetic_body import draw_pose
from cpm_repro.data.synthetic_draw import add_grain, draw_background, draw_look, draw_object, draw_person
from cpm_repro.skeleton import CPM14, Skeleton, Visibility


@dataclass(frozen=True)
class SyntheticConfig:
    """How hard the synthetic task is.

    Attributes:
        image: side of the square picture, pixels.
        height_min, height_max: standing height of the annotated person, pixels.
        back_facing: probability of facing away from the camera.
        turn_spread: standard deviation about facing or facing away, degrees.
        pose_spread: multiplies all limb angles' deviations.
        front: how clearly face and chest differ from hair and back, 0 to 1.
        others: probability of each of two possible other people.
        occluders: probability of one object in front of the annotated person.
        clutter: most objects in the background.
        grain: pixel noise, levels.
    """

    image: int = 176
    height_min: float = 100.0
    height_max: float = 124.0
    back_facing: float = 0.45
    turn_spread: float = 18.0
    pose_spread: float = 0.8
    front: float = 1.0
    others: float = 0.25
    occluders: float = 0.2
    clutter: int = 7
    grain: int = 8


TRAIN_SIZE, VAL_SIZE = 100_000, 500
_SPLIT_STREAM = {"train": 1, "val": 2}


class SyntheticDataset:
    """Virtual people, drawn when asked for: sample ``index`` is a pure function of (seed, split, index).

    Args:
        split: "train" or "val"; their random streams are disjoint.
        seed: non-negative.
        size: number of samples; default 100,000 for training and 500 for validation.
        config: difficulty.
    """

    def __init__(
        self, split: str, seed: int = 0, size: int | None = None, config: SyntheticConfig | None = None
    ) -> None:
        if split not in _SPLIT_STREAM:
            raise ValueError(f"split: expected 'train' or 'val', got {split!r}")
        if seed < 0:
            raise ValueError(f"seed: expected at least 0, got {seed}")
        self._split, self._seed, self._config = split, seed, config or SyntheticConfig()
        self._size = size if size is not None else (TRAIN_SIZE if split == "train" else VAL_SIZE)

    @property
    def name(self) -> str:
        """Name in tables."""
        return "synthetic"

    @property
    def skeleton(self) -> Skeleton:
        """The networks' 14 parts."""
        return CPM14

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> PoseSample:
        if not 0 <= index < self._size:
            raise IndexError(f"index: expected 0 to {self._size - 1}, got {index}")
        key = np.random.SeedSequence((self._seed, _SPLIT_STREAM[self._split], index))
        return render(
            np.random.Generator(np.random.Philox(key)), self._config, f"synthetic/{self._split}/{index}"
        )


def render(rng: np.random.Generator, config: SyntheticConfig, name: str) -> PoseSample:
    """Draw one picture and its annotation."""
    side = config.image
    image = draw_background(rng, side, side, int(rng.integers(0, config.clutter + 1)))
    people = [_Figure(rng, config, other=False)]
    people += [_Figure(rng, config, other=True) for _ in range(2) if rng.random() < config.others]
    in_front = [rng.random() < 0.3 for _ in people[1:]]
    behind = [p for p, near in zip(people[1:], in_front, strict=True) if not near]
    before = [p for p, near in zip(people[1:], in_front, strict=True) if near]
    for figure in (*behind, people[0], *before):
        figure.paint(image, config.front)
    joints = np.stack([figure.joints for figure in people]).astype(np.float32)
    visible = np.full(joints.shape[:2], Visibility.VISIBLE, np.uint8)
    if rng.random() < config.occluders:
        at = joints[0, rng.integers(2, 14)] + rng.normal(0, 4, size=2)
        outline = draw_object(image, rng, at, float(rng.uniform(7, 13)))
        for p, k in np.ndindex(*visible.shape):
            if cv2.pointPolygonTest(outline, joints[p, k].tolist(), False) >= 0:
                visible[p, k] = Visibility.OCCLUDED
    outside = ((joints < 0) | (joints > side - 1)).any(axis=2)
    visible[outside] = Visibility.CROPPED
    center, extent = center_and_extent(joints[0], visible[0])
    image = add_grain(image, rng, config.grain)
    return PoseSample(image, joints, visible, center, extent, name, people[0].height / 200)


class _Figure:
    """A person with pose, place and clothes, not yet painted."""

    def __init__(self, rng: np.random.Generator, config: SyntheticConfig, other: bool) -> None:
        self.pose = draw_pose(rng, config.back_facing, config.turn_spread, config.pose_spread)
        self.height = float(rng.uniform(config.height_min, config.height_max)) * (0.9 if other else 1.0)
        self.look = draw_look(rng)
        points = self.pose.joints * self.height
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        place = np.array([config.image / 2, config.image / 2]) + rng.uniform(-8, 8, size=2)
        if other:  # beside the annotated person, mostly not on top
            place[0] += (1 if rng.random() < 0.5 else -1) * rng.uniform(0.38, 0.7) * self.height
        self.joints = points - middle + place

    def paint(self, image: np.ndarray, front: float) -> None:
        """Draw the person into ``image``."""
        draw_person(image, self.pose, self.joints, self.height, self.look, front)
