"""Several pictures on one page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpm_repro.viz.save import check_image
from cpm_repro.viz.text import BACKGROUND, put_text, text_width

_MARGIN = 12


def contact_sheet(
    images: Sequence[np.ndarray], labels: Sequence[str], *, height: int = 360, columns: int | None = None
) -> np.ndarray:
    """Pictures brought to one height, in rows, each with its label below: (H, W, 3) uint8 BGR.

    Args:
        images: (h, w, 3) uint8 BGR, at least one; sizes may differ.
        labels: one line per picture; shortened where it does not fit.
        height: pixels of every picture on the page.
        columns: pictures in a row (default: a page about three times as wide as a picture is high, or wider).
    """
    if not images or len(images) != len(labels):
        raise ValueError(
            f"images: wanted one or more, as many as labels, got {len(images)} and {len(labels)}"
        )
    for index, image in enumerate(images):
        check_image(f"images[{index}]", image)
    pictures = [_to_height(image, height) for image in images]
    columns = columns or min(len(pictures), max(3, round(np.sqrt(1.6 * len(pictures)))))
    rows = [range(start, min(start + columns, len(pictures))) for start in range(0, len(pictures), columns)]
    width = max(sum(pictures[i].shape[1] + _MARGIN for i in row) for row in rows) + _MARGIN
    size = max(11, height // 22)
    caption = 2 * size
    sheet = np.empty((len(rows) * (height + caption + _MARGIN) + _MARGIN, width, 3), np.uint8)
    sheet[:] = BACKGROUND
    for number, row in enumerate(rows):
        x, y = _MARGIN, _MARGIN + number * (height + caption + _MARGIN)
        for index in row:
            picture = pictures[index]
            sheet[y : y + height, x : x + picture.shape[1]] = picture
            text = _shortened(labels[index], size, picture.shape[1])
            put_text(sheet, text, x + picture.shape[1] // 2, y + height + caption // 2, size, anchor="middle")
            x += picture.shape[1] + _MARGIN
    return sheet


def _to_height(image: np.ndarray, height: int) -> np.ndarray:
    import cv2

    width = max(1, round(image.shape[1] * height / image.shape[0]))
    method = cv2.INTER_AREA if image.shape[0] > height else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=method))


def _shortened(text: str, size: int, room: int) -> str:
    if text_width(text, size) <= room:
        return text
    while text and text_width(text + "…", size) > room:
        text = text[:-1]
    return text + "…"
