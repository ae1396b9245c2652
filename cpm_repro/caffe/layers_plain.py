"""Caffe's layers without learned arrays: pooling, wiring, activations, losses. Letters: ``layers.py``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cpm_repro.caffe.layers import CaffeLayer, Shape, spatial


class Pooling(CaffeLayer):
    """MAX or AVE over windows; the output size is rounded up, a window must begin inside image or padding.

    out = ceil((in + 2 pad - kernel) / stride) + 1, less one if padding is set (on either axis) and the last
    window would begin at or past in + pad. MAX ignores the padding. AVE divides by the window's area after
    clipping it to the padded image, so padding counts and what lies beyond does not (spec `training.md`).
    """

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        param = layer.pooling_param
        self.average = (
            param.pool == param.DESCRIPTOR.enum_types_by_name["PoolMethod"].values_by_name["AVE"].number
        )
        if param.pool not in (0, 1):
            self.fail("stochastic pooling is not supported")
        self.everything = param.global_pooling
        sizes = [
            f"{name}_{side}"
            for name in ("kernel", "stride", "pad")
            for side in ("h", "w", "size")
            if f"{name}_{side}" in param.DESCRIPTOR.fields_by_name and param.HasField(f"{name}_{side}")
        ]
        if self.everything:
            if sizes or param.pad or param.stride != 1:
                self.fail("global_pooling leaves no choice of kernel, stride or pad")
            return
        for name in ("kernel", "stride", "pad"):
            if len({f"{name}_h", f"{name}_w"} & set(sizes)) == 1:
                self.fail(f"wanted {name}_h and {name}_w together")
        self.kernel = spatial(self, param, "kernel_size", None)
        self.stride = spatial(self, param, "stride", 1)
        self.pad = spatial(self, param, "pad", 0)
        if any(pad >= kernel for pad, kernel in zip(self.pad, self.kernel, strict=True)):
            self.fail(f"padding {self.pad} must be smaller than the kernel {self.kernel}")

    def forward(self, x: Tensor) -> Tensor:
        """X (N, C, H, W) -> (N, C, H', W')."""
        self.images(tuple(x.shape))
        if self.everything:
            return x.mean((2, 3), keepdim=True) if self.average else x.amax((2, 3), keepdim=True)
        rows, columns = (self._size(x, axis) for axis in (0, 1))
        if any(self.pad):
            blank = 0.0 if self.average else -math.inf
            x = F.pad(x, (self.pad[1], self.pad[1], self.pad[0], self.pad[0]), value=blank)
        if self.average:
            y = F.avg_pool2d(x, self.kernel, self.stride, ceil_mode=True)
        else:
            y = F.max_pool2d(x, self.kernel, self.stride, ceil_mode=True)
        return y[:, :, :rows, :columns]

    def _size(self, x: Tensor, axis: int) -> int:
        size, kernel = x.shape[2 + axis], self.kernel[axis]
        stride, pad = self.stride[axis], self.pad[axis]
        out = math.ceil((size + 2 * pad - kernel) / stride) + 1
        if any(self.pad) and (out - 1) * stride >= size + pad:
            out -= 1
        if out < 1:
            self.fail(f"a blob of shape {list(x.shape)} is too small for the kernel {self.kernel}")
        if (out - 1) * stride >= size + 2 * pad:
            # Only with a stride above the kernel; Caffe pools an empty window there: -FLT_MAX or NaN.
            self.fail(f"the last window of a blob of shape {list(x.shape)} would be empty")
        return out


_WIDEST = 65_535  # of LRN's windows: they are padded for, whatever a file says


class LRN(CaffeLayer):
    """x / (k + alpha / n * sum of squares over n channels)^beta; or over n x n pixels of one channel."""

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        param = layer.lrn_param
        self.size, self.alpha, self.beta, self.k = param.local_size, param.alpha, param.beta, param.k
        self.within = param.norm_region == 1
        if self.size % 2 == 0 or self.size > _WIDEST:
            self.fail(f"local_size must be odd and at most {_WIDEST}, got {self.size}")

    def forward(self, x: Tensor) -> Tensor:
        """X (N, C, H, W) -> the same shape."""
        if not self.within:
            return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)
        # Within a channel Caffe averages squares by its own pooling (padding counts) and k is always 1.
        mean = F.avg_pool2d(x.square(), self.size, 1, self.size // 2, count_include_pad=True)
        return x * (1 + self.alpha * mean) ** -self.beta


class Slice(CaffeLayer):
    """Cuts one axis at ``slice_point``, or into equal parts."""

    tops = (1, None)

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        param = layer.slice_param
        if param.HasField("slice_dim") and param.HasField("axis"):
            self.fail("wanted axis or slice_dim, got both")
        axis = param.slice_dim if param.HasField("slice_dim") else param.axis
        self.axis = self.axis_of(axis, len(shapes[0]))
        self.points = list(param.slice_point)
        self.parts = len(layer.top)
        if self.points and len(self.points) != self.parts - 1:
            self.fail(f"{self.parts} tops want {self.parts - 1} slice points, got {len(self.points)}")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """X -> one blob per top, views of x."""
        size = x.shape[self.axis]
        if not self.points and size % self.parts:
            self.fail(f"axis {self.axis} of a blob of shape {list(x.shape)} does not divide by {self.parts}")
        points = self.points or [size // self.parts * part for part in range(1, self.parts)]
        edges = [0, *points, size]
        if any(b <= a for a, b in itertools.pairwise(edges)):
            self.fail(f"slice points {points} do not fit a blob of shape {list(x.shape)}")
        return tuple(x.narrow(self.axis, a, b - a) for a, b in itertools.pairwise(edges))


class Concat(CaffeLayer):
    """Joins blobs along one axis, in the order of the bottoms."""

    bottoms = (1, None)

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        param = layer.concat_param
        if param.HasField("concat_dim") and param.HasField("axis"):
            self.fail("wanted axis or concat_dim, got both")
        self.axis = self.axis_of(
            param.concat_dim if param.HasField("concat_dim") else param.axis, len(shapes[0])
        )

    def forward(self, *blobs: Tensor) -> Tensor:
        """Blobs equal in all other axes -> one."""
        rests = {tuple(blob.shape[: self.axis]) + tuple(blob.shape[self.axis + 1 :]) for blob in blobs}
        if len(rests) > 1:
            shapes = ", ".join(str(list(blob.shape)) for blob in blobs)
            self.fail(f"bottoms must agree in every axis but {self.axis}, got {shapes} (Caffe aborts here)")
        return torch.cat(blobs, self.axis)


class Eltwise(CaffeLayer):
    """Sum (with coefficients), product or maximum of blobs of one shape; MAX ignores coefficients."""

    bottoms = (2, None)

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        param = layer.eltwise_param
        self.operation = param.operation
        self.coefficients = list(param.coeff)
        if self.coefficients and (len(self.coefficients) != len(shapes) or self.operation == 0):
            self.fail(f"{len(self.coefficients)} coefficients for {len(shapes)} bottoms, or for a PROD")

    def forward(self, *blobs: Tensor) -> Tensor:
        """Blobs of one shape -> that shape."""
        if len({blob.shape for blob in blobs}) > 1:
            shapes = ", ".join(str(list(blob.shape)) for blob in blobs)
            self.fail(f"bottoms must have one shape, got {shapes}")
        if self.coefficients and self.operation == 1:
            blobs = tuple(c * blob for c, blob in zip(self.coefficients, blobs, strict=True))
        result = blobs[0]
        for blob in blobs[1:]:
            if self.operation == 0:
                result = result * blob
            elif self.operation == 1:
                result = result + blob
            else:
                result = torch.maximum(result, blob)
        return result


class Elementwise(CaffeLayer):
    """Activations of one blob: ReLU, Sigmoid, TanH, ELU, Power, Dropout, by the layer's type."""

    in_place = True

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        self.kind = layer.type
        self.slope = layer.relu_param.negative_slope
        self.alpha = layer.elu_param.alpha
        self.ratio = layer.dropout_param.dropout_ratio
        power = layer.power_param
        self.power, self.scale, self.shift = power.power, power.scale, power.shift
        if self.kind == "Dropout" and not 0 <= self.ratio < 1:
            self.fail(f"dropout_ratio must lie in [0, 1), got {self.ratio}")

    def forward(self, x: Tensor) -> Tensor:
        """X -> the same shape."""
        if self.kind == "ReLU":
            return F.leaky_relu(x, self.slope) if self.slope else F.relu(x)
        if self.kind == "Dropout":  # survivors are enlarged by 1 / (1 - ratio) in training
            return F.dropout(x, self.ratio, self.training)
        if self.kind == "Power":
            return (self.shift + self.scale * x) ** self.power
        if self.kind == "ELU":
            return F.elu(x, self.alpha)
        return torch.sigmoid(x) if self.kind == "Sigmoid" else torch.tanh(x)


