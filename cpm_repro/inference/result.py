"""What an estimator gives: people, their joints, and ways to write them down."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.config import TRUNCATED_BELIEF
from cpm_repro.files import write_json
from cpm_repro.skeleton import Skeleton


@dataclass(frozen=True, eq=False)  # each is equal to itself alone: arrays have no one answer
class Person:
    """One estimated person; image pixels, 0-based, x right, y down."""

    keypoints: np.ndarray  # (K, 2) float64
    scores: np.ndarray  # (K,) float32: height of each part's highest belief
    names: tuple[str, ...]
    center: tuple[float, float]
    extent: float  # the longer side of the person's box, px
    assumed: str = ""  # what was assumed of centre and extent; empty when they were given
    detection: float | None = None  # height of the detector's peak; None where no detector was asked
    crop: np.ndarray | None = field(default=None, repr=False)  # (S, S, 3) uint8: what the network saw
    belief_maps: tuple[np.ndarray, ...] = field(default=(), repr=False)  # per stage (K+1, h, w), on request;
    # of several views their average, enlarged to the crop's pixels
    crop_to_image: np.ndarray | None = field(default=None, repr=False)  # (2, 3): crop to image pixels

    @property
    def scale(self) -> float:
        """The person's size as MPII states it: extent over 200 px."""
        return self.extent / 200.0

    @property
    def truncated(self) -> np.ndarray:
        """(K,) bool: parts that are most likely outside the image, by the release's rule."""
        return np.asarray(self.scores <= TRUNCATED_BELIEF)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the square with the person's centre and extent."""
        (x, y), half = self.center, self.extent / 2
        return x - half, y - half, x + half, y + half

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: names, coordinates rounded to 1/100 px, scores."""
        return {
            "keypoints": [
                {
                    "name": name,
                    "x": round(float(x), 2),
                    "y": round(float(y), 2),
                    "score": round(float(score), 4),
                    "truncated": bool(truncated),
                }
                for name, (x, y), score, truncated in zip(
                    self.names, self.keypoints, self.scores, self.truncated, strict=True
                )
            ],
            "center": [round(float(value), 2) for value in self.center],
            "extent": round(float(self.extent), 2),
            "scale": round(float(self.scale), 4),
            "assumed": self.assumed,
            "detection": None if self.detection is None else round(self.detection, 4),
        }


class People(list[Person]):
    """The people found in one image: a list that can be saved and drawn.

    Of a video's frame, ``frame`` is its 0-based number and ``time`` its seconds.
    """

    def __init__(
        self,
        people: list[Person],
        image: np.ndarray,
        skeleton: Skeleton,
        source: str = "",
        frame: int | None = None,
        time: float | None = None,
    ) -> None:
        super().__init__(people)
        self.image = image  # (H, W, 3) uint8 BGR
        self.skeleton = skeleton
        self.source = source
        self.frame = frame
        self.time = time

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description of the image's people."""
        height, width = self.image.shape[:2]
        return {
            "image": self.source,
            **({} if self.frame is None else {"frame": self.frame, "time": round(self.time or 0.0, 4)}),
            "width": width,
            "height": height,
            "coordinates": "pixels, 0-based, x right, y down",
            "skeleton": self.skeleton.name,
            "limbs": [list(limb) for limb in self.skeleton.limbs],
            "people": [person.to_dict() for person in self],
        }

    def save_json(self, path: str | Path) -> None:
        """Write :meth:`to_dict` as JSON, atomically."""
        write_json(path, self.to_dict())

    def draw(self, longer_side: int = 640) -> np.ndarray:
        """The image with everybody's limbs and parts: (H', W', 3) uint8 BGR, enlarged to ``longer_side``."""
        from cpm_repro.viz import draw_poses  # drawing is needed by few callers

        count, parts = len(self), len(self.skeleton)
        keypoints = np.array([person.keypoints for person in self]).reshape(count, parts, 2)
        scores = np.array([person.scores for person in self]).reshape(count, parts)
        return draw_poses(self.image, keypoints, scores, self.skeleton, enlarge_to=longer_side)
