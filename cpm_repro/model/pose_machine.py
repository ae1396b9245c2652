"""The pose machines as readable modules.

Sub-modules bear the Caffe layers' names, so state_dict keys are ``<layer>.weight`` and ``<layer>.bias``.
Shapes: N batch, H and W input pixels, h and w belief-map cells (stride 8), C = parts + 1 maps (the last
one is the background; the person net has C = parts and no background).

The structure is the paper's (section 3, figure 2): stage 1 looks at the image alone, every later stage looks
at image features together with the previous stage's belief maps and at where the person's centre is. Each
stage's maps are an output, so that each can have its own loss.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cpm_repro.model.caffe_layers import center_pool, concat, conv, max_pool, pooled_size, relu
from cpm_repro.model.description import DROPOUT, STRIDE, NetDescription


class PoseMachine(nn.Module):
    """What all pose machines share; made by :func:`cpm_repro.model.build`.

    Attributes:
        arch, parts, stages, width: what was asked for. maps: belief maps per stage, C.
        stride: input pixels per belief-map cell, 8. input_channels: 4 (B, G, R, centre map) or 3 (B, G, R).
        min_size: the shortest side that the network accepts, pixels.
        description: the same network as an ordered list of Caffe layers.
        output_layers: name of the last convolution of each stage, stage 1 first.
    """

    input_channels = 4
    pool_kernel = 2  # of the three max poolings

    recompute = False
    """Whether stages drop their activations, for the backward pass to make them again: memory for time."""

    __call__: Callable[..., list[Tensor]]

    def __init__(self, description: NetDescription) -> None:
        super().__init__()
        self.description = description
        self.arch = description.arch
        self.parts = description.parts
        self.stages = description.stages
        self.width = description.width
        self.maps = description.maps
        self.stride = STRIDE
        self.output_layers = description.belief_blobs
        self._multipliers = _multipliers(description)
        self.min_size = next(size for size in range(1, 64) if self.accepts(size))

    def hidden(self, channels: int) -> int:
        """A released hidden width at this network's relative width, at least 1."""
        return max(1, round(channels * self.width))

    def forward(self, data: Tensor, stages: int | None = None) -> list[Tensor]:
        """Belief maps of stages 1..``stages`` (None: all), each (N, C, h, w) in the convolutions' dtype.

        Args:
            data: (N, 4, H, W) float, channels 0-2 = B, G, R as pixel/256 - 0.5, channel 3 = centre map;
                (N, 3, H, W) for the person net. h, w = ``map_size(H)``, ``map_size(W)``.
            stages: run only so many; the later stages cost nothing.

        Raises:
            TypeError: ``data`` is not a floating-point tensor. ValueError: its shape is not accepted, or
            ``stages`` is out of range.
        """
        count = self.stages if stages is None else stages
        if not 1 <= count <= self.stages:
            raise ValueError(f"stages: wanted 1..{self.stages}, got {stages}")
        if not torch.compiler.is_exporting():  # an exported graph has free sizes and no one to raise to
            self._check(data)
        return self._beliefs(data, count)

    def _beliefs(self, data: Tensor, stages: int) -> list[Tensor]:
        """The network itself, on checked input."""
        raise NotImplementedError

    def _add_refinement(self, t: int, channels: int) -> None:
        """Stage ``t``'s convolutions: the wide ones, a hidden 1x1, and the belief maps' 1x1."""
        kernels = (*self.description.kernels.refine, 1)
        for i, kernel in enumerate(kernels, start=1):
            self.add_module(f"Mconv{i}_stage{t}", conv(channels, self.hidden(128), kernel))
            channels = self.hidden(128)
        self.add_module(f"Mconv{len(kernels) + 1}_stage{t}", conv(channels, self.maps, 1))

    def _refined(self, t: int, x: Tensor) -> Tensor:
        """Belief maps of stage ``t`` from its concatenated bottoms."""
        hidden = len(self.description.kernels.refine) + 1
        for i in range(1, hidden + 1):
            x = relu(self.layer(f"Mconv{i}_stage{t}")(x))
        return self.layer(f"Mconv{hidden + 1}_stage{t}")(x)

    def _part(self, part: Callable[..., Tensor], *blobs: Any) -> Tensor:
        """``part(*blobs)``, under ``recompute`` without keeping what it makes on the way."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(part, *blobs, use_reentrant=False)
        return part(*blobs)

    def layer(self, name: str) -> Any:
        """The sub-module of that layer name."""
        return getattr(self, name)

    # -- sizes ------------------------------------------------------------------------------------------

    def map_size(self, size: int) -> int:
        """Belief-map cells along a side of ``size`` pixels (46 of 368): three poolings, each rounded up."""
        for _ in range(3):
            size = pooled_size(size, self.pool_kernel, 2)
        return size

    def accepts(self, size: int) -> bool:
        """Whether a side of ``size`` pixels fits: pooled centre map and features must be equally large."""
        cells = self.map_size(size)
        if self.input_channels == 4 and self.stages > 1:
            return 1 <= cells == pooled_size(size, 9, STRIDE)
        return cells >= 1

    def nearest_sizes(self, size: int) -> list[int]:
        """The closest accepted sides below and above ``size``, or ``size`` itself if it fits."""
        if self.accepts(size):
            return [size]
        below = next((n for n in range(size - 1, 0, -1) if self.accepts(n)), None)
        above = next(n for n in range(max(size, 0) + 1, max(size, 0) + 64) if self.accepts(n))
        return [above] if below is None else [below, above]

    def _check(self, data: Tensor) -> None:
        if not isinstance(data, Tensor):
            raise TypeError(f"data: wanted a torch.Tensor, got {type(data).__name__}")
        if not data.is_floating_point():
            raise TypeError(f"data: wanted a floating-point tensor, got {data.dtype}")
        if data.dim() != 4 or data.shape[1] != self.input_channels:
            raise ValueError(
                f"data: wanted (N, {self.input_channels}, H, W) for {self.arch}, got {tuple(data.shape)}"
            )
        for name, size in (("height", data.shape[2]), ("width", data.shape[3])):
            if not self.accepts(size):
                wanted = " or ".join(str(n) for n in self.nearest_sizes(size))
                raise ValueError(
                    f"data: {self.arch} wanted a {name} of {wanted} (sides {self._size_rule()}), got {size}"
                )

    def _size_rule(self) -> str:
        """The accepted sides in words."""
        if self.input_channels == 3 or self.stages == 1:
            return f"of at least {self.min_size}"
        rule = "0 or 1 (mod 8)" if self.pool_kernel == 3 else "anything but 1 (mod 8)"
        return f"of {rule}, at least {self.min_size}"

    # -- training ---------------------------------------------------------------------------------------

    def lr_mult(self, name: str) -> float:
        """Caffe's learning-rate multiplier of parameter ``name``, a state_dict key; KeyError if unknown."""
        return self._multipliers[name][0]

    def decay_mult(self, name: str) -> float:
        """Caffe's weight-decay multiplier of parameter ``name``, a state_dict key; KeyError if unknown."""
        return self._multipliers[name][1]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters grouped for an optimiser: dicts with ``params``, ``lr_mult`` and ``decay_mult``.

        Those of layers that a subclass adds have Caffe's own multipliers, 1 and 1; what a parametrization
        (``torch.nn.utils.parametrizations``), pruning or torch's older weight norm make of a layer's array
        has that array's.
        """
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            layer, _, blob = name.replace(".parametrizations.", ".").partition(".")
            array = re.sub(r"_(orig|g|v)$", "", blob.partition(".")[0])
            both = self._multipliers.get(f"{layer}.{array}", (1.0, 1.0))
            groups.setdefault(both, []).append(parameter)
        return [{"params": p, "lr_mult": lr, "decay_mult": decay} for (lr, decay), p in groups.items()]


class PoseMachine9x9(PoseMachine):
    """The paper's network, trained from scratch: ``mpii_6stage``, ``lsp_6stage``, ``flic_4stage``."""

    pool_kernel = 3

    def __init__(self, description: NetDescription) -> None:
        super().__init__(description)
        c, maps = self.hidden, self.maps
        narrow, wide = description.kernels.features
        self._add_trunk(stage=1)
        self.conv4_stage1 = conv(c(128), c(32), narrow)
        self.conv5_stage1 = conv(c(32), c(512), wide)
        self.drop1_stage1 = nn.Dropout(DROPOUT)  # not in place: the ReLU's gradient needs its output
        self.conv6_stage1 = conv(c(512), c(512), 1)
        self.drop2_stage1 = nn.Dropout(DROPOUT)
        self.conv7_stage1 = conv(c(512), maps, 1)
        if self.stages == 1:
            return
        self.pool_center_lower = center_pool()
        self._add_trunk(stage=2)
        for t in range(2, self.stages + 1):
            self.add_module("conv4_stage2" if t == 2 else f"conv1_stage{t}", conv(c(128), c(32), narrow))
            self._add_refinement(t, c(32) + maps + 1)

    def _add_trunk(self, stage: int) -> None:
        for i, channels_in in ((1, 3), (2, self.hidden(128)), (3, self.hidden(128))):
            self.add_module(f"conv{i}_stage{stage}", conv(channels_in, self.hidden(128), 9))
            self.add_module(f"pool{i}_stage{stage}", max_pool(3))

    def _trunk(self, image: Tensor, stage: int) -> Tensor:
        x = image
        for i in (1, 2, 3):
            x = relu(self.layer(f"conv{i}_stage{stage}")(x))
            x = self.layer(f"pool{i}_stage{stage}")(x)
        return x

    def _stage1(self, image: Tensor) -> Tensor:
        x = relu(self.conv4_stage1(self._trunk(image, stage=1)))
        x = self.drop1_stage1(relu(self.conv5_stage1(x)))
        x = self.drop2_stage1(relu(self.conv6_stage1(x)))
        return self.conv7_stage1(x)

    def _refine(self, t: int, shared: Tensor, previous: Tensor, center: Tensor) -> Tensor:
        features = relu(self.layer("conv4_stage2" if t == 2 else f"conv1_stage{t}")(shared))
        return self._refined(t, concat(features, previous, center))

    def _beliefs(self, data: Tensor, stages: int) -> list[Tensor]:
        image = data[:, :3]
        beliefs = [self._part(self._stage1, image)]
        if stages > 1:
            center = self.pool_center_lower(data[:, 3:])
            # Stages 3 and later re-use it, each through its own 5x5 convolution.
            shared = self._part(self._trunk, image, 2)
            for t in range(2, stages + 1):
                beliefs.append(self._part(self._refine, t, shared, beliefs[-1], center))
        return beliefs


