"""Reading photographs: checked before they are decoded, decoded once, kept while memory allows."""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable
from pathlib import Path

import cv2
import numpy as np

from cpm_repro.data.image_headers import FORMATS, declared_size
from cpm_repro.data.png_chunks import SIGN, picture_chunks
from cpm_repro.errors import UserError

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded: a small file can claim gigabytes of pixels."""

DEFAULT_CACHE_BYTES = 2 << 30


def read_image(path: str | Path, *, exif: bool = False) -> np.ndarray:
    """Decode an image file to (H, W, 3) uint8 BGR.

    Args:
        path: the file.
        exif: turn the picture as its EXIF orientation says, as viewers do; annotations of the data sets
            refer to the raw pixels, so their readers leave it off.

    Raises:
        UserError: the file is missing, a folder, may not be read, is empty, of no size that its header tells,
            larger than MAX_PIXELS, or does not decode.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: image file is missing")
    if not path.is_file():
        other = "a folder" if path.is_dir() else "something that is no ordinary file"
        raise UserError(f"{path}: expected an image file, got {other}")
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:  # no permission, or gone since
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not data.size:
        raise UserError(f"{path}: expected an image, got an empty file")
    return decode_image(data, str(path), exif=exif)


def decode_image(data: np.ndarray, name: str, *, exif: bool = False) -> np.ndarray:
    """Decode an encoded image held in memory.

    Data (bytes,) uint8, ``name`` stands in messages. See `read_image`.
    """
    size = declared_size(data)
    if size is None:
        raise UserError(
            f"{name}: expected an image whose header states its size ({FORMATS}), "
            f"got {data.size} bytes of another kind or cut off"
        )
    if size[0] * size[1] > MAX_PIXELS:
        raise UserError(f"{name}: expected at most {MAX_PIXELS} pixels, got {size[0]} x {size[1]}")
    flags = cv2.IMREAD_COLOR if exif else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(_quiet(data), flags)
    except cv2.error:
        # OpenCV raises for its own limit on pixels and for some broken headers.
        image = None
    if image is None:
        raise UserError(f"{name}: expected an image, got {data.size} bytes that do not decode as one")
    return image


def _quiet(data: np.ndarray) -> np.ndarray:
    """The bytes to decode: of a PNG what its picture needs, nothing of one that is cut off or damaged.

    libjpeg's line on rubbish inside of a JPEG that it can decode stays: nothing but decoding finds it.

    Raises:
        cv2.error: nothing is left to decode.
    """
    whole = data.tobytes() if data[: len(SIGN)].tobytes() == SIGN else None
    if whole is None:
        return data
    return np.frombuffer(picture_chunks(whole) or b"", np.uint8)


def inside(root: Path, relative: str) -> Path:
    """``root / relative``, refused when it would leave ``root`` (also through a symbolic link).

    Raises:
        UserError: the path is absolute or leads outside.
    """
    joined = root / relative
    if os.path.isabs(relative) or not joined.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{relative}: expected a path inside {root}, got one that leaves it")
    return joined


class ImageCache:
    """Decoded images up to a number of bytes; what does not fit is decoded anew each time.

    Nothing is evicted: training visits images in random order, once per epoch, so that keeping the first ones
    saves as many decodes as any replacement rule would and costs no bookkeeping.
    """

    def __init__(self, budget: int = DEFAULT_CACHE_BYTES) -> None:
        self._budget = budget
        self._used = 0
        self._images: dict[Hashable, np.ndarray] = {}
        self._lock = threading.Lock()

    def read(self, path: Path) -> np.ndarray:
        """The image at ``path`` (see `read_image`), read-only and shared between callers."""
        image = self._images.get(path)
        if image is None:
            image = read_image(path)
            image.flags.writeable = False
            with self._lock:
                if path not in self._images and self._used + image.nbytes <= self._budget:
                    self._images[path] = image
                    self._used += image.nbytes
        return image
