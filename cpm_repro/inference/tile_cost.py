"""What a convolution through tiles costs, and which tile is the cheapest, or none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

LARGEST_WORKSPACE = 160e6
"""Bytes that one step of a convolution may need for its tiles; more tiles are done in parts."""

LARGEST_SPECTRUM = 64e6
"""Bytes per layer that a kernel's spectrum may take."""

LARGEST_TILE = 40

SMALLEST_KERNEL = 7
"""Of 5x5 layers the prediction is wrong: the released networks' took 2.3 times as long through tiles."""

# Rates in the proportions measured on two cores of a Zen 4 (benchmarks/inference_layers.py measures every
# layer); only the proportions matter for the choice.
_PRODUCTS, _TRANSFORMS, _DIRECT, _BYTES = 100e9, 55e9, 85e9, 20e9

_STEPS = 3e-4
"""Seconds that the steps of a convolution through tiles take however little there is to do."""

_MARGIN = 1.25
"""How many times as fast the prediction must be before the direct convolution is left."""


@dataclass(frozen=True)
class TileShape:
    """One convolution in tiles; letters as in :mod:`cpm_repro.inference.tiled_fft`."""

    count: int
    channels: int
    outputs: int
    height: int
    width: int
    kernel: int
    tile: int

    @property
    def results(self) -> int:
        """M: results along a side of a tile."""
        return self.tile - self.kernel + 1

    @property
    def half(self) -> int:
        """F: frequencies kept along y."""
        return self.tile // 2 + 1

    @property
    def rows(self) -> int:
        """Tiles from top to bottom of an image."""
        return -(-self.height // self.results)

    @property
    def columns(self) -> int:
        """Tiles from left to right."""
        return -(-self.width // self.results)

    @property
    def tiles(self) -> int:
        """Tiles of all images."""
        return self.count * self.rows * self.columns

    @property
    def products(self) -> int:
        """Q: real products per tile and pair of channels."""
        return 3 * self.tile * self.half

    @property
    def spectrum_bytes(self) -> int:
        """Of the kernel's spectrum."""
        return 4 * self.products * self.channels * self.outputs

    @property
    def workspace_of_row(self) -> int:
        """Bytes that one row of tiles needs at most at once: factors and products of its tiles."""
        return 4 * self.products * self.columns * (self.channels + self.outputs)

    @property
    def transform_operations(self) -> float:
        """Multiply-adds of all four transforms."""
        tile, half, results = self.tile, self.half, self.results
        wide = self.columns * results + self.kernel - 1
        along_y = self.count * self.rows * 2 * half * tile * wide * self.channels
        along_x = 3 * tile * 2 * tile * half * self.tiles * self.channels
        back = (2 * results * 3 * tile * half + results * results * 2 * half) * self.tiles * self.outputs
        return float(along_y + along_x + back)

    @property
    def seconds(self) -> float:
        """Predicted, on the machine whose rates stand above."""
        products = float(self.products) * self.tiles * self.channels * self.outputs
        moved = self.spectrum_bytes + 8 * self.products * self.tiles * (self.channels + self.outputs)
        arithmetic = 2 * products / _PRODUCTS + 2 * self.transform_operations / _TRANSFORMS
        return _STEPS + arithmetic + moved / _BYTES


def direct_seconds(count: int, channels: int, outputs: int, height: int, width: int, kernel: int) -> float:
    """Predicted for the direct convolution of the same size."""
    return 2.0 * count * channels * outputs * height * width * kernel**2 / _DIRECT


@lru_cache(maxsize=1024)
def choose_tile(
    count: int, channels: int, outputs: int, height: int, width: int, kernel: int, ready: tuple[int, ...] = ()
) -> int | None:
    """The tile that is predicted to be the fastest, or None where the direct convolution is.

    The same arguments always give the same answer. With what is ``ready`` it depends on the sizes that came
    before, and the last digits of a convolution with it.

    Args:
        count, channels, outputs, height, width, kernel: N, C, O, H, W, K.
        ready: tiles whose spectra exist already: kept unless another is a quarter faster.
    """
    if kernel < SMALLEST_KERNEL or min(count, height, width) < 1:
        return None

    def shapes(tiles: Iterable[int]) -> list[TileShape]:
        every = (TileShape(count, channels, outputs, height, width, kernel, tile) for tile in tiles)
        return [shape for shape in every if shape.spectrum_bytes <= LARGEST_SPECTRUM]

    fits = shapes(range(kernel + 1, LARGEST_TILE + 1))
    if not fits:
        return None
    best = min(fits, key=lambda shape: shape.seconds)
    limit = direct_seconds(count, channels, outputs, height, width, kernel) / _MARGIN
    for shape in sorted(shapes(ready), key=lambda shape: shape.seconds):
        if shape.seconds < min(1.25 * best.seconds, limit):
            return shape.tile
    return best.tile if best.seconds < limit else None
