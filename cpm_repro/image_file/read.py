"""Reading photographs: checked before they are decoded."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.image_file.headers import FORMATS, declared_size
from cpm_repro.image_file.png_chunks import SIGN, picture_chunks
from cpm_repro.image_file.unsupported import Unsupported
from cpm_repro.memory import fitting
from cpm_repro.paths import wanted_file

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded: a small file can claim gigabytes of pixels."""


def read_image(path: str | Path, *, exif: bool = False) -> np.ndarray:
    """Decode an image file to (H, W, 3) uint8 BGR.

    Args:
        path: the file.
        exif: turn the picture as its EXIF orientation says, as viewers do; annotations of the data sets
            refer to the raw pixels, so their readers leave it off.

    Raises:
        UserError: the file is missing, a folder, may not be read, is empty, of no size that its header tells,
            larger than MAX_PIXELS or than there is memory for, or does not decode.
    """
    return decode_image(_content(path), str(path), exif=exif)


def turned_size(path: str | Path) -> tuple[int, int] | None:
    """(width, height) of a picture as viewers show it, if its EXIF data makes them turn or mirror it.

    Raises:
        UserError: see `read_image`.
    """
    data = _content(path)
    if not any(sign in data.tobytes() for sign in (b"Exif\0\0", b"eXIf", b"EXIF")):
        return None
    shown = decode_image(data, str(path), exif=True)
    same = np.array_equal(shown, decode_image(data, str(path)))
    return None if same else (shown.shape[1], shown.shape[0])


def _content(path: str | Path) -> np.ndarray:
    path = wanted_file(path, "an image file")
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:  # no permission, or gone since
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not data.size:
        raise UserError(f"{path}: expected an image, got an empty file")
    return data


def decode_image(data: np.ndarray, name: str, *, exif: bool = False) -> np.ndarray:
    """Decode an encoded image held in memory.

    Data (bytes,) uint8, ``name`` stands in messages. See `read_image`.
    """
    try:
        size = declared_size(data)
    except Unsupported as kind:
        raise UserError(f"{name}: expected one plain picture, got {kind}, which is not supported") from kind
    if size is None:
        raise UserError(
            f"{name}: expected an image whose header states its size ({FORMATS}), "
            f"got {data.size} bytes of another kind or cut off"
        )
    if size[0] * size[1] > MAX_PIXELS:
        raise UserError(f"{name}: expected at most {MAX_PIXELS} pixels, got {size[0]} x {size[1]}")
    flags = cv2.IMREAD_COLOR if exif else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    with fitting(f"{name}: a picture of {size[0]} x {size[1]}", "give a smaller one"):
        image = _decoded(data, flags)
        raw = _decoded(data, cv2.IMREAD_UNCHANGED) if image is None else None
    if image is None:
        if raw is None:
            raise UserError(f"{name}: expected an image, got {data.size} bytes that do not decode as one")
        raise UserError(f"{name}: expected an image of 8 or 16 bits, got one of {raw.dtype} numbers")
    return image


def _decoded(data: np.ndarray, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(_quiet(data), flags)
    except cv2.error as error:  # OpenCV's own limit on pixels, some broken headers
        if error.code == cv2.Error.StsNoMem:
            raise
        return None


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
