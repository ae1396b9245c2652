"""The release's test procedure, exactly: seven scales of a person, averaged, and each part's highest belief.

Spec `inference.md`, "Benchmark procedure". Published scores depend on it; for everyday use
:class:`cpm_repro.PoseEstimator` looks once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from cpm_repro import ops
from cpm_repro.config import FULL_CROP
from cpm_repro.data.augment import BORDER
from cpm_repro.data.lsp_scale import TARGET
from cpm_repro.device import float32_products, usable_device
from cpm_repro.errors import UserError
from cpm_repro.image_file import MAX_PIXELS
from cpm_repro.inference.decode import check_finite
from cpm_repro.inference.fast_convolution import fast_convolutions
from cpm_repro.inference.images import as_bgr
from cpm_repro.inference.network_input import network_input
from cpm_repro.inference.places import checked_point
from cpm_repro.model import PoseMachine

MULTIPLIERS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
"""The benchmark's seven scales around the one at which the person has the size of training."""

LSP_SHARE = 0.8
"""LSP's people are taken to be this share of the image's height, and to stand in its middle."""

MAX_SCALE = 256.0
"""An image enlarged more than this shows nothing; the fusion's kernels are bounded accordingly."""

Order = Literal["column", "row"]


def person_scale(scale_provided: float, target: float = TARGET) -> float:
    """scale0 of a person of MPII or FLIC, whose scale_provided is known (FLIC: 0.0110 x torso height).

    ``target`` is the scale_provided that people have in a box of 368 px: the release's, or a network's own.
    """
    if not (math.isfinite(scale_provided) and scale_provided > 0):
        raise UserError(f"scale: wanted a positive number (height / 200 px), got {scale_provided:g}")
    return target / scale_provided


def lsp_place(image_hw: tuple[int, int]) -> tuple[tuple[float, float], float]:
    """Centre (0-based x, y) and scale0 of LSP, which gives neither: the image's middle and height."""
    height, width = image_hw
    return (width / 2 - 1, height / 2 - 1), LSP_SHARE / (height / FULL_CROP)


def box_place(
    box: Sequence[float], image_hw: tuple[int, int]
) -> tuple[tuple[float, float], tuple[float, ...]]:
    """Centre and scales of the release's interactive program, from a box (x0, y0, x1, y1), 0-based pixels.

    The box is clipped to the image; scales are a sixth of an octave apart and let 1.2 of its height, up to a
    fifth more or less, fill the network's 368 px: four scales.

    Raises:
        UserError: a box that has no area inside the image.
    """
    height, width = image_hw
    x0, x1 = (min(max(float(value), 0.0), width - 1.0) for value in (box[0], box[2]))
    y0, y1 = (min(max(float(value), 0.0), height - 1.0) for value in (box[1], box[3]))
    if not (x1 > x0 and y1 > y0):
        raise UserError(f"box: {tuple(box)} has no area inside the {width}x{height} image")
    middle = 1.2 * (y1 - y0)
    low, high = (math.log2(FULL_CROP / (share * middle)) for share in (1.2, 0.8))
    steps = math.floor((high - low) * 6 + 1e-9) + 1
    return ((x0 + x1) / 2, (y0 + y1) / 2), tuple(2 ** (low + step / 6) for step in range(steps))


@dataclass(frozen=True)
class Views:
    """What the network sees of one person at S scales, and how that came out of the image."""

    crops: Tensor  # (S, box, box, 3) uint8 BGR, on the procedure's device
    pads: list[tuple[int, int, int, int]]  # up, left, down, right; negative: cropped
    sizes: list[tuple[int, int]]  # height, width of the scaled image


@dataclass(frozen=True)
class Estimate:
    """One person's parts in image pixels, 0-based."""

    keypoints: np.ndarray  # (K, 2) float64, whole pixels
    scores: np.ndarray  # (K,) float32: the averaged belief there


