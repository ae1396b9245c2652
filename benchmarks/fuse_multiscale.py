"""The multi-scale chain, and the peaks alone, beside the two-step chains of OpenCV and of torch.

Seven scales, 15 channels, 720x1280, scale0 = 368/600, centred: one Gaussian bump per part plus 1 % noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from kernels import CUPY, fill, in_turn, rotated

from cpm_repro import ops
from cpm_repro.bench import Case, Goal, Question, largest, main
from cpm_repro.ops._reference_resize import resize_axis

CHANNELS = 15

Geometry = tuple[list[list[int]], list[list[int]]]


def geometry(image: tuple[int, int]) -> Geometry:
    """Pads and sizes of seven scales, centred."""
    pads, sizes = [], []
    for k in range(7):
        scale = 368 / 600 * (0.7 + 0.1 * k)
        size = [math.ceil(side * scale) for side in image]
        up, left = (184 - math.floor(side / 2 * scale + 0.5) for side in image)
        pads.append([up, left, 368 - up - size[0], 368 - left - size[1]])
        sizes.append(size)
    return pads, sizes


def bump_maps(channels: int) -> torch.Tensor:
    """(7, C, 46, 46): a bump per part and its background, with noise."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.arange(46.0)
    at = torch.rand(channels - 1, 2, generator=generator) * 36 + 5
    parts = torch.exp(
        -((axis[:, None] - at[:, 1, None, None]) ** 2 + (axis - at[:, 0, None, None]) ** 2) / 1.5
    )
    maps = torch.cat([parts, 1 - parts.amax(0, keepdim=True)])
    return maps + 0.01 * torch.randn(7, channels, 46, 46, generator=generator)


def weights_of_axis(cells: int, before: int, scaled: int, image: int) -> torch.Tensor:
    """(image, cells): what one axis of the chain multiplies the cells by, made step by step."""
    large = resize_axis(torch.eye(cells, dtype=torch.float64), 0, 8 * cells, 8.0)
    whole = torch.zeros(scaled, cells, dtype=torch.float64)
    first, last = max(0, -before), min(scaled, 8 * cells - before)
    whole[first:last] = large[first + before : last + before]
    return resize_axis(whole, 0, image, image / scaled)


def multiply_adds(
    pads: list[list[int]], sizes: list[list[int]], image: tuple[int, int], cells: int = 46
) -> int:
    """What one channel needs at least: one for every weight that is not zero, rows of cells first."""
    count = 0
    for (up, left, _, _), (height, width) in zip(pads, sizes, strict=True):
        down = weights_of_axis(cells, up, height, image[0]).abs() > 1e-12
        across = weights_of_axis(cells, left, width, image[1]).abs() > 1e-12
        count += int(down.any(0).sum()) * int(across.sum()) + int(down.sum()) * image[1]
    return count


def opencv_chain(
    maps: np.ndarray, pads: list[list[int]], sizes: list[list[int]], image: tuple[int, int]
) -> np.ndarray:
    """Two cubic resizes per scale with OpenCV: x8, undo the padding, to the image; mean."""
    total = np.zeros((*image, maps.shape[1]), np.float32)
    for belief, (up, left, _, _), (height, width) in zip(maps, pads, sizes, strict=True):
        large = cv2.resize(
            np.ascontiguousarray(belief.transpose(1, 2, 0)), (368, 368), interpolation=cv2.INTER_CUBIC
        )
        whole = np.zeros((height, width, maps.shape[1]), np.float32)
        whole[:, :, -1] = 1
        y0, y1, x0, x1 = max(0, -up), min(height, 368 - up), max(0, -left), min(width, 368 - left)
        whole[y0:y1, x0:x1] = large[y0 + up : y1 + up, x0 + left : x1 + left]
        total += cv2.resize(whole, image[::-1], interpolation=cv2.INTER_CUBIC)
    return total / len(maps)


def torch_chain(
    maps: torch.Tensor, pads: list[list[int]], sizes: list[list[int]], image: tuple[int, int]
) -> torch.Tensor:
    """The same two steps with F.interpolate."""
    total = torch.zeros(maps.shape[1], *image, device=maps.device)
    for belief, (up, left, down, right), _ in zip(maps, pads, sizes, strict=True):
        large = functional.interpolate(belief[None], scale_factor=8.0, mode="bicubic")
        whole = functional.pad(large, [-left, -right, -up, -down])
        total += functional.interpolate(whole, size=image, mode="bicubic", antialias=True)[0]
    return total / len(maps)


