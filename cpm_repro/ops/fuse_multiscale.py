"""Belief maps of several scales, brought back to the image and averaged; and their maxima alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import torch

from cpm_repro.ops import _checks, _cupy, _reference_resize
from cpm_repro.ops._backend import choose, name_of
from cpm_repro.ops._fuse_arguments import Mode, Options, Person, check_options, check_people, check_person

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
    out: torch.Tensor | Sequence[torch.Tensor] | None = None,
    backend: str | None = None,
) -> Any:
    """Full-size belief maps from several scales: the release's test-time chain in one pass.

    Per scale: enlarge the cells by ``stride`` (MATLAB bicubic), undo the padding of the network's input
    (uncovered pixels get 0, in the background channel 1), resize to the image (MATLAB bicubic, antialiased
    when it shrinks); then average. Every step is linear and separable, so one banded matrix per axis and
    scale does it all (spec `inference.md`, step 4); nothing in between is stored. Not differentiable.

    Args:
        maps: (S, C, h, w) floating point, one person's scores of S scales; or a list of such tensors, one per
            person, which may differ in every size. On a CPU the threads then share the work of all people,
            on a GPU every person takes launches and a workspace of its own.
        pads: (S, 4) whole numbers: up, left, down, right pixels that were added to the scaled image to fill
            the h * stride x w * stride input (negative: cropped). A list for several people.
        sizes: (S, 2) whole numbers: height, width of the scaled image. A list for several people.
        image_hw: (H, W) of the original image; for several people one for all, or a list.
        weights: per scale, not negative; they are divided by their sum. Default: the mean.
        mode: "matlab", the above; "opencv": one cubic step with a = -0.75 from the cells to the image, no
            antialiasing, edge cells repeated (a faster approximation that other implementations use).
        stride: input pixels per cell.
        background: the last channel is the background (1 where nothing is known).
        out: (C, H, W) float32, contiguous, to write the maps into; for several people a list of them,
            which must not share memory.
        backend: cpu, cuda, cupy or reference; default: CPM_BACKEND, else the fastest there is.

    Returns:
        (C, H, W) float32; a list of them for several people.

    Raises:
        TypeError, ValueError: naming the argument, what was wanted and what was got.
    """
    options = _options(weights, mode, stride, background)
    if isinstance(maps, torch.Tensor):
        person = check_person(maps, pads, sizes, image_hw, options)
        return _fuse([person], options, None if out is None else [out], backend)[0]
    people = check_people(maps, pads, sizes, image_hw, options)
    return _fuse(people, options, None if out is None else _checks.tensors("out", out, "person"), backend)


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
    subpixel: bool = False,
    backend: str | None = None,
) -> Any:
    """Position and height of each channel's maximum of ``fuse_multiscale``, without its full-size maps.

    Exactly the argmax of ``fuse_multiscale`` with the same arguments. Bounds on what a patch of the image can
    reach let most of it be skipped. A pixel that is NaN is never the maximum; where all pixels are NaN, the
    position is (0, 0) and the score minus infinity.

    Positions are float32, which holds every whole number only up to 2**24: images have sides of at most that,
    and fewer than 2**32 pixels.

    Args:
        maps, pads, sizes, image_hw, weights, mode, stride, background, backend: as for ``fuse_multiscale``.
        order: which of several equal maxima counts: "column" the first in column-major order, as the
            release's benchmark; "row" the first in row-major order, as its interactive program.
        subpixel: move each position, per axis, to the top of the parabola through the maximum and its two
            neighbours (at most half a pixel; not at the image's border). The release does not do that: its
            numbers are those of whole pixels. The score stays the whole pixel's.

    Returns:
        xy (C, 2) float32, 0-based image pixels, and score (C,) float32; lists of them for several people.

    Raises:
        TypeError, ValueError: naming the argument, what was wanted and what was got.
    """
    _checks.choice("order", order, ("column", "row"))
    refine = _checks.flag("subpixel", subpixel)
    options = _options(weights, mode, stride, background)
    if isinstance(maps, torch.Tensor):
        person = check_person(maps, pads, sizes, image_hw, options)
        positions, scores = _peaks([person], options, order, refine, backend)
        return positions[0], scores[0]
    people = check_people(maps, pads, sizes, image_hw, options)
    return _peaks(people, options, order, refine, backend)


def _options(weights: Sequence[float] | None, mode: Mode, stride: int, background: bool) -> Options:
    known = _checks.flag("background", background)
    return check_options(Options(_checks.reusable(weights), mode, stride, known))


def _fuse(
    people: list[Person], options: Options, out: list[Any] | None, backend: str | None
) -> list[torch.Tensor]:
    _check_one_device(people)
    chosen = _choose(people, backend, "fuse_multiscale_out")
    shapes = [(person.maps.shape[1], *person.image) for person in people]
    given = out
    if out is None:
        made = zip(people, shapes, strict=True)
        out = [_checks.allocate("image_hw", shape, torch.float32, p.maps.device) for p, shape in made]
    if len(out) != len(people):
        raise ValueError(f"out must have one entry per person ({len(people)}), got {len(out)}")
    for person, shape, result in zip(people, shapes, out, strict=True):
        _check_out(_checks.tensor("out", result), shape, person.maps.device)
    results: list[torch.Tensor] = out
    if given is not None and any(itertools.starmap(_checks.overlap, itertools.combinations(results, 2))):
        raise ValueError("out must be tensors that share no memory, got two that do")
    work = [pair for pair in zip(people, results, strict=True) if pair[1].numel()]
    if not work:
        return results
    if chosen == "reference":
        for person, result in work:
            with _checks.in_memory("image_hw", person.image):
                result.copy_(person.reference(options))
        return results
    busy = [person for person, _ in work]
    if chosen != "cpu":
        _check_tiles(busy)
    operators: Any = _cupy if chosen == "cupy" else torch.ops.cpm_repro
    opencv = options.mode == "opencv"
    with _checks.in_memory("image_hw", *[p.image for p in busy]):
        operators.fuse_multiscale_out(
            *_sources(busy), options.stride, options.background, opencv, [r for _, r in work]
        )
    if given is not None:
        _checks.written(results)
    return results


def _peaks(
    people: list[Person], options: Options, order: Order, subpixel: bool, backend: str | None
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    _check_one_device(people)
    for person in people:
        _checks.peak_size("image_hw", person.image)
    chosen = _choose(people, backend, "fuse_multiscale_peaks")
    counts = [person.maps.shape[1] for person in people]
    if sum(counts) == 0:
        pairs = [(p.maps.new_empty((0, 2)), p.maps.new_empty(0)) for p in people]
        return [xy for xy, _ in pairs], [score for _, score in pairs]
    row_major = order == "row"
    if chosen == "reference":
        find = _reference_resize.peaks
        with _checks.in_memory("image_hw", *[p.image for p in people]):
            pairs = [find(person.reference(options), row_major, subpixel) for person in people]
        return [xy for xy, _ in pairs], [score for _, score in pairs]
    images = [side for person in people if person.maps.shape[1] for side in person.image]
    if chosen != "cpu":
        _check_tiles(people)
    operators: Any = _cupy if chosen == "cupy" else torch.ops.cpm_repro
    with _checks.in_memory("image_hw", *[p.image for p in people]):
        xy, score = operators.fuse_multiscale_peaks(
            *_sources([person for person in people if person.maps.shape[1]]),
            images,
            options.stride,
            options.background,
            options.mode == "opencv",
            row_major,
            subpixel,
        )
    return list(xy.split(counts)), list(score.split(counts))


def _sources(people: list[Person]) -> tuple[list[torch.Tensor], list[int], list[float]]:
    """Maps, geometry and weights of all people, one after the other."""
    return (
        [person.maps for person in people],
        [value for person in people for value in person.geometry],
        [value for person in people for value in person.weights],
    )


def _check_one_device(people: list[Person]) -> None:
    for index, person in enumerate(people[1:], 1):
        _checks.same_device(f"maps[{index}]", person.maps, "maps[0]", people[0].maps)


def _choose(people: list[Person], backend: str | None, operator: str) -> str | None:
    """The back end; of nobody, who is on no device, what was asked for."""
    return choose(backend, operator, people[0].maps.device) if people else name_of(backend)


def _check_tiles(people: list[Person]) -> None:
    """One launch on a GPU has fewer than 2**31 blocks, each of which makes one tile of one channel."""
    for person in people:
        channels = person.maps.shape[1]
        tiles = _cupy.fusion_tiles(channels, *person.image)
        if tiles >= 2**31:
            wanted = "must make fewer than 2**31 tiles of all channels on a GPU"
            raise ValueError(f"image_hw {wanted}, got {tiles} of {channels} channels of {person.image}")


def _check_out(out: torch.Tensor, shape: tuple[int, ...], device: torch.device) -> None:
    if (tuple(out.shape), out.dtype, out.device) != (shape, torch.float32, device):
        got = f"{tuple(out.shape)} {out.dtype} on {out.device}"
        raise ValueError(f"out must be {shape} torch.float32 on {device}, got {got}")
    if not out.is_contiguous():
        raise ValueError(f"out must be contiguous, got strides {out.stride()}")
    _checks.without_history(out)
