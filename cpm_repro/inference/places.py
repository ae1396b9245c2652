"""Where people are in an image: from boxes, from centres with heights, or assumed, which is then said."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

from cpm_repro.errors import UserError

WHOLE_IMAGE_SHARE = 0.8
"""Where nothing is said of a person's size, it is taken to be this share of the image's side."""

TRIED_SHARES = (WHOLE_IMAGE_SHARE, 0.6, 0.45)
"""Sizes of a person of whom nothing is said, that are tried; of the image's longer side."""

WIDE = 1.25
"""In an image so many times as wide as high the person is looked for beside the middle too."""

LARGEST = 1_000_000
"""Pixels that a person may be tall: no photograph is as large; far beyond it the arithmetic of crops ends."""

SMALLEST = 8
"""Pixels along the longer side of a person of whom anything can be seen: fewer are a share of the image, or
MPII's scale, where pixels are wanted."""

Box = Sequence[float]
Point = Sequence[float]
ImageSize = tuple[int, int]


@dataclass(frozen=True)
class Place:
    """Where one person is and how large; image pixels, 0-based."""

    center: tuple[float, float]  # x, y
    extent: float  # the longer side of the person's box, px
    assumed: str = ""  # what was assumed of centre and extent; empty when they were given
    detection: float | None = None  # height of the detector's peak, where a detector found the person


def whole_image(image_hw: ImageSize) -> Place:
    """One person in the middle of the image, as large as ``WHOLE_IMAGE_SHARE`` of its longer side."""
    return _assumed(image_hw, "in the middle", 0.5, WHOLE_IMAGE_SHARE)


def tried_places(image_hw: ImageSize) -> list[Place]:
    """Where one person may be of whom nothing is said, :func:`whole_image` first.

    In the middle, as large as each of ``TRIED_SHARES`` of the longer side; in an image of at least ``WIDE``
    times its height also, of the smaller sizes, to the left and to the right. Three or seven places, fewer in
    an image of a few pixels.
    """
    height, width = image_hw
    tried = [_assumed(image_hw, "in the middle", 0.5, share) for share in TRIED_SHARES]
    if width >= WIDE * height:
        for share in TRIED_SHARES[1:]:
            for words, along in (("left of the middle", 0.3), ("right of the middle", 0.7)):
                tried.append(_assumed(image_hw, words, along, share))
    different = {(place.center, place.extent): place for place in reversed(tried)}
    return list(reversed(different.values()))


def _assumed(image_hw: ImageSize, words: str, along: float, share: float) -> Place:
    """A person at ``along`` of the image's width, of ``share`` of its longer side."""
    height, width = image_hw
    extent = max(1.0, share * max(height, width))
    assumed = f"one person {words}, {share:.0%} of the image's longer side"
    return Place(((width - 1) * along, (height - 1) / 2), extent, assumed)


def places_from_boxes(boxes: Sequence[Box], image_hw: ImageSize) -> list[Place]:
    """The middle and longer side of each (x0, y0, x1, y1).

    A box may reach over the image's border, as that of a person does who is cut by it.

    Raises:
        UserError: a box that is not four finite numbers, has no area, lies outside the image, or has a longer
            side below ``SMALLEST`` or above ``LARGEST``.
    """
    height, width = image_hw
    places = []
    for box in boxes:
        x0, y0, x1, y1 = _checked_box(box)
        if x1 < 0 or y1 < 0 or x0 > width - 1 or y0 > height - 1:
            raise UserError(f"box: {tuple(box)} lies outside the {width}x{height} image")
        places.append(Place(((x0 + x1) / 2, (y0 + y1) / 2), max(x1 - x0, y1 - y0)))
    return places


def places_from_centers(
    centers: Sequence[Point], heights: Sequence[float] | float | None, image_hw: ImageSize
) -> list[Place]:
    """People by their centres (x, y) and heights in pixels.

    Args:
        centers: one (x, y) per person.
        heights: one per person, or one for all; MPII's ``scale`` is a height / 200 px. None assumes
            ``WHOLE_IMAGE_SHARE`` of the image's height.
        image_hw: (H, W) of the image.

    Raises:
        UserError: a centre outside the image, a height below ``SMALLEST`` or above ``LARGEST``, another
            number of heights.
    """
    if heights is None:
        assumed = f"a height of {WHOLE_IMAGE_SHARE:.0%} of the image's"
        extent = max(1.0, WHOLE_IMAGE_SHARE * image_hw[0])
        return [Place(_checked_center(center, image_hw), extent, assumed) for center in centers]
    one_for_all = isinstance(heights, Real) or getattr(heights, "ndim", 1) == 0
    extents = [cast(float, heights)] * len(centers) if one_for_all else listed("heights", heights)
    if len(extents) != len(centers):
        raise UserError(f"heights: wanted one per centre ({len(centers)}) or one for all, got {len(extents)}")
    return [
        Place(_checked_center(center, image_hw), _checked_height(extent))
        for center, extent in zip(centers, extents, strict=True)
    ]


def _checked_center(center: Point, image_hw: ImageSize) -> tuple[float, float]:
    height, width = image_hw
    x, y = checked_point(center)
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        raise UserError(f"center: {(x, y)} lies outside the {width}x{height} image")
    return x, y


def _finite(name: str, wanted: str, count: int, given: object) -> list[float]:
    """So many finite numbers out of what a user gave for a box or a centre."""
    if not isinstance(given, Iterable):  # boxes=(10, 20, 200, 400)
        raise UserError(f"{name}: wanted {wanted}, got {given!r}: one of them goes in a list, too")
    values = list(given)
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise UserError(f"{name}: wanted {wanted}, got {tuple(values)}")
    return numbers


def checked_point(center: Point) -> tuple[float, float]:
    """``center`` as two floats.

    Raises:
        UserError: it is not two finite numbers.
    """
    x, y = _finite("center", "two finite numbers x y", 2, center)
    return x, y


def _checked_box(box: Box) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = _finite("box", "four finite numbers x0 y0 x1 y1", 4, box)
    if x1 <= x0 or y1 <= y0:
        raise UserError(f"box: wanted x0 < x1 and y0 < y1, got {tuple(box)}")
    extent = max(x1 - x0, y1 - y0)
    if extent > LARGEST:
        raise UserError(f"box: wanted at most {LARGEST} pixels along a side, got {tuple(box)}")
    if extent < SMALLEST:
        raise UserError(f"box: wanted pixels, {SMALLEST} or more along its longer side, got {tuple(box)}")
    return x0, y0, x1, y1


def listed(name: str, values: Iterable[Any] | Any) -> list[Any]:
    """``values`` as a list, which can be gone through for every frame of a video.

    Raises:
        UserError: there is no going through them.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UserError(f"{name}: wanted a list with one entry per person, got {values!r}")
    return list(values)


def _checked_height(given: float) -> float:
    try:
        height = float(given)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"height: wanted a positive number of pixels, got {given!r}") from None
    if not 0 < height <= LARGEST:
        raise UserError(f"height: wanted a positive number of pixels up to {LARGEST}, got {height:g}")
    if height < SMALLEST:
        raise UserError(
            f"height: wanted pixels, {SMALLEST} or more, got {height:g}; MPII's scale is a height / 200"
        )
    return height


def check_told(boxes: Sequence[Box], centers: Sequence[Point], height: float | None) -> None:
    """Refuse what no image's people can be, before there is an image.

    Raises:
        UserError: as :func:`places_from_boxes` and :func:`places_from_centers`.
    """
    for box in boxes:
        _checked_box(box)
    for center in centers:
        checked_point(center)
    if height is not None:
        _checked_height(height)
