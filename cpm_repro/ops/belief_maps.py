"""Belief-map targets and centre maps from joint positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch

from cpm_repro.ops import _checks, _cupy, _reference
from cpm_repro.ops._backend import choose


@overload
def belief_maps(
    joints: torch.Tensor,
    visible: torch.Tensor,
    grid: Sequence[int] = ...,
    stride: float = ...,
    sigma: float = ...,
    *,
    center: None = ...,
    center_sigma: float = ...,
    center_size: Sequence[int] | None = ...,
    dtype: torch.dtype = ...,
    out: torch.Tensor | None = ...,
    backend: str | None = ...,
) -> torch.Tensor: ...


@overload
def belief_maps(
    joints: torch.Tensor,
    visible: torch.Tensor,
    grid: Sequence[int] = ...,
    stride: float = ...,
    sigma: float = ...,
    *,
    center: torch.Tensor,
    center_sigma: float = ...,
    center_size: Sequence[int] | None = ...,
    dtype: torch.dtype = ...,
    out: tuple[torch.Tensor, torch.Tensor] | None = ...,
    backend: str | None = ...,
) -> tuple[torch.Tensor, torch.Tensor]: ...


def belief_maps(
    joints: torch.Tensor,
    visible: torch.Tensor,
    grid: Sequence[int] = (46, 46),
    stride: float = 8,
    sigma: float = 7.0,
    *,
    center: torch.Tensor | None = None,
    center_sigma: float = 21.0,
    center_size: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    out: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None = None,
    backend: str | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Ideal belief maps of the annotated person and of everybody, with their background channels.

    Cell g of an axis sits at pixel stride/2 - 0.5 + g * stride; a drawn joint at distance d adds
    exp(-d^2 / (2 sigma^2)) where that exponent is at most 4.6052, and the cell is clamped to 1 after each
    person. A background cell is max(1 - max over its group's parts, 0). Spec `transform.md`, Output; paper
    section 3.2.1. Sums are float32 in the original's order whatever ``dtype``. There is no gradient.

    Args:
        joints: (N, P, K, 2) floating point, x (right) and y (down) in pixels, 0-based; person 0 is the
            annotated one. NaN or infinite joints count as not visible (reported once on the CPU).
        visible: (N, P, K) integer ``Visibility`` codes: 0 and 1 are drawn, 2 is not (absent people: 2).
        grid: (h, w) cells.
        stride: pixels per cell.
        sigma: of a bump, in pixels.
        center: (N, 2) person centres in pixels; also makes the network's centre map, in the same launch.
        center_sigma: of the centre map, in pixels.
        center_size: (H, W) of the centre map; default grid * stride.
        dtype: of the results: float32, float16 or bfloat16.
        out: tensors to write into instead of new ones: the label, or (label, centre map), which must not
            share memory.
        backend: cpu, cuda, cupy or reference; default: CPM_BACKEND, else the fastest there is.

    Returns:
        label (N, 2 * (K + 1), h, w): channels 0..K-1 the annotated person, K its background, K+1..2K
        everybody, 2K+1 the background of everybody. With ``center``: (label, centre map (N, 1, H, W)).

    Raises:
        TypeError, ValueError: naming the argument, what was wanted and what was got.
    """
    positions = _checks.positions("joints", joints, "(N, P, K, 2)")
    samples, people, parts = positions.shape[:3]
    if people < 1:
        raise ValueError(
            "joints must hold at least one person per sample, got 0 (use visible = 2 for absent people)"
        )
    codes = _checks.visibility(visible, positions)
    cells, stride, sigma = (
        _checks.map_size("grid", grid),
        _checks.positive_single("stride", stride),
        _checks.positive("sigma", sigma),
    )
    center_sigma, dtype = _checks.positive("center_sigma", center_sigma), _checks.output_type(dtype)
    _checks.report_values("joints", positions, codes, visible)
    shapes: list[tuple[int, ...]] = [(samples, 2 * (parts + 1), *cells)]
    where = None
    if center is not None:
        where = _checks_center(center, samples, positions)
        if center_size is None:
            center_size = [round(side * stride) for side in cells]
        shapes.append((samples, 1, *_checks.map_size("center_size", center_size)))
    outputs = _outputs(out, shapes, dtype, positions.device)
    label, centers = outputs[0], outputs[1] if center is not None else None
    chosen = choose(backend, "belief_maps_out", positions.device)
    if chosen == "reference":
        label.copy_(_reference.belief_maps(positions, codes, cells, stride, sigma))
        if where is not None and centers is not None:
            height, width = centers.shape[2:]
            centers.copy_(_reference.center_map(where, (height, width), center_sigma, True))
    elif chosen == "cupy":
        _cupy.belief_maps_out(positions, codes, where, stride, sigma, center_sigma, label, centers)
    else:
        torch.ops.cpm_repro.belief_maps_out(
            positions, codes, where, stride, sigma, center_sigma, label, centers
        )
    if out is not None and chosen != "reference":
        _checks.written(outputs)
    return label if centers is None else (label, centers)


