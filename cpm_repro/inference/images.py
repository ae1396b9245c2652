"""Bringing image arrays of any usual kind to what the networks read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cpm_repro.image_file import read_image


def read_photograph(path: str | Path) -> np.ndarray:
    """An image file of any kind OpenCV decodes as (H, W, 3) uint8 BGR, turned as its EXIF data says.

    16 bits become 8, grey becomes three equal channels, CMYK becomes BGR, alpha is left out.

    Raises:
        UserError: no image, a damaged or truncated one, or one of more than 100 million pixels.
    """
    return read_image(path, exif=True)


def as_bgr(image: np.ndarray, *, rgb: bool = False) -> np.ndarray:
    """An array of any usual kind as contiguous (H, W, 3) uint8 BGR.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or uint16 (brought to 8 bits).
        rgb: the colour channels are in RGB order.

    Raises:
        TypeError: no array, or another element type. ValueError: another shape.
    """
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image: wanted a numpy array, got {type(image).__name__}")
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
