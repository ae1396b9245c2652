"""Reading photographs as 8-bit BGR arrays, whatever they were stored as."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from cpm_repro.errors import UserError

MAX_PIXELS = 1 << 28
"""Larger images are refused before they are decoded: 2^28 pixels are 0.8 GB in memory."""


def read_image(path: str | Path) -> np.ndarray:
    """The image at ``path`` as (H, W, 3) uint8 BGR; EXIF rotation is applied, alpha dropped, grey repeated.

    Raises:
        UserError: no such file, a folder, or nothing that decodes as an image.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such image")
    if path.is_dir():
        raise UserError(f"{path}: wanted an image file, got a folder")
    try:
        data = np.fromfile(path, np.uint8)  # imread cannot open every name on every system
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:
        raise UserError(f"{path}: not an image OpenCV can hold ({str(error).splitlines()[0][:80]})") from error
    if image is None:
        raise UserError(f"{path}: not an image ({data.size} bytes that do not decode)")
    return image


def as_bgr(image: np.ndarray, *, rgb: bool = False) -> np.ndarray:
    """An array of any usual kind as contiguous (H, W, 3) uint8 BGR.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or uint16 (brought to 8 bits).
        rgb: the colour channels are in RGB order.

    Raises:
        TypeError: another element type. ValueError: another shape.
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise TypeError(f"image: wanted uint8 or uint16, got {image.dtype}")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise ValueError(f"image: wanted shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {image.shape}")
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    image = image[:, :, :3]
    return np.ascontiguousarray(image[:, :, ::-1] if rgb else image)