class Person:
    """One person's maps and geometry, and every way of fusing them."""

    def __init__(self, image: tuple[int, int], device: str) -> None:
        self.image = image
        self.maps = bump_maps(CHANNELS).to(device)
        self.pads, self.sizes = geometry(image)
        self.fulls = rotated((CHANNELS, *image), device=device)

    @property
    def arguments(self) -> tuple[torch.Tensor, list[list[int]], list[list[int]], tuple[int, int]]:
        """As the operators and the chains take them."""
        return self.maps, self.pads, self.sizes, self.image

    def full(self, number: int) -> torch.Tensor:
        """The tensor that a call writes into."""
        return in_turn(self.fulls, number)[0]

    def fuse(self, number: int = 0, backend: str | None = None) -> torch.Tensor:
        """The operator, into a given tensor."""
        return ops.fuse_multiscale(*self.arguments, out=self.full(number), backend=backend)

    def fuse_opencv_mode(self, number: int = 0) -> torch.Tensor:
        """Its approximation with one step."""
        return ops.fuse_multiscale(*self.arguments, mode="opencv", out=self.full(number))

    def peaks(self, _: int = 0) -> object:
        """The operator that keeps the maxima only."""
        return ops.fuse_multiscale_peaks(*self.arguments)

    def fuse_then_amax(self, number: int = 0) -> torch.Tensor:
        """The same maxima in two steps."""
        return self.fuse(number).amax((1, 2))

    def with_opencv(self, _: int = 0) -> np.ndarray:
        """Two steps with OpenCV and NumPy."""
        return opencv_chain(self.maps.numpy(), self.pads, self.sizes, self.image)

    def with_torch(self, _: int = 0) -> torch.Tensor:
        """Two steps with F.interpolate."""
        return torch_chain(*self.arguments)

    def difference(self) -> float:
        """Of two channels from the step-by-step float64 chain."""
        some = self.maps[:, -2:]
        expected = ops.fuse_multiscale(some, self.pads, self.sizes, self.image, backend="reference")
        return largest(float((self.fuse(0, name)[-2:] - expected).abs().max()) for name in (None, *CUPY))

    def differing_peaks(self) -> float:
        """How many maxima are not those of the full maps, or not where they say."""
        xy, score = ops.fuse_multiscale_peaks(*self.arguments)
        full = self.fuse()
        there = full[torch.arange(CHANNELS), xy[:, 1].long(), xy[:, 0].long()]
        return float(((score != full.amax((1, 2))) | (there != score)).sum())


def _cases(quick: bool, device: str) -> Iterator[Case]:
    person = Person((90, 160) if quick else (720, 1280), device)
    size = "x".join(map(str, person.image))
    pixels = person.full(0).numel()
    ways: dict[str, Callable[[int], object]] = {
        "fuse_multiscale": person.fuse,
        "fill": partial(fill, person.fulls),
    }
    if device == "cpu":
        ways["OpenCV/NumPy, two steps"] = person.with_opencv
        goals: tuple[Goal, ...] = (Goal("OpenCV/NumPy, two steps", 10.0),)
    else:
        ways["torch.compile, two steps"] = torch.compile(person.with_torch, dynamic=False)
        goals = (
            Goal("limit", 0.6),
            Goal("eager torch, two steps", 10.0),
            Goal("torch.compile, two steps", 2.0),
        )
    ways["eager torch, two steps"] = person.with_torch
    ways["fuse_multiscale, mode=opencv (another rule)"] = person.fuse_opencv_mode
    if CUPY:
        ways["fuse_multiscale, CuPy back end"] = partial(person.fuse, backend="cupy")
    captured = tuple(ways)
    if device == "cuda":
        ways["fuse_multiscale, called from Python"] = person.fuse
    yield Case(
        f"maps, {size}",
        ways,
        check=person.difference,
        tolerance=1e-5,
        bytes=4 * pixels,
        operations=2 * CHANNELS * multiply_adds(person.pads, person.sizes, person.image),
        goals=goals,
        graphs=captured,
    )
    wanted = 3.0 if device == "cpu" else 1.0
    yield Case(
        f"peaks only, {size}",
        {
            "fuse_multiscale_peaks": person.peaks,
            "fuse_multiscale": person.fuse,
            "fuse_multiscale, then amax": person.fuse_then_amax,
        },
        check=person.differing_peaks,
        tolerance=0.0,
        goals=(Goal("fuse_multiscale", wanted), Goal("fuse_multiscale, then amax", wanted)),
        graphs=("fuse_multiscale_peaks", "fuse_multiscale", "fuse_multiscale, then amax"),
    )


def ask(quick: bool, device: str) -> Question:
    """Full maps, and peaks alone."""
    about = f"How fast are 7 scales of {CHANNELS} belief maps brought to the image's size and averaged?"
    return Question("Multi-scale fusion", about, _cases(quick, device))


if __name__ == "__main__":
    main(ask, __file__)