class Softmax(CaffeLayer):
    """Softmax along one axis."""

    in_place = True

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        self.axis = self.axis_of(layer.softmax_param.axis, len(shapes[0]))

    def forward(self, x: Tensor) -> Tensor:
        """X -> the same shape."""
        return torch.softmax(x, self.axis)


class Split(CaffeLayer):
    """The same blob under several names."""

    tops = (1, None)

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        self.copies = len(layer.top)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """X -> x as often as there are tops."""
        return (x,) * self.copies


class Silence(CaffeLayer):
    """Takes blobs that nobody wants, so that they are no outputs."""

    bottoms, tops = (1, None), (0, 0)

    def forward(self, *_: Tensor) -> tuple[Tensor, ...]:
        """Nothing comes out."""
        return ()


class EuclideanLoss(CaffeLayer):
    """Sum of squared differences / (2 N), N the batch size (spec `training.md`)."""

    bottoms = (2, 2)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """X and target (N, ...) with equally many values -> a number."""
        if not x.ndim or not target.ndim:
            self.fail("wanted blobs with a batch axis, got a single number")
        if x.shape[:1] != target.shape[:1] or x.numel() != target.numel():
            self.fail(f"bottoms must have one size, got {list(x.shape)} and {list(target.shape)}")
        return (x - target.reshape(x.shape)).square().sum() / 2 / x.shape[0]


