"""Belief maps of several scales, brought back to the image and averaged; and their maxima alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from cpm_repro.ops import _checks, _reference_resize
from cpm_repro.ops._backend import choose

Mode = Literal["matlab", "opencv"]
Order = Literal["column", "row"]


def fuse_multiscale(
    maps: torch.Tensor | Sequence[torch.Tensor],
    pads: Any,
    sizes: Any,
    image_hw: Any,
    *,
    weights: Sequence[float] | None = None,
    mode: Mode = "matlab",
    stride: int = 8,
    background: bool = True,
    out: torch.Tensor | None = None,
    backend: str | None = None,
) -> Any:
    """Full-size belief maps of one person from several scales: the release's test-time chain in one pass.

    Per scale: enlarge the cells by ``stride`` (MATLAB bicubic), undo the padding of the network's input
    (uncovered pixels get 0, in the background channel 1), resize to the image (MATLAB bicubic, antialiased
    when it shrinks); then average. Every step is linear and separable, so one banded matrix per axis and
    scale does it all (spec `inference.md`, step 4); nothing in between is stored. Not differentiable.

    Args:
        maps: (S, C, h, w) floating point, scores of S scales; a list of such tensors for several people.
        pads: (S, 4) whole numbers: up, left, down, right pixels that were added to the scaled image to fill
            the h * stride x w * stride input (negative: cropped). A list for several people.
        sizes: (S, 2) whole numbers: height, width of the scaled image. A list for several people.
        image_hw: (H, W) of the original image; for several people one for all, or a list.
        weights: per scale, not negative; they are divided by their sum. Default: the mean.
        mode: "matlab", the above; "opencv": one cubic step with a = -0.75 from the cells to the image, no
            antialiasing, edge cells repeated (a faster approximation that other implementations use).
        stride: input pixels per cell.
        background: the last channel is the background (1 where nothing is known).
        out: (C, H, W) float32, contiguous, to write one person's maps into.
        backend: cpu, cuda or reference; default: CPM_BACKEND, else the fastest there is.

    Returns:
        (C, H, W) float32; a list of them for several people.

    Raises:
        TypeError, ValueError: naming the argument, what was wanted and what was got.
    """
    if isinstance(maps, torch.Tensor):
        chain = _chain(maps, pads, sizes, image_hw, weights, mode, stride, background)
        return _fuse_one(chain, out, backend)
    if out is not None:
        raise ValueError("out must be None for several people, got a tensor")
    people = _people(maps, pads, sizes, image_hw)
    chains = [_chain(*person, weights, mode, stride, background) for person in people]
    return [_fuse_one(chain, None, backend) for chain in chains]


def fuse_multiscale_peaks(
    maps: torch.Tensor | Sequence[torch.Tensor],
    pads: Any,
    sizes: Any,
    image_hw: Any,
    *,
    weights: Sequence[float] | None = None,
    mode: Mode = "matlab",
    stride: int = 8,
    background: bool = True,
    order: Order = "column",
    backend: str | None = None,
) -> Any:
    """Position and height of each channel's maximum of ``fuse_multiscale``, without its full-size maps.

    Exactly the argmax of ``fuse_multiscale`` with the same arguments. Bounds on what a patch of the image can
    reach let most of it be skipped.

    Args:
        maps, pads, sizes, image_hw, weights, mode, stride, background, backend: as for ``fuse_multiscale``.
        order: which of several equal maxima counts: "column" the first in column-major order, as the
            release's benchmark; "row" the first in row-major order, as its interactive program.

    Returns:
        xy (C, 2) float32, 0-based image pixels, and score (C,) float32; lists of them for several people.

    Raises:
        TypeError, ValueError: naming the argument, what was wanted and what was got.
    """
    if order not in ("column", "row"):
        raise ValueError(f"order must be 'column' or 'row', got {order!r}")
    if isinstance(maps, torch.Tensor):
        return _peaks_one(
            _chain(maps, pads, sizes, image_hw, weights, mode, stride, background), order, backend
        )
    people = _people(maps, pads, sizes, image_hw)
    chains = [_chain(*person, weights, mode, stride, background) for person in people]
    pairs = [_peaks_one(chain, order, backend) for chain in chains]
    return [xy for xy, _ in pairs], [score for _, score in pairs]


@dataclass(frozen=True)
class _Chain:
    """Checked arguments of one person."""

    maps: torch.Tensor  # (S, C, h, w) contiguous float32
    pads: list[list[int]]
    sizes: list[list[int]]
    image: tuple[int, int]
    weights: list[float]  # sum 1
    mode: Mode
    stride: int
    background: bool

    def operator_arguments(self) -> tuple[Any, ...]:
        geometry = [
            value
            for (up, left, _, _), size in zip(self.pads, self.sizes, strict=True)
            for value in (up, left, *size)
        ]
        opencv = self.mode == "opencv"
        return self.maps, geometry, self.weights, self.stride, self.background, opencv

    def reference(self) -> torch.Tensor:
        function = (
            _reference_resize.fuse_opencv if self.mode == "opencv" else _reference_resize.fuse_multiscale
        )
        return function(
            self.maps, self.pads, self.sizes, self.image, self.stride, self.weights, self.background
        )


def _fuse_one(chain: _Chain, out: torch.Tensor | None, backend: str | None) -> torch.Tensor:
    shape = (chain.maps.shape[1], *chain.image)
    result = chain.maps.new_empty(shape) if out is None else out
    if (result.shape, result.dtype, result.device) != (shape, torch.float32, chain.maps.device):
        got = f"{tuple(result.shape)} {result.dtype} on {result.device}"
        raise ValueError(f"out must be {shape} torch.float32 on {chain.maps.device}, got {got}")
    if not result.is_contiguous():
        raise ValueError(f"out must be contiguous, got strides {result.stride()}")
    if choose(backend, "fuse_multiscale_out", chain.maps.device) == "reference":
        return result.copy_(chain.reference())
    torch.ops.cpm_repro.fuse_multiscale_out(*chain.operator_arguments(), result)
    return result


def _peaks_one(chain: _Chain, order: Order, backend: str | None) -> tuple[torch.Tensor, torch.Tensor]:
    if choose(backend, "fuse_multiscale_peaks", chain.maps.device) == "reference":
        xy, score = _reference_resize.first_peaks(chain.reference(), order == "row")
        return xy.float(), score
    return torch.ops.cpm_repro.fuse_multiscale_peaks(
        *chain.operator_arguments(), *chain.image, order == "row"
    )


def _people(
    maps: Sequence[torch.Tensor], pads: Any, sizes: Any, image_hw: Any
) -> list[tuple[Any, Any, Any, Any]]:
    """One tuple of arguments per person."""
    for name, value in (("pads", pads), ("sizes", sizes)):
        if len(value) != len(maps):
            raise ValueError(f"{name} must have one entry per person ({len(maps)}), got {len(value)}")
    one_image = len(image_hw) == 2 and not any(hasattr(side, "__len__") and len(side) for side in image_hw)
    images = [image_hw] * len(maps) if one_image else list(image_hw)
    if len(images) != len(maps):
        raise ValueError(f"image_hw must be one (H, W) or one per person ({len(maps)}), got {len(images)}")
    return list(zip(maps, pads, sizes, images, strict=True))


def _chain(
    maps: torch.Tensor,
    pads: Any,
    sizes: Any,
    image_hw: Any,
    weights: Sequence[float] | None,
    mode: Mode,
    stride: int,
    background: bool,
) -> _Chain:
    """Check one person's arguments."""
    given = _checks.tensor("maps", maps)
    if not given.is_floating_point():
        raise TypeError(f"maps must be a floating-point tensor, got {given.dtype}")
    if given.ndim != 4 or 0 in given.shape[1:]:
        raise ValueError(f"maps must have shape (S, C, h, w) with no empty side, got {tuple(given.shape)}")
    scales = given.shape[0]
    if not 1 <= scales <= _checks.MAX_SCALES:
        raise ValueError(f"maps must hold 1 to {_checks.MAX_SCALES} scales, got {scales}")
    if mode not in ("matlab", "opencv"):
        raise ValueError(f"mode must be 'matlab' or 'opencv', got {mode!r}")
    if isinstance(stride, bool) or not isinstance(stride, int):
        raise TypeError(f"stride must be a whole number, got {type(stride).__name__}")
    if not 1 <= stride <= _checks.MAX_STRIDE:
        raise ValueError(f"stride must be between 1 and {_checks.MAX_STRIDE}, got {stride}")
    pad_rows = _checks.whole_rows("pads", pads, scales, 4)
    size_rows = _checks.whole_rows("sizes", sizes, scales, 2)
    for index, ((up, left, down, right), (height, width)) in enumerate(zip(pad_rows, size_rows, strict=True)):
        if height < 1 or width < 1:
            raise ValueError(f"sizes[{index}] must be positive, got {(height, width)}")
        box = (given.shape[2] * stride, given.shape[3] * stride)
        if (up + height + down, left + width + right) != box:
            padded = (up + height + down, left + width + right)
            raise ValueError(
                f"pads[{index}] and sizes[{index}] must add up to {box} input pixels, got {padded}"
            )
    image = _checks.size("image_hw", image_hw)
    for index, (height, width) in enumerate(size_rows):
        if height > _checks.MAX_SHRINKING * image[0] or width > _checks.MAX_SHRINKING * image[1]:
            limit = f"{_checks.MAX_SHRINKING} times image_hw {image}"
            raise ValueError(f"sizes[{index}] must be at most {limit}, got {(height, width)}")
    normal = _checks.scale_weights(weights, scales)
    clean = given.detach().to(torch.float32).contiguous()
    return _Chain(clean, pad_rows, size_rows, image, normal, mode, stride, bool(background))
