"""Checked arguments of the multi-scale fusion: what one person's maps are and where they belong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal

import torch

from cpm_repro.ops import _checks, _reference_resize

Mode = Literal["matlab", "opencv"]


@dataclass(frozen=True)
class Options:
    """What holds for all people of a call."""

    weights: Sequence[float] | None  # walked through once per person
    mode: Mode
    stride: int
    background: bool


@dataclass(frozen=True)
class Person:
    """One person's maps, and their geometry."""

    maps: torch.Tensor  # (S, C, h, w) contiguous float32
    pads: list[list[int]]
    sizes: list[list[int]]
    image: tuple[int, int]
    weights: list[float]  # sum 1

    @property
    def geometry(self) -> list[int]:
        """Per scale: up, left, scaled height, scaled width."""
        rows = zip(self.pads, self.sizes, strict=True)
        return [value for (up, left, _, _), size in rows for value in (up, left, *size)]

    def reference(self, options: Options) -> torch.Tensor:
        """The fused maps, step by step."""
        opencv = options.mode == "opencv"
        function = _reference_resize.fuse_opencv if opencv else _reference_resize.fuse_multiscale
        return function(
            self.maps, self.pads, self.sizes, self.image, options.stride, self.weights, options.background
        )


def check_options(options: Options) -> Options:
    """``options``, if they can be used.

    Raises:
        TypeError, ValueError: naming the argument, what was wanted and what was got.
    """
    _checks.choice("mode", options.mode, ("matlab", "opencv"))
    stride = options.stride
    if isinstance(stride, Integral) and not isinstance(stride, int):
        stride = int(stride)  # NumPy's
        options = replace(options, stride=stride)
    if isinstance(stride, bool) or not isinstance(stride, int):
        raise TypeError(f"stride must be a whole number, got {type(stride).__name__}")
    if not 1 <= stride <= _checks.MAX_STRIDE:
        raise ValueError(f"stride must be between 1 and {_checks.MAX_STRIDE}, got {_checks.shown(stride)}")
    return options


def check_people(
    maps: Sequence[torch.Tensor], pads: Any, sizes: Any, image_hw: Any, options: Options
) -> list[Person]:
    """The checked arguments of several people.

    Raises:
        TypeError, ValueError: naming the argument, what was wanted and what was got.
    """
    count = len(_checks.tensors("maps", maps, "person"))
    images = [image_hw] * count if _is_one_image(image_hw) else image_hw
    for name, value in (("pads", pads), ("sizes", sizes), ("image_hw", images)):
        length = _checks.count(value)
        if length != count:
            got = length if length >= 0 else type(value).__name__
            raise ValueError(f"{name} must have one entry per person ({count}), got {got}")
    people = zip(maps, pads, sizes, images, strict=True)
    return [check_person(*person, options, f"[{index}]") for index, person in enumerate(people)]


def _is_one_image(image_hw: Any) -> bool:
    """True for (H, W), False for a list of them."""
    return _checks.count(image_hw) == 2 and not any(_checks.count(side) >= 0 for side in image_hw)


def check_person(
    maps: torch.Tensor, pads: Any, sizes: Any, image_hw: Any, options: Options, which: str = ""
) -> Person:
    """The checked arguments of one person; ``which`` ("[3]") is put behind their names in messages.

    Raises:
        TypeError, ValueError: naming the argument, what was wanted and what was got.
    """
    given = _check_maps(f"maps{which}", maps)
    scales = given.shape[0]
    pad_rows = _checks.whole_rows(f"pads{which}", pads, scales, 4)
    size_rows = _checks.whole_rows(f"sizes{which}", sizes, scales, 2)
    image = _checks.size(f"image_hw{which}", image_hw)
    box = (given.shape[2] * options.stride, given.shape[3] * options.stride)
    for index, ((up, left, down, right), (height, width)) in enumerate(zip(pad_rows, size_rows, strict=True)):
        row = f"{which}[{index}]"
        if height < 1 or width < 1:
            raise ValueError(f"sizes{row} must be positive, got {(height, width)}")
        padded = (up + height + down, left + width + right)
        if padded != box:
            raise ValueError(f"pads{row} and sizes{row} must add up to {box} input pixels, got {padded}")
        if height > _checks.MAX_SHRINKING * image[0] or width > _checks.MAX_SHRINKING * image[1]:
            limit = f"{_checks.MAX_SHRINKING} times image_hw{which} {image}"
            raise ValueError(f"sizes{row} must be at most {limit}, got {(height, width)}")
    normal = _checks.scale_weights(options.weights, scales)
    return Person(given.detach().to(torch.float32).contiguous(), pad_rows, size_rows, image, normal)


def _check_maps(name: str, maps: torch.Tensor) -> torch.Tensor:
    given = _checks.tensor(name, maps)
    if given.dtype not in _checks.FLOATS:
        raise TypeError(f"{name} must be a floating-point tensor, got {given.dtype}")
    if given.ndim != 4 or 0 in given.shape[2:]:
        raise ValueError(f"{name} must have shape (S, C, h, w) with cells in it, got {tuple(given.shape)}")
    if not 1 <= given.shape[0] <= _checks.MAX_SCALES:
        raise ValueError(f"{name} must hold 1 to {_checks.MAX_SCALES} scales, got {given.shape[0]}")
    return given
