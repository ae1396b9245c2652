"""Text in pictures, in the typeface that comes with matplotlib."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cpm_repro.errors import one_line

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

BACKGROUND = (24, 20, 18)  # BGR
INK = (235, 232, 228)  # BGR

Anchor = Literal["left", "middle", "right"]


def text_width(text: str, size: int) -> int:
    """Pixels ``text`` takes in one line at ``size`` px; line breaks, as in a file's name, are blanks."""
    return int(np.ceil(_font(size).getlength(one_line(text))))


def put_text(
    image: np.ndarray, text: str, x: int, y: int, size: int, *,
    colour: tuple[int, int, int] = INK, anchor: Anchor = "left", halo: bool = False,
) -> None:  # fmt: skip
    """Write one line into ``image`` (H, W, 3) uint8 BGR, in place.

    (x, y) is the left, middle or right end of the line at half its height. ``halo`` puts a dark edge
    around the letters, for text over pictures.
    """
    from PIL import Image, ImageDraw

    font = _font(size)
    width, height = text_width(text, size) + 4, int(size * 1.5) + 4
    left = x - {"left": 0, "middle": width // 2, "right": width}[anchor]
    top = y - height // 2
    box = _clip(left, top, width, height, image.shape)
    if box is None:
        return
    x0, y0, x1, y1 = box
    picture = Image.fromarray(np.ascontiguousarray(image[y0:y1, x0:x1, ::-1]))
    ImageDraw.Draw(picture).text(
        (left - x0 + 2, y - y0), one_line(text), font=font, fill=colour[::-1], anchor="lm",
        stroke_width=max(1, size // 8) if halo else 0, stroke_fill=(0, 0, 0),
    )  # fmt: skip
    image[y0:y1, x0:x1] = np.asarray(picture)[..., ::-1]


def _clip(
    left: int, top: int, width: int, height: int, shape: tuple[int, ...]
) -> tuple[int, int, int, int] | None:
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(shape[1], left + width), min(shape[0], top + height)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


@lru_cache(maxsize=16)
def _font(size: int) -> FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