class BenchmarkProcedure:
    """Estimates one person as the release's benchmark programs do, or its interactive one.

    Per scale: MATLAB's imresize of the photograph (8-bit), the rounded centre brought to 1-based pixel 184
    of a 368 px box padded with 128, a centre map without cut-off, the last stage's maps; then all scales are
    fused by :func:`cpm_repro.ops.fuse_multiscale_peaks`. All scales go through the network in one batch.

    Sizes and paddings are worked out beforehand; the photograph is brought to the device once, everything
    is done there, and the parts come back in one piece: nothing waits for the device on the way.

    Args:
        net: a pose network; it is moved to ``device`` and put into evaluation mode.
        box: side of the network's input. 368 is the release's; networks trained on smaller crops take theirs,
            with every scale in proportion.
        device: where to run; None takes a GPU when there is one.
        stages: stop after so many stages.

    Raises:
        UserError: a network that finds people instead of parts, or does not accept the box.
    """

    def __init__(
        self,
        net: PoseMachine,
        *,
        box: int = FULL_CROP,
        device: str | torch.device | None = None,
        stages: int | None = None,
    ) -> None:
        if net.input_channels != 4:
            raise UserError(f"{net.arch} finds people, not parts: wanted a pose network")
        if box % 2 or not net.accepts(box) or net.map_size(box) * net.stride != box:
            raise UserError(f"box: {net.arch} wanted a side that is a multiple of {net.stride}, got {box}")
        self.device = usable_device(device)
        net = fast_convolutions(net.to(self.device)).eval()
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._arch = net.arch
        self.box = box
        self.stages = stages

    def __call__(
        self,
        image: np.ndarray,
        center: Sequence[float],
        scale0: float,
        multipliers: Sequence[float] = MULTIPLIERS,
        *,
        order: Order = "column",
    ) -> Estimate:
        """Parts of the person at ``center``.

        Args:
            image: (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16, BGR.
            center: x, y of the person, 0-based image pixels; it may lie outside the image.
            scale0: what brings the person to the size of training in a box of 368 px (`person_scale`,
                `lsp_place`).
            multipliers: the scales around it; with scale0 = 1 they are the scales of `box_place`.
            order: which of equal beliefs counts: "column" the first in column-major order, as in the
                benchmark, "row" in row-major order, as in the interactive program.

        Raises:
            UserError: a centre that is not two finite numbers, no scales, or one at which the image cannot be
                shown; the network's arithmetic overflows.
            TypeError, ValueError: an array that is no image.
        """
        views = self.views(image, center, scale0, multipliers)
        return self.peaks(self.stage_maps(views), views, image.shape[:2], order=order)

    def belief_maps(
        self,
        image: np.ndarray,
        center: Sequence[float],
        scale0: float,
        multipliers: Sequence[float] = MULTIPLIERS,
    ) -> Tensor:
        """The averaged maps, of which a call gives the maxima: (K+1, H, W) float32, background last."""
        views = self.views(image, center, scale0, multipliers)
        maps: Tensor = ops.fuse_multiscale(self.stage_maps(views), views.pads, views.sizes, image.shape[:2])
        return maps

    def views(
        self,
        image: np.ndarray,
        center: Sequence[float],
        scale0: float,
        multipliers: Sequence[float] = MULTIPLIERS,
    ) -> Views:
        """The person's box at every scale.

        Raises:
            UserError, TypeError, ValueError: as a call.
        """
        image, center = as_bgr(image), checked_point(center)
        if not len(multipliers):
            raise UserError("multipliers: wanted at least one scale, got none")
        scales = [scale0 * multiplier * (self.box / FULL_CROP) for multiplier in multipliers]
        sizes = [_scaled_size(image.shape[:2], scale) for scale in scales]
        pads = [self._pad(size, center, scale) for size, scale in zip(sizes, scales, strict=True)]
        photograph = torch.from_numpy(np.require(image, requirements="W")).to(self.device)
        shape = (len(scales), self.box, self.box, 3)
        crops = torch.full(shape, BORDER, dtype=torch.uint8, device=self.device)
        for crop, scale, pad in zip(crops, scales, pads, strict=True):
            _paste(ops.imresize(photograph, scale), crop, pad[:2])
        return Views(crops, pads, sizes)

    def peaks(
        self, maps: Tensor, views: Views, image_hw: Sequence[int], *, order: Order = "column"
    ) -> Estimate:
        """The parts of the person whose ``views`` gave the ``maps`` of :meth:`stage_maps`.

        Raises:
            UserError: the network's arithmetic overflows.
        """
        xy, score = ops.fuse_multiscale_peaks(maps, views.pads, views.sizes, image_hw, order=order)
        found = torch.cat((xy, score[:, None]), dim=1)[:-1].cpu().numpy()  # the only read-back
        check_finite(found[:, 2], self._arch)
        return Estimate(found[:, :2].astype(np.float64), found[:, 2].copy())

    @torch.inference_mode()
    def network_input(self, views: Views) -> Tensor:
        """What the network reads of the views: (S, 4, box, box) float32, channels last."""
        middle = self.box // 2 - 1  # the 0-based pixel that the centre was brought to
        center = torch.full((len(views.crops), 2), float(middle), device=self.device)
        data = network_input(views.crops, center, cutoff=False)
        return data.contiguous(memory_format=torch.channels_last)

    def _pad(self, size: tuple[int, int], center: Sequence[float], scale: float) -> tuple[int, int, int, int]:
        """Up, left, down, right such that 1-based pixel box / 2 of the box is the scaled centre."""
        x, y = (_round_half_away((value + 1.0) * scale) for value in center)
        half = self.box // 2
        return half - y, half - x, half - (size[0] - y), half - (size[1] - x)

    @torch.inference_mode()
    def stage_maps(self, views: Views) -> Tensor:
        """The last stage's maps of every scale: (S, K+1, h, w) float32; a GPU computes them without TF32."""
        with float32_products(self.device, tf32=False):
            return cast(Tensor, self.net(self.network_input(views), stages=self.stages)[-1].float())


def _scaled_size(image_hw: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Height and width of the scaled image; UserError if it cannot be made."""
    height, width = image_hw
    if not (math.isfinite(scale) and 0 < scale <= MAX_SCALE):
        raise UserError(
            f"scale: wanted the {width}x{height} image enlarged at most {MAX_SCALE:g} times, got {scale:g}"
        )
    size = math.ceil(scale * height), math.ceil(scale * width)
    if size[0] * size[1] > MAX_PIXELS:
        raise UserError(
            f"scale: {scale:g} would make the {width}x{height} image {size[1]}x{size[0]}: "
            f"wanted at most {MAX_PIXELS} pixels, got {size[0] * size[1]}"
        )
    return size


def _paste(scaled: Tensor, crop: Tensor, offset: tuple[int, int]) -> None:
    """Write into ``crop`` what it sees of ``scaled``, whose corner lies at ``offset`` (row, column) in it."""
    seen = crop
    for axis in (0, 1):
        start = max(offset[axis], 0)
        length = min(offset[axis] + scaled.shape[axis], crop.shape[axis]) - start
        if length <= 0:
            return
        seen = seen.narrow(axis, start, length)
        scaled = scaled.narrow(axis, start - offset[axis], length)
    seen.copy_(scaled)


def _round_half_away(value: float) -> int:
    """MATLAB's round."""
    whole = math.floor(abs(value))
    rounded = whole + (abs(value) - whole >= 0.5)
    return rounded if value >= 0 else -rounded
