"""Convolutions of a finished network, made faster on a CPU; what they compute stays."""

from __future__ import annotations

import threading
from typing import TypeVar

import torch
from torch import Tensor, nn

from cpm_repro.device import has_bf16
from cpm_repro.inference.tile_cost import SMALLEST_KERNEL, choose_tile
from cpm_repro.inference.tiled_fft import convolve, kernel_spectrum

_KEPT = 2
"""Spectra kept per layer: as many tile sizes, for images of different sizes."""

Network = TypeVar("Network", bound=nn.Module)


class FastConv2d(nn.Conv2d):
    """A convolution that goes through tiles' spectra where that is predicted to be faster.

    Shares weight and bias with the module it stands for, under the same names. Whatever is not plain
    inference on a CPU, in float32 or in bfloat16 where the processor has its arithmetic (gradients, autocast,
    tracing, other types and devices), is convolved directly.
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        nn.Module.__init__(self)
        self.__dict__.update({name: value for name, value in plain.__dict__.items() if name[0] != "_"})
        for name in ("padding_mode", "_reversed_padding_repeated_twice"):
            setattr(self, name, getattr(plain, name))
        self.weight, self.bias = plain.weight, plain.bias
        self.training = plain.training
        self._spectra: dict[int, tuple[object, Tensor]] = {}

    def forward(self, data: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H, W), as ``nn.Conv2d`` within rounding of the type."""
        tile = self.tile(data)
        if tile is None:
            return super().forward(data)
        return convolve(data, self._spectrum(tile), self.bias, tile, self.kernel_size[0])

    def tile(self, data: Tensor) -> int | None:
        """The tile's side for this input, pixels; None: convolved directly."""
        if not self._plain_inference(data):
            return None
        count, channels, height, width = data.shape
        ready = tuple(sorted(self._spectra))
        return choose_tile(count, channels, self.out_channels, height, width, self.kernel_size[0], ready)

    @property
    def spectrum_bytes(self) -> int:
        """Memory that the spectra take now."""
        return sum(spectrum.nbytes for _, spectrum in list(self._spectra.values()))

    def _plain_inference(self, data: Tensor) -> bool:
        if data.dim() != 4 or data.shape[1] != self.in_channels or torch.compiler.is_compiling():
            return False
        if torch.jit.is_tracing() or torch.is_autocast_enabled("cpu"):
            return False
        if torch.is_grad_enabled() and (data.requires_grad or self.weight.requires_grad):
            return False
        if not data.device.type == self.weight.device.type == "cpu" or data.dtype != self.weight.dtype:
            return False
        return data.dtype == torch.float32 or (data.dtype == torch.bfloat16 and has_bf16(data.device))

    def _spectrum(self, tile: int) -> Tensor:
        """The weight's spectrum, made when first asked for and when the weight has changed."""
        weight = self.weight
        version = (weight.data_ptr(), 0 if weight.is_inference() else weight._version, _glimpse(weight))
        kept = self._spectra.get(tile)
        if kept is not None and kept[0] == version:
            return kept[1]
        with _making, torch.inference_mode(False), torch.no_grad():
            kept = self._spectra.get(tile)  # another thread may have made it meanwhile
            if kept is not None and kept[0] == version:
                return kept[1]
            spectrum = kernel_spectrum(weight, tile)
            others = {t: entry for t, entry in self._spectra.items() if t != tile and entry[0] == version}
            while len(others) >= _KEPT:
                others.pop(next(iter(others)))
            self._spectra = {**others, tile: (version, spectrum)}  # replaced whole: readers need no lock
        return spectrum

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_spectra": {}}  # a copy makes its own


def _glimpse(weight: Tensor) -> object:
    """Some hundred of the values: what is written through ``weight.data`` or NumPy does not make a version.

    Averages of weights are mostly swapped in that way.
    """
    outputs, channels, kernel, _ = weight.shape
    some = weight.detach()[:: -(-outputs // 16), :: -(-channels // 16), kernel // 2, kernel // 3]
    return some.tolist()


_making = threading.Lock()


def fast_convolutions(net: Network) -> Network:
    """Let every large convolution of ``net`` choose the faster exact way on a CPU, in place; returns ``net``.

    Only square, odd, size-keeping kernels from 7x7 on are concerned, and none with hooks: those would be
    lost, and some make the weight anew at every call (``torch.nn.utils.prune``). State dict, parameters and
    outputs stay what they are, the outputs within about 1e-6 of a layer's range
    (:mod:`cpm_repro.inference.tiled_fft`); in bfloat16 their rounding error is twice that of a direct
    convolution. The spectra of the weights are made at the first use and take up to 64 MB a layer, half of
    that in bfloat16; weights that are changed have new ones at the next use, in whatever way all of a layer's
    are changed. Single values must not be written through ``weight.data`` or NumPy, which is not seen.
    """
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Conv2d and _keeps_size(child) and not _has_hooks(child):
                setattr(module, name, FastConv2d(child))
    return net


def spectrum_bytes(net: nn.Module) -> int:
    """Memory that the spectra of all layers take now."""
    return sum(module.spectrum_bytes for module in net.modules() if isinstance(module, FastConv2d))


def _keeps_size(conv: nn.Conv2d) -> bool:
    kernel = conv.kernel_size[0]
    return (
        conv.kernel_size == (kernel, kernel)
        and kernel >= SMALLEST_KERNEL
        and kernel % 2 == 1
        and conv.padding == (kernel // 2, kernel // 2)
        and conv.padding_mode == "zeros"
        and (conv.stride, conv.dilation, conv.groups) == ((1, 1), (1, 1), 1)
    )


def _has_hooks(module: nn.Module) -> bool:
    kinds = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
    return any(getattr(module, f"_{kind}") for kind in kinds)
