"""Caffe's layers as modules: arithmetic, shape rules and blobs of every type that CPM-family nets use.

Letters in shape comments: N batch, C channels, H rows, W columns. A module is called with its bottoms and
returns its top, or a tuple of tops. Learned arrays are named ``weight`` and ``bias`` in Caffe's blob order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpm_repro.caffe import fillers
from cpm_repro.errors import UserError

Shape = tuple[int, ...]


class CaffeLayer(nn.Module):
    """One layer: built from its LayerParameter and the shapes of its bottoms."""

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__()
        self.layer_name: str = layer.name
        self.blob_names: list[str] = []
        self._fillers: list[Any] = []
        self._borrowed: dict[str, tuple[CaffeLayer, str, Shape]] = {}
        self._check_counts(layer, len(shapes))
        shared = [top for top in layer.top if top in layer.bottom]
        if shared and not self.in_place:
            self.fail(f"{layer.type} cannot work in place: its top and its bottom are both {shared[0]!r}")

    bottoms: tuple[int, int | None] = (1, 1)
    """Fewest and most bottoms; None: any number."""
    tops: tuple[int, int | None] = (1, 1)
    in_place = False
    """Whether a top may have its bottom's name; of other types Caffe would overwrite what it still reads."""

    def __getattr__(self, name: str) -> Any:
        """Another layer's array seen in this layer's shape, or what nn.Module finds."""
        borrowed = self.__dict__.get("_borrowed", {})
        if name in borrowed:
            owner, blob, shape = borrowed[name]
            return getattr(owner, blob).view(shape)
        return super().__getattr__(name)

    def _check_counts(self, layer: Any, bottoms: int) -> None:
        for what, got, (low, high) in (
            ("bottoms", bottoms, self.bottoms),
            ("tops", len(layer.top), self.tops),
        ):
            if got < low or (high is not None and got > high):
                wanted = (
                    f"{low}" if low == high else f"{low} to {high}" if high is not None else f"at least {low}"
                )
                self.fail(f"{layer.type} wants {wanted} {what}, got {got}")

    def fail(self, reason: str) -> NoReturn:
        """Raise a UserError that names the layer."""
        raise UserError(f"layer {self.layer_name!r}: {reason}")

    def add_blob(self, name: str, shape: Sequence[int], filler: Any, learned: bool = True) -> None:
        """Declare the next blob; ``filler`` is its FillerParameter."""
        if any(not 0 < size < 1 << 31 for size in shape):
            self.fail(f"blob {name!r} would have shape {list(shape)}")
        if filler.type not in fillers.KINDS:
            self.fail(f"unknown filler {filler.type!r}: wanted one of {', '.join(fillers.KINDS)}")
        # What no gradient reaches is a parameter all the same: Caffe keeps momentum for every blob.
        self.register_parameter(name, nn.Parameter(torch.empty(tuple(shape)), requires_grad=learned))
        self.blob_names.append(name)
        self._fillers.append(filler)

    def borrow(self, name: str, owner: CaffeLayer, blob: str) -> None:
        """Use ``owner``'s array ``blob``, which has as many values, instead of an own one called ``name``."""
        shape = tuple(getattr(self, name).shape)
        array = getattr(owner, blob)
        if tuple(array.shape) == shape:
            setattr(self, name, array)
        else:
            del self._parameters[name]
            self._borrowed[name] = (owner, blob, shape)

    def own(self, name: str) -> nn.Parameter:
        """The parameter behind blob ``name``: this layer's, or the one it borrows in another shape."""
        owner, blob, _ = self._borrowed.get(name, (self, name, ()))
        parameter: nn.Parameter = getattr(owner, blob)
        return parameter

    def blobs(self) -> list[Tensor]:
        """The layer's arrays in Caffe's order."""
        return [getattr(self, name) for name in self.blob_names]

    def fill(self, generator: torch.Generator | None = None, done: set[int] | None = None) -> None:
        """Give every blob its filler's values, but for those in ``done`` (by id), and add them to it."""
        done = set() if done is None else done
        for name, filler in zip(self.blob_names, self._fillers, strict=True):
            if id(self.own(name)) not in done:
                done.add(id(self.own(name)))
                fillers.fill(getattr(self, name), filler, generator)

    def axis_of(self, axis: int, ndim: int) -> int:
        """``axis`` counted from the front; negative counts from the end, as in Caffe."""
        if not -ndim <= axis < ndim:
            self.fail(f"axis {axis} does not exist in a blob of {ndim} axes")
        return axis % ndim

    def images(self, shape: Shape) -> Shape:
        """``shape`` if it has the four axes N, C, H, W."""
        if len(shape) != 4:
            self.fail(f"wanted a blob (N, C, H, W), got shape {list(shape)}")
        return shape


