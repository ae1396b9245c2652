"""Layer by layer: is the convolution that was chosen the faster exact one?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial

import torch
from networks import INPUTS, apart, filled
from torch import Tensor, nn

from cpm_repro.bench import Case, Goal, Question, largest, main
from cpm_repro.device import has_bf16
from cpm_repro.inference.tile_cost import choose_tile
from cpm_repro.inference.tiled_fft import convolve, kernel_spectrum
from cpm_repro.model import output_sizes

Layer = Callable[[Tensor], Tensor]

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Of the outputs' range, between the two ways."""

FORCED = 25
"""Tile for the layers that are convolved directly, to see what that spares."""


@torch.inference_mode()
def _call(layer: Layer, data: list[Tensor], number: int) -> object:
    return layer(data[number % len(data)])


@torch.inference_mode()
def _apart(tiles: Layer, direct: Layer, data: list[Tensor]) -> float:
    return largest(apart(tiles(blob), direct(blob)) for blob in data)


def _case(name: str, conv: nn.Conv2d, side: int, batch: int, dtype: torch.dtype) -> Case:
    kernel, channels = conv.kernel_size[0], conv.in_channels
    direct: nn.Conv2d = copy.deepcopy(conv).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    chosen = choose_tile(batch, channels, conv.out_channels, side, side, kernel)
    tile = chosen or FORCED
    spectrum = kernel_spectrum(direct.weight, tile)
    data = [
        torch.randn(batch, channels, side, side).to(dtype=dtype, memory_format=torch.channels_last)
        for _ in range(INPUTS)
    ]

    def tiles(blob: Tensor) -> Tensor:
        return convolve(blob, spectrum, direct.bias, tile, kernel)

    ways: dict[str, Layer] = {"direct": direct, f"tiles of {tile}": tiles}
    if chosen:
        ways = dict(reversed(ways.items()))
    other = list(ways)[1]
    low = dtype == torch.bfloat16
    return Case(
        f"{name}: {batch} x {channels} to {conv.out_channels}, {kernel}x{kernel}, {side}x{side}"
        + ", bf16" * low,
        {way: partial(_call, layer, data) for way, layer in ways.items()},
        check=partial(_apart, tiles, direct, data),
        tolerance=TOLERANCES[dtype],
        operations=2.0 * batch * conv.weight.numel() * side * side,
        precision="bfloat16" if low else "float32",
        goals=(Goal(other, 1.0),),
    )


def ask(quick: bool, device: str) -> Question:
    """The different layers of the released networks at 368x368; the first way is the chosen one."""
    if device != "cpu":
        return Question("Convolutions, layer by layer", "Only on a CPU is there a choice.", ())

    def cases() -> Iterator[Case]:
        seen = set()
        for arch in ("tiny",) if quick else ("mpii_6stage", "mpii_vgg_6stage", "tiny"):
            net = filled(arch)
            side = 128 if arch == "tiny" else 368
            sizes = output_sizes(net.description, side, side)
            for name, module in net.named_modules():
                if not isinstance(module, nn.Conv2d) or module.kernel_size[0] < 5:
                    continue
                layer = next(layer for layer in net.description.convolutions if layer.name == name)
                grid = sizes[layer.top[0]][1]
                key = (module.in_channels, module.out_channels, module.kernel_size, grid)
                if key in seen:
                    continue
                seen.add(key)
                for dtype in TOLERANCES if has_bf16(torch.device("cpu")) else (torch.float32,):
                    yield _case(f"{arch} {name}", module, grid, 1, dtype)

    return Question(
        "Convolutions, layer by layer",
        "Is the convolution that was chosen the faster one? The first of the two ways is the chosen one.",
        cases(),
    )


if __name__ == "__main__":
    main(ask, __file__)
