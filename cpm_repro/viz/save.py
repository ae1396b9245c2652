"""Writing pictures whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write


def save_png(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 BGR as PNG. EnvironmentFailure when the disk does not take it."""
    _save(Path(path), image, ".png", [])


def save_jpg(path: str | Path, image: np.ndarray, quality: int = 92) -> None:
    """Write (H, W, 3) uint8 BGR as JPEG of ``quality`` 0..100. EnvironmentFailure as above."""
    import cv2

    _save(Path(path), image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def check_image(name: str, image: np.ndarray) -> None:
    """ValueError unless ``image`` is (H, W, 3) uint8 with at least one pixel."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"{name}: wanted (height, width, 3) uint8, got {image.shape} {image.dtype}")


def _save(path: Path, image: np.ndarray, kind: str, options: list[int]) -> None:
    import cv2

    check_image("image", image)
    done, data = cv2.imencode(kind, np.ascontiguousarray(image), options)
    if not done:
        raise UserError(
            f"{path}: an image of {image.shape[1]} x {image.shape[0]} pixels cannot be a {kind} file"
        )
    with atomic_write(path) as file:
        file.write(data.tobytes())