def spatial(layer: CaffeLayer, param: Any, name: str, default: int | None) -> tuple[int, int]:
    """(rows, columns) of a setting given once, twice, or as ``<name>_h`` and ``<name>_w``."""
    stem = name.removesuffix("_size")
    known = param.DESCRIPTOR.fields_by_name
    value = getattr(param, name)
    values = list(value) if hasattr(value, "__len__") else [value] if param.HasField(name) else []
    if f"{stem}_h" in known and (param.HasField(f"{stem}_h") or param.HasField(f"{stem}_w")):
        if values:
            layer.fail(f"wanted {name} or {stem}_h and {stem}_w, got both")
        pair = (getattr(param, f"{stem}_h"), getattr(param, f"{stem}_w"))
    else:
        if len(values) > 2:
            layer.fail(f"{name}: only two-dimensional nets are supported, got {len(values)} values")
        if not values and default is None:
            layer.fail(f"{name} is missing")
        pair = tuple(values * 2)[:2] if len(values) < 2 else tuple(values)
        pair = pair or (default, default)
    if name not in ("pad",) and min(pair) < 1:
        layer.fail(f"{name} must be at least 1, got {pair}")
    return int(pair[0]), int(pair[1])


class _Kernel(CaffeLayer):
    """What Convolution and Deconvolution share: parameters, geometry, blobs."""

    transposed = False
    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        param = layer.convolution_param
        self.channels = self.images(shapes[0])[1]
        self.kernel = spatial(self, param, "kernel_size", None)
        self.stride = spatial(self, param, "stride", 1)
        self.pad = spatial(self, param, "pad", 0)
        self.dilation = spatial(self, param, "dilation", 1)
        self.group = param.group
        if param.axis not in (1, -3):
            self.fail(f"only axis 1 is supported, got {param.axis}")
        if (
            self.group < 1
            or param.num_output < 1
            or self.channels % self.group
            or param.num_output % self.group
        ):
            self.fail(f"{self.channels} inputs, {param.num_output} outputs and group {self.group} do not fit")
        sides = (
            (self.channels, param.num_output // self.group)
            if self.transposed
            else (param.num_output, self.channels // self.group)
        )
        self.add_blob("weight", (*sides, *self.kernel), param.weight_filler)
        if param.bias_term:
            self.add_blob("bias", (param.num_output,), param.bias_filler)
        else:
            self.bias = None

    def check(self, x: Tensor) -> None:
        """The blob must have the channels that the weights were made for."""
        if self.images(tuple(x.shape))[1] != self.channels:
            self.fail(f"wanted {self.channels} channels, got a blob of shape {list(x.shape)}")


class Convolution(_Kernel):
    """out = floor((in + 2 pad - dilation (kernel - 1) - 1) / stride) + 1; weight (out, in/group, kh, kw)."""

    def forward(self, x: Tensor) -> Tensor:
        """X (N, C, H, W) -> (N, num_output, H', W')."""
        self.check(x)
        for size, kernel, pad, dilation in zip(
            x.shape[2:], self.kernel, self.pad, self.dilation, strict=True
        ):
            if size + 2 * pad < dilation * (kernel - 1) + 1:
                self.fail(f"a blob of shape {list(x.shape)} is smaller than the kernel {self.kernel}")
        return F.conv2d(x, self.weight, self.bias, self.stride, self.pad, self.dilation, self.group)


class Deconvolution(_Kernel):
    """The transpose of Convolution; weight (in, out/group, kh, kw); out = stride (in-1) + extent - 2 pad."""

    transposed = True

    def forward(self, x: Tensor) -> Tensor:
        """X (N, C, H, W) -> (N, num_output, H', W')."""
        self.check(x)
        for size, kernel, pad, dilation, stride in zip(
            x.shape[2:], self.kernel, self.pad, self.dilation, self.stride, strict=True
        ):
            if stride * (size - 1) + dilation * (kernel - 1) + 1 - 2 * pad < 1:
                self.fail(f"padding {self.pad} leaves nothing of a blob of shape {list(x.shape)}")
        return F.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.pad, 0, self.group, self.dilation
        )


class InnerProduct(CaffeLayer):
    """Matrix product over all axes from ``axis`` on; weight (num_output, K), transposed if so set."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        param = layer.inner_product_param
        self.axis = self.axis_of(param.axis, len(shapes[0]))
        self.inputs = math.prod(shapes[0][self.axis :])
        self.transpose = param.transpose
        shape = (param.num_output, self.inputs)
        self.add_blob("weight", shape[::-1] if self.transpose else shape, param.weight_filler)
        if param.bias_term:
            self.add_blob("bias", (param.num_output,), param.bias_filler)
        else:
            self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """X (..., K axes) -> (..., num_output)."""
        if math.prod(x.shape[self.axis :]) != self.inputs:
            self.fail(f"wanted {self.inputs} values per row, got a blob of shape {list(x.shape)}")
        weight = self.weight.t() if self.transpose else self.weight
        return F.linear(x.flatten(self.axis), weight, self.bias)


class BatchNorm(CaffeLayer):
    """(x - mean) / sqrt(variance + eps) per channel, without scale and bias (those are a Scale layer's).

    Blobs: sums of means and variances and the sum's weight, as Caffe stores them (true mean = mean / factor).
    In TRAIN phase the batch's own statistics are used and the sums are moved. No gradient reaches them, but
    they are parameters (of rate 0): Caffe's solverstates hold a momentum array for each.
    """

    in_place = True
    mean: Tensor
    variance: Tensor
    factor: Tensor

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        param = layer.batch_norm_param
        self.eps, self.fraction = param.eps, param.moving_average_fraction
        self.fixed = param.use_global_stats if param.HasField("use_global_stats") else None
        if any(spec.lr_mult for spec in layer.param):
            self.fail("BatchNorm's arrays are no learned ones: wanted lr_mult 0 for each")
        if len(shapes[0]) < 2:
            self.fail(f"wanted a blob (N, C, ...), got shape {list(shapes[0])}")
        channels = shapes[0][1]
        for name, size in (("mean", channels), ("variance", channels), ("factor", 1)):
            self.add_blob(name, (size,), fillers.constant(0), learned=False)

    def forward(self, x: Tensor) -> Tensor:
        """X (N, C, ...) -> the same shape."""
        axes = [0, *range(2, x.ndim)]
        view = [1, -1, *[1] * (x.ndim - 2)]
        if self.fixed if self.fixed is not None else not self.training:
            scale = torch.where(self.factor == 0, torch.zeros_like(self.factor), 1 / self.factor)
            mean, variance = self.mean * scale, self.variance * scale
        else:
            mean = x.mean(axes)
            variance = (x - mean.view(view)).square().mean(axes)
            self._move(mean.detach(), variance.detach(), x.numel() // mean.numel())
        return (x - mean.view(view)) / (variance.view(view) + self.eps).sqrt()

    @torch.no_grad()
    def _move(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Caffe's moving sums; the variance enters unbiased."""
        unbiased = count / (count - 1) if count > 1 else 1.0
        self.mean.mul_(self.fraction).add_(mean)
        self.variance.mul_(self.fraction).add_(variance, alpha=unbiased)
        self.factor.mul_(self.fraction).add_(1)


class _PerAxis(CaffeLayer):
    """What Scale and Bias share: an operand over some axes, learned or given as second bottom."""

    bottoms = (1, 2)
    in_place = True

    def setup(self, param: Any, shapes: Sequence[Shape]) -> Shape:
        """Set ``axis``; the operand's shape."""
        self.axis = self.axis_of(param.axis, len(shapes[0])) if shapes[0] else 0
        if len(shapes) == 2:
            return shapes[1]
        end = len(shapes[0]) if param.num_axes == -1 else self.axis + param.num_axes
        if not self.axis <= end <= len(shapes[0]):
            self.fail(f"axis {param.axis} and num_axes {param.num_axes} do not fit shape {list(shapes[0])}")
        return shapes[0][self.axis : end]

    def stretch(self, operand: Tensor, x: Tensor) -> Tensor:
        """``operand`` with axes of one added so that it spreads over ``x`` (N, C, ...)."""
        end = self.axis + operand.ndim
        if tuple(x.shape[self.axis : end]) != tuple(operand.shape):
            self.fail(
                f"an operand of shape {list(operand.shape)} does not fit {list(x.shape)} at {self.axis}"
            )
        return operand.reshape(*operand.shape, *[1] * (x.ndim - end))


class Scale(_PerAxis):
    """X times a learned blob (or the second bottom), plus a learned bias if ``bias_term``."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        param = layer.scale_param
        shape = self.setup(param, shapes)
        if len(shapes) == 1:
            filler = param.filler if param.HasField("filler") else fillers.constant(1)
            self.add_blob("weight", shape, filler)
        if param.bias_term:
            self.add_blob("bias", shape, param.bias_filler)
        else:
            self.bias = None

    def forward(self, x: Tensor, factor: Tensor | None = None) -> Tensor:
        """X (N, C, ...) -> the same shape."""
        y = x * self.stretch(self.weight if factor is None else factor, x)
        return y if self.bias is None else y + self.stretch(self.bias, x)


class Bias(_PerAxis):
    """X plus a learned blob (or the second bottom)."""

    bias: Tensor

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        shape = self.setup(layer.bias_param, shapes)
        if len(shapes) == 1:
            self.add_blob("bias", shape, layer.bias_param.filler)

    def forward(self, x: Tensor, term: Tensor | None = None) -> Tensor:
        """X (N, C, ...) -> the same shape."""
        return x + self.stretch(self.bias if term is None else term, x)


class PReLU(CaffeLayer):
    """max(x, 0) + weight * min(x, 0), one weight per channel or one for all (``channel_shared``)."""

    in_place = True
    weight: Tensor

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        param = layer.prelu_param
        if len(shapes[0]) < 2:
            self.fail(f"wanted a blob (N, C, ...), got shape {list(shapes[0])}")
        filler = param.filler if param.HasField("filler") else fillers.constant(0.25)
        self.add_blob("weight", () if param.channel_shared else (shapes[0][1],), filler)

    def forward(self, x: Tensor) -> Tensor:
        """X (N, C, ...) -> the same shape."""
        return F.prelu(x, self.weight.reshape(-1))