class PoseMachineVGG(PoseMachine):
    """The variant on VGG-19's first layers: ``mpii_vgg_6stage`` and, a quarter as wide, ``tiny``."""

    trunk: tuple[tuple[str, int] | str, ...] = (
        ("conv1_1", 64), ("conv1_2", 64), "pool1_stage1",
        ("conv2_1", 128), ("conv2_2", 128), "pool2_stage1",
        ("conv3_1", 256), ("conv3_2", 256), ("conv3_3", 256), ("conv3_4", 256), "pool3_stage1",
        ("conv4_1", 512), ("conv4_2", 512),
        ("conv4_3_CPM", 256), ("conv4_4_CPM", 256), ("conv4_5_CPM", 256), ("conv4_6_CPM", 256),
        ("conv4_7_CPM", 128),
    )  # fmt: skip
    stage1: tuple[str, str] = ("conv5_1_CPM", "conv5_2_CPM")

    def __init__(self, description: NetDescription) -> None:
        super().__init__(description)
        c, maps = self.hidden, self.maps
        (features,) = description.kernels.features
        channels = 3
        for entry in self.trunk:
            if isinstance(entry, str):
                self.add_module(entry, max_pool(2))
            else:
                name, released = entry
                on_grid = hasattr(self, "pool3_stage1")  # after the third pooling: the belief maps' grid
                self.add_module(name, conv(channels, c(released), features if on_grid else 3))
                channels = c(released)
        self.add_module(self.stage1[0], conv(channels, c(512), 1))
        self.add_module(self.stage1[1], conv(c(512), maps, 1))
        if self.stages > 1 and self.input_channels == 4:
            self.pool_center_lower = center_pool()
        for t in range(2, self.stages + 1):
            self._add_refinement(t, maps + channels + self.input_channels - 3)

    def _features(self, image: Tensor) -> Tensor:
        x = image
        for entry in self.trunk:
            x = self.layer(entry)(x) if isinstance(entry, str) else relu(self.layer(entry[0])(x))
        return x

    def _stage1(self, features: Tensor) -> Tensor:
        hidden, last = self.stage1
        return self.layer(last)(relu(self.layer(hidden)(features)))

    def _refine(self, t: int, *bottom: Tensor) -> Tensor:
        return self._refined(t, concat(*bottom))

    def _beliefs(self, data: Tensor, stages: int) -> list[Tensor]:
        features = self._part(self._features, data[:, :3])
        beliefs = [self._part(self._stage1, features)]
        if stages > 1:
            center = self.pool_center_lower(data[:, 3:])
            for t in range(2, stages + 1):
                beliefs.append(self._part(self._refine, t, beliefs[-1], features, center))
        return beliefs


class PersonMachine(PoseMachineVGG):
    """The person detector ``person_4stage``: one map of body centres, and no centre map: it wants all."""

    input_channels = 3
    trunk = (
        *PoseMachineVGG.trunk[:13],
        ("conv4_3", 512), ("conv4_4", 512), ("conv5_1", 512), ("conv5_2_CPM", 128),
    )  # fmt: skip
    stage1 = ("conv6_1_CPM", "conv6_2_CPM")

    def _beliefs(self, data: Tensor, stages: int) -> list[Tensor]:
        features = self._part(self._features, data)
        beliefs = [self._part(self._stage1, features)]
        for t in range(2, stages + 1):
            beliefs.append(self._part(self._refine, t, beliefs[-1], features))
        return beliefs


def _multipliers(description: NetDescription) -> dict[str, tuple[float, float]]:
    """(lr_mult, decay_mult) of every parameter by its state_dict key."""
    table: dict[str, tuple[float, float]] = {}
    for layer in description.convolutions:
        assert layer.lr_mult is not None
        assert layer.decay_mult is not None
        for i, kind in enumerate(("weight", "bias")):
            table[f"{layer.name}.{kind}"] = (layer.lr_mult[i], layer.decay_mult[i])
    return table
