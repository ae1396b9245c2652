"""Videos and cameras, frame by frame: reading with OpenCV, writing with PyAV where it is installed."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.files import unfinished_file
from cpm_repro.image_file import HEAD, MAX_PIXELS, picture_kind
from cpm_repro.inference.container import CLOCKLIKE, Times, counts_frames, library_name, opened, usual_rate
from cpm_repro.paths import wanted_file
from cpm_repro.shared_setting import SharedSetting

ASSUMED_RATE = 25.0
"""Frames per second where a video or camera does not say."""

Put = Callable[[np.ndarray], None]
"""Takes one picture, (H, W, 3) uint8 BGR."""

_STAMP: int | None = getattr(cv2, "CAP_PROP_PTS", None)
"""OpenCV 4.11 and newer tell it."""

_JPEG_AFTER_JPEG = {".mjpeg", ".mjpg"}
"""Videos that begin as a picture does, and are one picture after another."""


@dataclass(frozen=True)
class Frame:
    """One frame: image (H, W, 3) uint8 BGR, its 0-based number, and its time in seconds."""

    image: np.ndarray
    index: int
    time: float


class VideoReader:
    """The frames of a video file or of a camera, in order; a context manager, iterated once.

    Args:
        source: path of the file, or number of the camera.
        most: stop after so many frames.

    Attributes:
        rate: frames per second. announced: how many frames the file claims to have, 0 where unknown.
        live: whether it is a camera. steady: whether the frames' mean distance is that of the rate: of a
            camera, and of containers that state no mean, it need not be.
        problem: after the last frame, what was wrong with the file, or "".

    Raises:
        UserError: no such file or camera, or nothing that decodes as a video.
    """

    def __init__(self, source: str | Path | int, most: int | None = None) -> None:
        self.live = isinstance(source, int)
        self.name = f"camera {source}" if self.live else str(source)
        self.steady = not self.live and counts_frames(_head(Path(source)))  # type: ignore[arg-type]
        with quiet_opencv():  # of a file that is cut off FFmpeg has a line for every packet that is not there
            self._capture = cv2.VideoCapture(source) if isinstance(source, int) else opened(source)
        if not self._capture.isOpened():
            camera, video = (
                "there is no such camera, or it is in use",
                "expected a video, got a file that is none",
            )
            raise UserError(f"{self.name}: {camera if self.live else video + ' or is cut off'}")
        width, height = (
            round(self._capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if width * height > MAX_PIXELS:
            self._capture.release()
            raise UserError(
                f"{self.name}: expected frames of at most {MAX_PIXELS} pixels, got {width} x {height}"
            )
        if self.live:
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.rate = _sane_rate(self._capture.get(cv2.CAP_PROP_FPS))
        self.announced = max(0, round(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._times = Times(self.rate, self.announced, counted=self.steady)
        if self.rate > CLOCKLIKE and not (self.live or self.steady):
            usual = usual_rate(Path(source), self.rate)  # type: ignore[arg-type]
            self.announced, self.rate = round(self.announced * usual / self.rate), usual
        self.problem = ""
        self._most = math.inf if most is None else most

    def __iter__(self) -> Iterator[Frame]:
        begin = time.monotonic()
        index, seconds = 0, 0.0
        while index < self._most:
            image = self._read(index)
            if image is None:
                self._judge(index)
                return
            seconds = time.monotonic() - begin if self.live else self._seconds(index, seconds)
            self._times.take(seconds, self._stamp())
            yield Frame(image, index, seconds)
            index += 1

    def _read(self, done: int) -> np.ndarray | None:
        """The next frame; None after the last. OpenCV stops at damage, and goes on behind it when asked."""
        packets = 1 if self.live else min(max(self.announced - done, 16), 100_000)
        for failed in range(packets):
            there, image = self._capture.read()
            if there:
                self._times.damaged |= failed > 0
                return np.asarray(image)
        return None

    def _stamp(self) -> float:
        """The frame's time by the file's clock, in frames of the stated rate; -inf where it is not told."""
        stamp = -math.inf if _STAMP is None else self._capture.get(_STAMP)
        return stamp if stamp > 0 else -math.inf

    def _seconds(self, index: int, before: float) -> float:
        """The time of the frame that was read, after one at ``before``, as the file states it.

        Frames of telephones and of recorded screens come at uneven times. Files that state none, or go back,
        get the rate's.
        """
        stated = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if math.isfinite(stated) and stated > before:
            return stated
        return before + 1 / self.rate if index else 0.0

    def _judge(self, read: int) -> None:
        """Say what is missing."""
        if self.live:
            self.problem = f"{self.name}: gave no more frames after {read}"
        elif not read:
            self.problem = f"{self.name}: no frame can be read"
        elif missing := self._times.missing():
            self.problem = f"{self.name}: {missing}"

    def close(self) -> None:
        """Let go of the file or camera."""
        self._capture.release()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def video_writer(path: str | Path, rate: float) -> Iterator[Put]:
    """Write an MP4 frame by frame: yields a function that takes (H, W, 3) uint8 BGR.

    The first frame's size is the video's: a later one of another size is brought to it, whole, with black
    beside it or above and below.

    H.264 with PyAV (``pip install av``), else OpenCV's MPEG-4, which browsers do not play and which has even
    sizes only: an odd picture then gets a line more. The file appears under its name when it is complete,
    that is, when the block ends without an error; without frames there is none.

    Raises:
        EnvironmentFailure: it cannot be written.
    """
    path = Path(path)
    temporary = _temporary(path)
    encoder = (_AvEncoder if find_spec("av") else _OpenCvEncoder)(temporary, rate)
    written, size = 0, (0, 0)

    def put(image: np.ndarray) -> None:
        nonlocal written, size
        size = size if written else (image.shape[0], image.shape[1])
        encoder.put(image if image.shape[:2] == size else fitted(image, size))
        written += 1

    try:
        yield put
        encoder.close()
        if written:
            _check_complete(temporary, path, written)
            os.replace(temporary, path)
    except OSError as error:
        raise EnvironmentFailure(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            encoder.close()
        temporary.unlink(missing_ok=True)


def fitted(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The whole of (H, W, 3) uint8 in the middle of a black picture of ``size`` (height, width)."""
    share = min(wanted / side for wanted, side in zip(size, image.shape[:2], strict=True))
    height, width = (max(1, round(share * side)) for side in image.shape[:2])
    picture = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    how = cv2.INTER_AREA if share < 1 else cv2.INTER_CUBIC
    picture[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=how)
    return picture


