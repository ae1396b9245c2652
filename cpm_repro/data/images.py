"""Reading photographs: checked before they are decoded, decoded once, kept while memory allows."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Hashable
from pathlib import Path

import cv2
import numpy as np

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
        UserError: the file is missing, a folder, empty, larger than MAX_PIXELS, or does not decode.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: image file is missing")
    if not path.is_file():
        raise UserError(f"{path}: expected an image file, got a folder")
    data = np.fromfile(path, dtype=np.uint8)
    if not data.size:
        raise UserError(f"{path}: expected an image, got an empty file")
    return decode_image(data, str(path), exif=exif)


def decode_image(data: np.ndarray, name: str, *, exif: bool = False) -> np.ndarray:
    """Decode an encoded image held in memory.

    Data (bytes,) uint8, ``name`` stands in messages. See `read_image`.
    """
    size = declared_size(data)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise UserError(f"{name}: expected at most {MAX_PIXELS} pixels, got {size[0]} x {size[1]}")
    flags = cv2.IMREAD_COLOR if exif else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error:
        # OpenCV raises for its own limit on pixels and for some broken headers.
        image = None
    if image is None:
        raise UserError(f"{name}: expected an image, got {data.size} bytes that do not decode as one")
    return image


def declared_size(data: np.ndarray) -> tuple[int, int] | None:
    """(width, height) that a header claims, read without decoding.

    PNG, JPEG, GIF, BMP, WebP and TIFF: the formats that pack many pixels into few bytes. None for others.
    """
    head = data[: 1 << 20].tobytes()
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if head[:2] == b"\xff\xd8":
        return _jpeg_size(head)
    if head[:4] in (b"GIF8", b"II*\0", b"MM\0*") or head[:2] == b"BM":
        return _plain_size(data.data, head)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp_size(head)
    return None


def _plain_size(data: memoryview, head: bytes) -> tuple[int, int] | None:
    """GIF, BMP and TIFF: two numbers at known places."""
    if head[:4] == b"GIF8" and len(head) >= 10:
        width, height = struct.unpack_from("<HH", head, 6)
        return width, height
    if head[:2] == b"BM" and len(head) >= 26:
        if int.from_bytes(head[14:18], "little") == 12:  # OS/2's header
            width, height = struct.unpack_from("<HH", head, 18)
            return width, height
        width, height = struct.unpack_from("<ii", head, 18)
        return abs(width), abs(height)  # negative heights are stored top down
    return _tiff_size(data, "<" if head[:2] == b"II" else ">") if head[:2] in (b"II", b"MM") else None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    """The first chunk: lossy, lossless or extended. Format: RFC 9649."""
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if head[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff_size(data: memoryview, order: str) -> tuple[int, int] | None:
    """ImageWidth and ImageLength of the first directory, which may stand anywhere. Format: TIFF 6.0."""
    sides = {}
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", data, at)
            if tag in (256, 257) and kind in (3, 4):
                (sides[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 8)
    except struct.error:  # cut, or a directory past the end
        return None
    return (sides[256], sides[257]) if len(sides) == 2 else None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    """Walk a JPEG's segments to the frame header (SOF), which holds height and width."""
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker == 0xFF:  # fill byte before a marker
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(head[at + 7 : at + 9], "big"), int.from_bytes(head[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None


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
