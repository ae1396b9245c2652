"""What every stage believes about every part, as a grid of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpm_repro.viz.save import check_image
from cpm_repro.viz.text import BACKGROUND, INK, put_text, text_width

_GAP = 3


def belief_grid(
    image: np.ndarray, stage_maps: Sequence[np.ndarray], names: Sequence[str], cell: int | None = None
) -> np.ndarray:
    """One row per stage, one column per part: belief as colour over the dimmed crop.

    A ring marks each map's highest belief, its value is written below. All part maps share one colour scale,
    from 0 to the highest belief of any part at any stage; the background column has its own, 0 to 1.

    Args:
        image: (H, W, 3) uint8 BGR, what the network saw.
        stage_maps: per stage (K + 1, h, w), background last; (K, h, w) is taken too.
        names: the K part names.
        cell: width of one picture in pixels (default: as large as a page of about 2200 px allows).

    Returns:
        (H', W', 3) uint8 BGR.
    """
    check_image("image", image)
    maps = [np.asarray(stage, dtype=np.float32) for stage in stage_maps]
    labels = _column_labels(maps, names)
    cell = cell or int(np.clip(2200 // len(labels), 96, 240))
    height = max(1, round(cell * image.shape[0] / image.shape[1]))
    size = max(10, cell // 10)
    left, top, right = text_width("stage 6", size) + 2 * size, 3 * size, 6 * size
    sheet = np.empty(
        (top + len(maps) * (height + _GAP) + size, left + len(labels) * (cell + _GAP) + right, 3), np.uint8
    )
    sheet[:] = BACKGROUND
    ground = _dimmed(image, cell, height)
    highest = max(float(np.nanmax(stage[: len(names)], initial=0.0)) for stage in maps)
    highest = highest if np.isfinite(highest) and highest > 1e-6 else 1.0
    for column, label in enumerate(labels):
        _write_label(sheet, label, left + column * (cell + _GAP) + cell // 2, top // 2, size, cell)
    for row, stage in enumerate(maps):
        y = top + row * (height + _GAP)
        put_text(sheet, f"stage {row + 1}", left - size // 2, y + height // 2, size, anchor="right")
        for column, belief in enumerate(stage):
            x = left + column * (cell + _GAP)
            scale = highest if column < len(names) else 1.0
            sheet[y : y + height, x : x + cell] = _cell(
                ground, belief, scale, mark=column < len(names), size=size
            )
    _colour_bar(sheet, sheet.shape[1] - right + size, top, len(maps) * (height + _GAP) - _GAP, highest, size)
    return sheet


def _column_labels(maps: Sequence[np.ndarray], names: Sequence[str]) -> list[str]:
    if not maps:
        raise ValueError("stage_maps: wanted at least one stage, got none")
    channels = {stage.shape[0] if stage.ndim == 3 else -1 for stage in maps}
    if len(channels) != 1 or not channels <= {len(names), len(names) + 1}:
        shapes = [stage.shape for stage in maps]
        raise ValueError(
            f"stage_maps: wanted ({len(names)} or {len(names) + 1}, h, w) per stage, got {shapes}"
        )
    labels = [name.replace("_", " ") for name in names]
    return labels if channels == {len(names)} else [*labels, "background"]


def _dimmed(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The crop in dark grey, so that all colour is belief."""
    import cv2

    shrinks = image.shape[1] > width
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    return np.asarray(np.repeat((18 + 0.45 * grey)[..., None], 3, axis=2))


def _cell(ground: np.ndarray, belief: np.ndarray, scale: float, *, mark: bool, size: int) -> np.ndarray:
    """One map over the dimmed crop: opaque where the belief is high, clear where there is none."""
    import cv2

    height, width = ground.shape[:2]
    finite = np.nan_to_num(belief, nan=0.0, posinf=0.0, neginf=0.0)
    large = np.clip(cv2.resize(finite, (width, height), interpolation=cv2.INTER_LINEAR) / scale, 0, 1)
    colour = cv2.applyColorMap((255 * large).astype(np.uint8), cv2.COLORMAP_INFERNO).astype(np.float32)
    opacity = np.minimum(1.0, 1.4 * large)[..., None]
    picture = np.clip(ground * (1 - opacity) + colour * opacity, 0, 255).astype(np.uint8)
    if mark:
        row, column = np.unravel_index(int(np.argmax(finite)), finite.shape)
        x = round((column + 0.5) * width / finite.shape[1] - 0.5)
        y = round((row + 0.5) * height / finite.shape[0] - 0.5)
        radius = max(7, width // 12)  # wider than a sharp peak, which must stay visible inside
        cv2.circle(picture, (x, y), radius, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.circle(picture, (x, y), radius, (255, 255, 255), 1, cv2.LINE_AA)
        value = f"{finite[row, column]:.2f}"
        put_text(picture, value, width - size // 3, height - size, size, anchor="right", halo=True)
    return picture


def _write_label(sheet: np.ndarray, label: str, x: int, y: int, size: int, room: int) -> None:
    """A column's name: in one line if it fits, else word by word."""
    words = label.split(" ") if text_width(label, size) > room else [label]
    for index, word in enumerate(words):
        line = round(y + (index - (len(words) - 1) / 2) * 1.25 * size)
        put_text(sheet, word, x, line, size, anchor="middle")


def _colour_bar(sheet: np.ndarray, x: int, y: int, height: int, highest: float, size: int) -> None:
    """The scale of the part maps at the right edge."""
    import cv2

    ramp = np.linspace(255, 0, height).astype(np.uint8)[:, None].repeat(size, axis=1)
    sheet[y : y + height, x : x + size] = cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)
    cv2.rectangle(sheet, (x - 1, y - 1), (x + size, y + height), INK, 1)
    for share in (0.0, 0.5, 1.0):
        line = round(y + height - share * height + (share - 0.5) * size)
        put_text(sheet, f"{share * highest:.2f}", x + size + size // 2, line, size)