class _AvEncoder:
    """H.264 in MP4 by PyAV; OSError when the file cannot be written."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._container: Any = None
        self._stream: Any = None

    def put(self, image: np.ndarray) -> None:
        """Encode (H, W, 3) uint8 BGR."""
        import av

        with _av_errors():
            if self._container is None:
                self._open(image.shape[0], image.shape[1])
            self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))

    def _open(self, height: int, width: int) -> None:
        import av

        self._container = av.open(os.path.abspath(self._path), "w", format="mp4")
        self._stream = self._container.add_stream(
            "libx264", rate=Fraction(self._rate).limit_denominator(1001)
        )
        self._stream.height, self._stream.width = height, width
        # Colour at half resolution, which every player knows, needs even sides.
        self._stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        self._stream.options = {"preset": "veryfast", "crf": "20"}

    def close(self) -> None:
        """Write what is still in the encoder; a second call does nothing."""
        container, self._container = self._container, None
        if container is not None:
            with _av_errors():
                try:
                    container.mux(self._stream.encode())
                finally:
                    container.close()


@contextlib.contextmanager
def _av_errors() -> Iterator[None]:
    """PyAV's errors as OSError."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


class _OpenCvEncoder:
    """MPEG-4 by OpenCV, as :class:`_AvEncoder`."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._writer: cv2.VideoWriter | None = None

    def put(self, image: np.ndarray) -> None:
        """Encode (H, W, 3) uint8 BGR."""
        height, width = image.shape[:2]
        even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self._writer is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            name, rate = library_name(self._path), _mpeg4_rate(self._rate)
            self._writer = cv2.VideoWriter(name, code, rate, even.shape[1::-1])
            if not self._writer.isOpened():
                raise OSError("OpenCV cannot encode a video here")
        self._writer.write(even)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


def _mpeg4_rate(rate: float) -> float:
    """The nearest rate that MPEG-4 can say: a fraction of 16 bits, which OpenCV takes over a power of ten."""
    digits = next(digits for digits in (3, 2, 1, 0) if rate * 10**digits < 1 << 16)
    return round(rate, digits)


def _temporary(path: Path) -> Path:
    """A new empty file beside ``path``, of the same suffix, from which the container is told."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = unfinished_file(path, f".tmp{path.suffix}")
        os.close(handle)
    except OSError as error:
        raise EnvironmentFailure(f"cannot write {path}: {error.strerror or error}") from error
    return temporary


def _check_complete(file: Path, path: Path, frames: int) -> None:
    """OpenCV does not say that a disk is full: count what is in the file."""
    with quiet_opencv():
        capture = opened(file)
        there = round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
    if there < frames:
        raise EnvironmentFailure(
            f"cannot write {path}: {there} of {frames} frames arrived; the disk may be full"
        )


def _head(path: Path) -> bytes:
    """A file's beginning. Refuses what FFmpeg would not, or not in words: half a photograph, say."""
    try:
        with wanted_file(path, "a video file").open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not head:
        raise UserError(f"{path}: expected a video, got an empty file")
    kind = picture_kind(head)
    if kind and not (kind == "JPEG" and path.suffix.lower() in _JPEG_AFTER_JPEG):
        raise UserError(f"{path}: expected a video, got a picture ({kind}): give it a picture's name")
    return head


def _sane_rate(rate: float) -> float:
    return rate if math.isfinite(rate) and 0.1 <= rate <= 1000 else ASSUMED_RATE


_log = cv2.utils.logging
_silence = SharedSetting(_log.getLogLevel, _log.setLogLevel, _log.LOG_LEVEL_SILENT)


def quiet_opencv() -> contextlib.AbstractContextManager[None]:
    """Keep OpenCV from writing its own lines to the terminal, and its FFmpeg from now on; ours say what is
    wrong. Where the process has read or written a video by OpenCV before, FFmpeg goes on as it was.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when FFmpeg is first used
    return _silence
