"""Steadier joints over time: the one-euro filter, one per joint and person.

Casiez, Roussel, Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
Systems", CHI 2012: a first-order low-pass whose cut-off frequency grows with speed, so that a joint at rest
does not tremble and one that moves does not lag.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.inference.result import Person

CUTOFF = 1.0
"""Hz: the cut-off of a joint at rest. Lower is steadier, and slower to start moving."""

BETA = 2.0
"""How many Hz the cut-off grows by for a speed of one person's extent per second."""

SPEED_CUTOFF = 1.0
"""Hz: of the low-pass on the speed itself."""


class OneEuro:
    """The filter, on an array of values at once.

    Args:
        cutoff: Hz at rest. beta: Hz more for a speed of one per second.
    """

    def __init__(self, cutoff: float = CUTOFF, beta: float = BETA) -> None:
        if not (cutoff > 0 and beta >= 0 and math.isfinite(cutoff + beta)):
            raise ValueError(f"one-euro filter: wanted cutoff > 0 and beta >= 0, got {cutoff} and {beta}")
        self.cutoff, self.beta = cutoff, beta
        self._value: np.ndarray | None = None
        self._speed = np.zeros(1)

    def __call__(self, value: np.ndarray, seconds: float, fresh: np.ndarray | None = None) -> np.ndarray:
        """The filtered value.

        Args:
            value: (...) float64.
            seconds: since the last call; the first call's value passes as it is.
            fresh: (...) bool: where the filter begins anew with this value.
        """
        if self._value is None or seconds <= 0:
            self._value, self._speed = value.copy(), np.zeros_like(value)
            return value.copy()
        begin = np.zeros(value.shape, bool) if fresh is None else fresh
        speed = (value - self._value) / seconds
        speed = self._speed + _share(SPEED_CUTOFF, seconds) * (speed - self._speed)
        self._speed = np.where(begin, 0.0, speed)
        share = _share(self.cutoff + self.beta * np.abs(self._speed), seconds)
        self._value = np.where(begin, value, self._value + share * (value - self._value))
        return self._value.copy()


@dataclass
class _Track:
    filter: OneEuro
    person: Person  # as last seen, not smoothed
    unsure: np.ndarray
    time: float


class PoseSmoother:
    """Smooths the joints of the people of one video, frame by frame.

    A person is the one of the last frame whose joints are nearest, if that is within half the person's
    extent; others begin anew. Joints that are likely out of the image are left as they are, and their
    filters begin anew when they come back.

    Args:
        cutoff, beta: see :class:`OneEuro`; speed is measured in the person's extent, so that neither the
            picture's size nor the distance matters.
    """

    def __init__(self, cutoff: float = CUTOFF, beta: float = BETA) -> None:
        OneEuro(cutoff, beta)  # refuses bad numbers now
        self._settings = (cutoff, beta)
        self._tracks: list[_Track] = []

    def __call__(self, people: Sequence[Person], time: float) -> list[Person]:
        """The people of the frame at ``time`` (seconds), with smoothed key points."""
        old = list(self._tracks)
        self._tracks = []
        result = []
        for person in people:
            track = _nearest(person, old)
            if track is None:
                track = _Track(OneEuro(*self._settings), person, person.truncated, time)
            else:
                old = [other for other in old if other is not track]
            fresh = np.repeat((track.unsure | person.truncated)[:, None], 2, axis=1)
            track.filter.beta = self._settings[1] / person.extent
            smooth = track.filter(person.keypoints, time - track.time, fresh)
            track.person, track.unsure, track.time = person, person.truncated, time
            self._tracks.append(track)
            result.append(replace(person, keypoints=smooth))
        return result


def as_smoother(given: object) -> PoseSmoother | None:
    """A smoother, a new one for True, or None for False.

    Raises:
        UserError: something else, such as the cut-off alone.
    """
    if isinstance(given, PoseSmoother):
        return given
    if given is None or isinstance(given, bool | np.bool_):
        return PoseSmoother() if given else None
    raise UserError(f"smooth: wanted True, False or a PoseSmoother(cutoff=...), got {given!r:.80}")


def _share(cutoff: float | np.ndarray, seconds: float) -> float | np.ndarray:
    """How much of a step a first-order low-pass of that cut-off takes in so many seconds."""
    turn = 2 * math.pi * cutoff * seconds
    return turn / (turn + 1)


def _nearest(person: Person, tracks: Sequence[_Track]) -> _Track | None:
    """The track of the same person: the nearest by the median distance of joints, within reach."""
    if not tracks:
        return None
    distances = [
        float(np.median(np.linalg.norm(track.person.keypoints - person.keypoints, axis=1)))
        for track in tracks
    ]
    best = int(np.argmin(distances))
    return tracks[best] if distances[best] <= person.extent / 2 else None