class Flatten(CaffeLayer):
    """Axes ``axis`` to ``end_axis`` become one."""

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        param = layer.flatten_param
        self.start = self.axis_of(param.axis, len(shapes[0]))
        self.end = self.axis_of(param.end_axis, len(shapes[0]))

    def forward(self, x: Tensor) -> Tensor:
        """X (..., several axes, ...) -> (..., one axis, ...)."""
        return x.flatten(self.start, self.end)


class Reshape(CaffeLayer):
    """Another shape for axes ``axis`` and following: 0 keeps an axis, -1 takes what is left."""

    def __init__(self, layer: Any, shapes: Sequence[Shape]) -> None:
        super().__init__(layer, shapes)
        param = layer.reshape_param
        ndim = len(shapes[0])
        # A negative start counts from the end plus one: -1 appends axes.
        self.start = param.axis if param.axis >= 0 else ndim + 1 + param.axis
        self.stop = ndim if param.num_axes == -1 else self.start + param.num_axes
        self.dims = list(param.shape.dim)
        if (
            not 0 <= self.start <= self.stop <= ndim
            or min(self.dims, default=0) < -1
            or self.dims.count(-1) > 1
        ):
            self.fail(f"cannot reshape {list(shapes[0])} to {self.dims} from axis {param.axis}")

    def forward(self, x: Tensor) -> Tensor:
        """X -> the same values in another shape."""
        old = list(x.shape)
        if any(dim == 0 and self.start + i >= len(old) for i, dim in enumerate(self.dims)):
            self.fail(f"shape {self.dims} keeps axes that {old} does not have")
        middle = [old[self.start + i] if dim == 0 else dim for i, dim in enumerate(self.dims)]
        known = math.prod(old[: self.start]) * math.prod(old[self.stop :])
        given = known * math.prod(dim for dim in middle if dim != -1)
        if (-1 in middle and (given == 0 or x.numel() % given)) or (-1 not in middle and given != x.numel()):
            self.fail(f"a blob of shape {old} does not fit shape {self.dims}")
        return x.reshape(old[: self.start] + middle + old[self.stop :])
