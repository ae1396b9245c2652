"""What a video's container says of its frames, and how far that can be believed."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import cv2

CLOCKLIKE = 60.0
"""Frames per second beyond which a rate may be the clock's in which a container states its times: browsers
record WebM of 1000."""

_LOOKED_AT = 50
"""Frames whose times tell the usual rate."""

_EVEN = 0.9
"""The share of frames that come at the stated rate in a video of even times; the others follow lost ones."""

_SOUND = 0.5
"""Seconds that a recording's sound may go on behind its last frame."""

_COUNTED = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""The first box of an MP4, MOV or 3GP."""


def counts_frames(head: bytes) -> bool:
    """Whether the container that begins so states how many frames it has, as MP4 and AVI do.

    Of the others (Matroska, WebM, MPEG, FLV, an MP4 in fragments) the number is the length in seconds times
    the stated rate, which is too many where frames come at uneven times.

    Args:
        head: the file's first kilobytes.
    """
    return head[:4] == b"RIFF" or (head[4:8] in _COUNTED and b"mvex" not in head)


def opened(path: str | Path) -> cv2.VideoCapture:
    """OpenCV's reader of a video file, whatever the file is called."""
    return cv2.VideoCapture(library_name(path))


def library_name(path: str | Path) -> Any:
    """A path as FFmpeg and OpenCV take it.

    Absolute, as what stands before a colon is a protocol to FFmpeg (`2026-05-01T10:30.mp4`). In bytes where
    it is no UTF-8: of such a text OpenCV dies.
    """
    name = os.path.abspath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name)
    return name


def usual_rate(path: Path, stated: float) -> float:
    """Frames per second by the times of the first frames; ``stated`` where these say the same, or nothing."""
    capture = opened(path)
    times: list[float] = []
    while len(times) < _LOOKED_AT and capture.grab():
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    capture.release()
    steps = [after - before for before, after in pairwise(times) if after > before]
    if not steps:
        return stated
    usual = [step for step in steps if step <= 1.5 * median(steps)]  # without pauses
    measured = len(usual) / sum(usual)
    return stated if abs(measured - stated) <= 0.1 * stated else measured


class Times:
    """The times of the frames that were read, held against what the container announced.

    Attributes:
        damaged: whether there are frames behind some that could not be read.

    Args:
        rate: frames per second as stated. announced: frames as stated, 0 where unknown. counted: whether that
            is a count (see `counts_frames`).
    """

    def __init__(self, rate: float, announced: int, *, counted: bool) -> None:
        self._rate, self._announced, self._counted = rate, announced, counted
        self.damaged = False
        self._read = self._even = 0
        self._reached = 0.0  # frames that would have come at the rate up to the last one
        self._seconds = 0.0

    def take(self, seconds: float, stamp: float) -> None:
        """One more frame: ``seconds`` after the first, at frame ``stamp`` of the file's clock (or -inf)."""
        self._even += abs((seconds - self._seconds) * self._rate - 1) < 0.3
        self._read += 1
        self._seconds = seconds
        self._reached = max(self._reached, seconds * self._rate + 1, stamp + 1)

    def missing(self) -> str:
        """What could not be read, in words; "" if nothing. Estimates get slack: sound may last longer."""
        if self._counted:
            expected = self._announced
        elif self._reached < 0.98 * self._announced - 1 - _SOUND * self._rate:
            whole = self._announced / self._rate
            return f"it could be read up to {self._seconds:.1f} of {whole:.1f} seconds, which were kept"
        else:
            expected = round(self._seconds * self._rate) + 1
            if not self.damaged and self._even < _EVEN * (self._read - 1):  # frames that never were
                return ""
        if self.damaged or self._read < 0.98 * expected - 1:
            return f"{self._read} of {expected} frames could be read, and were kept"
        return ""