def center_map(
    center: torch.Tensor,
    size: Sequence[int] = (368, 368),
    sigma: float = 21.0,
    cutoff: bool = True,
    *,
    dtype: torch.dtype = torch.float32,
    backend: str | None = None,
) -> torch.Tensor:
    """The network's fourth input: one Gaussian at the person's centre, one cell per pixel.

    Args:
        center: (N, 2) floating point, x and y in pixels, 0-based. A centre that is not finite gives zeros.
        size: (H, W) pixels.
        sigma: in pixels.
        cutoff: True as in training (zero where the exponent passes 4.6052), False as at test time
            (spec `transform.md`, last point of Output).
        dtype: float32, float16 or bfloat16.
        backend: as for ``belief_maps``.

    Returns:
        (N, 1, H, W).

    Raises:
        TypeError, ValueError: naming the argument, what was wanted and what was got.
    """
    positions = _checks.positions("center", center, "(N, 2)")
    height, width = _checks.map_size("size", size)
    sigma, dtype = _checks.positive("sigma", sigma), _checks.output_type(dtype)
    cutoff = _checks.flag("cutoff", cutoff)
    _checks.report_values("center", positions)
    out = _checks.allocate("size", (positions.shape[0], 1, height, width), dtype, positions.device)
    chosen = choose(backend, "center_map_out", positions.device)
    if chosen == "reference":
        return out.copy_(_reference.center_map(positions, (height, width), sigma, cutoff))
    if chosen == "cupy":
        _cupy.center_map_out(positions, sigma, cutoff, out)
        return out
    torch.ops.cpm_repro.center_map_out(positions, sigma, cutoff, out)
    return out


def _checks_center(center: torch.Tensor, samples: int, joints: torch.Tensor) -> torch.Tensor:
    """``center`` as (N, 2) contiguous float32 beside ``joints``."""
    where = _checks.positions("center", center, "(N, 2)")
    if where.shape[0] != samples:
        raise ValueError(f"center must have shape ({samples}, 2) like joints, got {tuple(where.shape)}")
    _checks.same_device("center", where, "joints", joints)
    _checks.report_values("center", where)
    return where


def _outputs(
    out: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None,
    shapes: list[tuple[int, ...]],
    dtype: torch.dtype,
    device: torch.device,
) -> list[torch.Tensor]:
    """New tensors of ``shapes``, or ``out`` if it fits them."""
    if out is None:
        names = ("grid", "center_size")
        return [_checks.allocate(*pair, dtype, device) for pair in zip(names, shapes, strict=False)]
    given = (
        [_checks.tensor("out", out)]
        if isinstance(out, torch.Tensor)
        else _checks.tensors("out", out, "result")
    )
    fits = len(given) == len(shapes)
    for t, s in zip(given, shapes, strict=False):
        fits = fits and t.shape == s and t.dtype == dtype and t.device == device and t.is_contiguous()
    if not fits:
        got = [(tuple(t.shape), t.dtype, str(t.device)) for t in given]
        raise ValueError(f"out must be contiguous {dtype} tensors of shapes {shapes} on {device}, got {got}")
    for t in given:
        _checks.without_history(t)
    if len(given) == 2 and _checks.overlap(*given):
        raise ValueError("out must be two tensors that share no memory, got a label and a centre map that do")
    return given
