"""Exact convolution through the spectra of tiles: for kernels as large as 9x9 far fewer multiplications.

A K x K convolution of one T x T tile gives M x M results, M = T - K + 1, for T^2 products of spectra instead
of M^2 K^2 products of numbers. Everything is written as matrix products, the transforms too, because those
run near the processor's rate while small FFTs are held up by moving data about; so T need not be a power of
two either.

Transforms along y, then x, then per frequency a product over channels, then back. A complex product of
spectra a b is three real ones (Karatsuba): p1 = (re a + im a) re b, p2 = re a (im b - re b),
p3 = im a (re b + im b), and a b = (p1 - p3) + i (p1 + p2); the sums are folded into the transforms' matrices
and into the kernel's spectrum.

In bfloat16 every step reads and writes bfloat16 and adds in float32, as the processor's matrix products do:
half the memory, twice the rate or more, and about twice the rounding error of a direct bfloat16 convolution.

Letters: N images, C input and O output channels, H x W pixels, K kernel, T tile, M results of a tile,
F = T // 2 + 1 frequencies along y (the rest are their conjugates), Q = 3 T F products, X tiles side by side.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cpm_repro.inference.tile_cost import LARGEST_WORKSPACE, TileShape


@dataclass(frozen=True)
class _Matrices:
    """The transforms of one tile size."""

    forward_y: Tensor  # (2F, T): real row to (part, frequency), part = real, imaginary
    forward_x: Tensor  # (3T, 2T): (x, part) to (factor, frequency): re + im, re, im
    back_x: Tensor  # (2M, 3T): (product, frequency) to (x, part)
    back_y: Tensor  # (M, 2F)
    kernel: Tensor  # (Q, K * K): kernel (y, x) to (product, frequency x, frequency y)


@lru_cache(maxsize=16)
def _matrices(tile: int, kernel: int, dtype: torch.dtype) -> _Matrices:
    """Made in float64, rounded once."""
    size, half, results = tile, tile // 2 + 1, tile - kernel + 1
    steps = torch.arange(size, dtype=torch.float64, device="cpu")
    angle = 2 * math.pi * (torch.outer(steps, steps) % size) / size
    cos, sin = torch.cos(angle), torch.sin(angle)
    # exp(-i angle) (re + i im)
    re = torch.stack([cos, sin], dim=-1).reshape(size, 2 * size)
    im = torch.stack([-sin, cos], dim=-1).reshape(size, 2 * size)
    # exp(+i angle) ((p1 - p3) + i (p1 + p2)) / T
    c, s = cos[:results] / size, sin[:results] / size
    back = [torch.cat([c - s, -s, -c], dim=1), torch.cat([s + c, c, -s], dim=1)]
    twice = torch.full((half,), 2.0, dtype=torch.float64, device="cpu")  # the conjugate half along y
    twice[0] = 1
    if size % 2 == 0:
        twice[-1] = 1
    # Caffe and torch correlate, so the kernel's spectrum is the conjugate: exp(+i (angle x + angle y)).
    k = slice(0, kernel)
    real = torch.einsum("fy,gx->gfyx", cos[:half, k], cos[:, k]) - torch.einsum(
        "fy,gx->gfyx", sin[:half, k], sin[:, k]
    )
    imag = torch.einsum("fy,gx->gfyx", cos[:half, k], sin[:, k]) + torch.einsum(
        "fy,gx->gfyx", sin[:half, k], cos[:, k]
    )
    products = torch.stack([real, imag - real, real + imag])
    made = (
        torch.cat([cos[:half], -sin[:half]]),
        torch.cat([re + im, re, im]),
        torch.stack(back, dim=1).reshape(2 * results, 3 * size),
        torch.cat([c[:, :half] * twice, -s[:, :half] * twice], dim=1),
        products.reshape(3 * size * half, kernel * kernel),
    )
    return _Matrices(*(matrix.to(dtype).contiguous() for matrix in made))


def kernel_spectrum(weight: Tensor, tile: int) -> Tensor:
    """(Q, C, O), the second factors of all products, of a (O, C, K, K) kernel and in its type."""
    outputs, channels, kernel, _ = weight.shape
    flat = weight.detach().float().permute(2, 3, 1, 0).reshape(kernel * kernel, channels * outputs)
    return (_matrices(tile, kernel, torch.float32).kernel @ flat).to(weight.dtype).view(-1, channels, outputs)


def _block(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, device="cpu")  # whatever torch.set_default_device says


class _Workspace(threading.local):
    """Two blocks that the steps of a convolution write to in turn, kept for the next one of the thread.

    Fresh blocks of this size would be mapped and zeroed by the operating system at every call, which takes as
    long as a step.
    """

    def __init__(self) -> None:
        self.blocks = [_block(0), _block(0)]

    def take(self, which: int, dtype: torch.dtype, *shape: int) -> Tensor:
        """A view of block ``which``, of undefined content; valid until the block is taken again."""
        size = math.prod(shape) * dtype.itemsize
        if self.blocks[which].numel() < size:
            self.blocks[which] = _block(0)  # let go before taking more
            with torch.inference_mode(False):
                self.blocks[which] = _block(size)
        return self.blocks[which][:size].view(dtype).view(shape)


_workspace = _Workspace()


def convolve(data: Tensor, spectrum: Tensor, bias: Tensor | None, tile: int, kernel: int) -> Tensor:
    """The convolution that keeps the size: zero padding K // 2, stride 1.

    Args:
        data: (N, C, H, W) float32 or bfloat16 on the CPU, any strides; channels last is read fastest.
        spectrum: (Q, C, O) of the same type, from :func:`kernel_spectrum` for the same ``tile``.
        bias: (O,) of the same type, or None.
        tile: T, larger than the kernel.
        kernel: K, odd.

    Returns:
        (N, O, H, W), channels last in memory. Rounding differs from a direct convolution by about 1e-6 of the
        output's range, in bfloat16 by about 1e-2; a value that is not finite spoils its whole tile and not
        only its neighbourhood.
    """
    count, channels, height, width = data.shape
    outputs = spectrum.shape[2]
    shape = TileShape(count, channels, outputs, height, width, kernel, tile)
    rows, columns, results = shape.rows, shape.columns, shape.results
    padded = data.new_zeros(count, rows * results + kernel - 1, columns * results + kernel - 1, channels)
    inner = slice(kernel // 2, kernel // 2 + height), slice(kernel // 2, kernel // 2 + width)
    padded[:, inner[0], inner[1]] = data.permute(0, 2, 3, 1)
    large = data.new_empty(count * rows, results, columns, results, outputs)
    for begin, end in _chunks(shape):
        factors = _to_spectra(padded, shape, begin, end)
        products = _workspace.take(1, data.dtype, len(spectrum), (end - begin) * columns, outputs)
        torch.bmm(factors, spectrum, out=products)
        _from_spectra(products, shape, bias, large[begin:end])
    whole = large.view(count, rows * results, columns * results, outputs)[:, :height, :width]
    return whole.contiguous().permute(0, 3, 1, 2)


def _chunks(shape: TileShape) -> Iterator[tuple[int, int]]:
    """Rows of tiles, of one image or several, that fit into the workspace together."""
    total = shape.count * shape.rows
    step = max(1, min(total, int(LARGEST_WORKSPACE // shape.workspace_of_row)))
    step = -(-total // -(-total // step))  # equally many in each
    for begin in range(0, total, step):
        yield begin, min(begin + step, total)


def _to_spectra(padded: Tensor, shape: TileShape, begin: int, end: int) -> Tensor:
    """First factors (Q, tiles, C) of rows ``begin`` to ``end`` of tiles, images one after the other."""
    matrices = _matrices(shape.tile, shape.kernel, padded.dtype)
    tile, half, results = shape.tile, shape.half, shape.results
    _, high, wide, channels = padded.shape
    rows = end - begin
    along_y = _workspace.take(0, padded.dtype, rows, 2 * half, wide * channels)
    row = begin
    while row < end:  # rows of tiles overlap in memory, images do not: one product per image
        image, first = divmod(row, shape.rows)
        some = min(end - row, shape.rows - first)
        view = padded.as_strided(
            (some, tile, wide * channels),
            (results * wide * channels, wide * channels, 1),
            (image * high + first * results) * wide * channels,
        )
        out = along_y[row - begin : row - begin + some]
        torch.bmm(matrices.forward_y.expand(some, -1, -1), view, out=out)
        row += some
    tiles = _workspace.take(1, padded.dtype, tile, 2, half, rows, shape.columns, channels)
    step = wide * channels
    tiles.copy_(
        along_y.as_strided(tiles.shape, (channels, half * step, step, 2 * half * step, results * channels, 1))
    )
    factors = _workspace.take(0, padded.dtype, 3 * tile, half * rows * shape.columns * channels)
    torch.mm(matrices.forward_x, tiles.view(2 * tile, -1), out=factors)
    return factors.view(3 * tile * half, rows * shape.columns, channels)


def _from_spectra(products: Tensor, shape: TileShape, bias: Tensor | None, out: Tensor) -> None:
    """Products (Q, tiles, O) to results in ``out`` (rows, M, X, M, O)."""
    matrices = _matrices(shape.tile, shape.kernel, out.dtype)
    tile, half, results = shape.tile, shape.half, shape.results
    rows, outputs = len(out), shape.outputs
    along_x = _workspace.take(0, out.dtype, 2 * results, half * rows * shape.columns * outputs)
    torch.mm(matrices.back_x, products.view(3 * tile, -1), out=along_x)
    values = _workspace.take(1, out.dtype, results, results, rows * shape.columns * outputs)
    torch.bmm(matrices.back_y.expand(results, -1, -1), along_x.view(results, 2 * half, -1), out=values)
    # (x, y, row, column, O) to (row, y, column, x, O)
    ordered = values.view(results, results, rows, shape.columns, outputs).permute(2, 1, 3, 0, 4)
    if bias is None:
        out.copy_(ordered)
    else:
        torch.add(ordered, bias, out=out)
