"""What each pose machine is, as data: an ordered list of Caffe layers, for any stages, parts and width.

The released networks (spec `networks.json`) come out layer by layer and field by field; prototxts, solver
multipliers, costs and receptive fields are all derived from this one description. The modules in
``pose_machine.py`` are written by hand and held against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

from cpm_repro.config import Kernels, architecture
from cpm_repro.errors import UserError

STRIDE = 8
"""Input pixels per belief-map cell: three poolings of stride 2."""

DROPOUT = 0.5


@dataclass(frozen=True)
class Filler:
    """How Caffe fills a blob at first: ``gaussian`` with ``std``, or ``constant`` zero."""

    type: str
    std: float | None = None

    def to_dict(self) -> dict[str, str]:
        """The filler with numbers as text, the way spec `networks.json` has them."""
        return {"type": self.type} | ({} if self.std is None else {"std": f"{self.std:g}"})


WEIGHT_FILLER = Filler("gaussian", 0.01)
BIAS_FILLER = Filler("constant")


@dataclass(frozen=True)
class Layer:
    """One Caffe layer. Fields that its type does not have are None.

    ``type`` is Caffe's name: Slice, Pooling, Convolution, ReLU, Concat; in training also Dropout and
    EuclideanLoss. ``pool`` is MAX or AVE. ``lr_mult`` and ``decay_mult`` are (weight, bias).
    """

    name: str
    type: str
    bottom: tuple[str, ...]
    top: tuple[str, ...]
    axis: int | None = None
    slice_point: int | None = None
    pool: str | None = None
    num_output: int | None = None
    kernel_size: int | None = None
    stride: int | None = None
    pad: int | None = None
    weight_filler: Filler | None = None
    bias_filler: Filler | None = None
    lr_mult: tuple[float, float] | None = None
    decay_mult: tuple[float, float] | None = None
    dropout_ratio: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values of the fields that the layer's type has, as in spec `networks.json`."""

        def plain(value: Any) -> Any:
            if isinstance(value, Filler):
                return value.to_dict()
            return list(value) if isinstance(value, tuple) else value

        return {key: plain(value) for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class NetDescription:
    """A whole network: its numbers, its input blob and its layers in prototxt order.

    ``belief_blobs`` names the output of each stage (also the layer that makes it), stage 1 first, each with
    ``maps`` channels. ``input_shape`` is (1, channels, height, width) of the released deploy files.
    ``kernels`` are those that may differ from the released network's.
    """

    arch: str
    parts: int
    stages: int
    width: float
    maps: int
    input_blob: str
    input_shape: tuple[int, int, int, int]
    layers: tuple[Layer, ...]
    belief_blobs: tuple[str, ...]
    kernels: Kernels

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def layer(self, name: str) -> Layer:
        """The layer called ``name``; KeyError if there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"{self.arch} has no layer {name}")

    @property
    def convolutions(self) -> tuple[Layer, ...]:
        """The layers that have parameters, in order."""
        return tuple(layer for layer in self.layers if layer.type == "Convolution")

    @property
    def image_convolutions(self) -> tuple[Layer, ...]:
        """Those that read the picture itself: the first, and in the 9x9 networks that of the second trunk."""
        return tuple(layer for layer in self.convolutions if layer.bottom == ("image",))

    def channels(self) -> dict[str, int]:
        """Number of channels of every blob."""
        channels = {self.input_blob: self.input_shape[1]}
        for layer in self.layers:
            if layer.type == "Slice":
                assert layer.slice_point is not None
                # A training net's label, which no layer makes, has two halves.
                total = channels.get(layer.bottom[0], 2 * layer.slice_point)
                channels[layer.top[0]] = layer.slice_point
                channels[layer.top[1]] = total - layer.slice_point
            elif layer.type == "EuclideanLoss":
                channels[layer.top[0]] = 1
            else:
                channels[layer.top[0]] = layer.num_output or sum(channels[blob] for blob in layer.bottom)
        return channels

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by state_dict key: ``<layer>.weight`` is (out, in, kh, kw), ``<layer>.bias`` (out,)."""
        channels = self.channels()
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.convolutions:
            assert layer.num_output is not None
            assert layer.kernel_size is not None
            side = layer.kernel_size
            shapes[f"{layer.name}.weight"] = (layer.num_output, channels[layer.bottom[0]], side, side)
            shapes[f"{layer.name}.bias"] = (layer.num_output,)
        return shapes


class _Writer:
    """Appends layers in order; each method returns the blob that the new layer makes."""

    def __init__(self, width: float, kernels: Kernels) -> None:
        self.layers: list[Layer] = []
        self._width = width
        self.kernels = kernels

    def hidden(self, channels: int) -> int:
        """A released hidden width at this network's relative width, at least 1 channel."""
        return max(1, round(channels * self._width))

    def add(
        self, name: str, type: str, bottom: tuple[str, ...], top: str | None = None, **fields: Any
    ) -> str:
        self.layers.append(Layer(name, type, bottom, (top or name,), **fields))
        return top or name

    def split_input(self) -> None:
        """Channels 0-2 of ``data`` are the image (B, G, R), channel 3 is the centre map."""
        self.layers.append(Layer("image", "Slice", ("data",), ("image", "center_map"), axis=1, slice_point=3))

    def pool(self, name: str, bottom: str, kind: str, kernel: int, stride: int) -> str:
        return self.add(name, "Pooling", (bottom,), pool=kind, kernel_size=kernel, stride=stride)

    def pool_center(self) -> str:
        """The centre map on the belief maps' grid."""
        return self.pool("pool_center_lower", "center_map", "AVE", 9, STRIDE)

    def conv(self, name: str, bottom: str, channels: int, kernel: int, rate: float) -> str:
        """A convolution that keeps the size; its bias learns twice as fast and does not decay."""
        return self.add(
            name,
            "Convolution",
            (bottom,),
            num_output=channels,
            kernel_size=kernel,
            pad=kernel // 2,
            weight_filler=WEIGHT_FILLER,
            bias_filler=BIAS_FILLER,
            lr_mult=(rate, 2 * rate),
            decay_mult=(1.0, 0.0),
        )

    def conv_relu(
        self, name: str, bottom: str, channels: int, kernel: int, rate: float, relu: str | None = None
    ) -> str:
        """A hidden convolution of released width ``channels`` and its in-place ReLU."""
        blob = self.conv(name, bottom, self.hidden(channels), kernel, rate)
        return self.add(relu or name.replace("conv", "relu"), "ReLU", (blob,), blob)

    def concat(self, name: str, *bottom: str) -> str:
        return self.add(name, "Concat", bottom, axis=1)


def _trunk_9x9(net: _Writer, stage: int, rate: float) -> str:
    """Three 9x9 convolutions, each pooled 3x3/2: the features of the networks trained from scratch."""
    blob = "image"
    for i in (1, 2, 3):
        blob = net.conv_relu(f"conv{i}_stage{stage}", blob, 128, 9, rate)
        blob = net.pool(f"pool{i}_stage{stage}", blob, "MAX", 3, 2)
    return blob


def _describe_9x9(net: _Writer, stages: int, maps: int) -> list[str]:
    """The paper's network (figure 2): stages 1 and 2 each have a trunk, later stages re-use stage 2's."""
    net.split_input()
    center = net.pool_center() if stages > 1 else ""
    narrow, wide = net.kernels.features
    blob = net.conv_relu("conv4_stage1", _trunk_9x9(net, 1, rate=5), 32, narrow, rate=5)
    blob = net.conv_relu("conv5_stage1", blob, 512, wide, rate=5)
    blob = net.conv_relu("conv6_stage1", blob, 512, 1, rate=5)
    beliefs = [net.conv("conv7_stage1", blob, maps, 1, rate=5)]
    shared = ""
    for stage in range(2, stages + 1):
        if stage == 2:
            shared = _trunk_9x9(net, 2, rate=1)
            features = net.conv_relu("conv4_stage2", shared, 32, narrow, rate=1)
        else:
            features = net.conv_relu(f"conv1_stage{stage}", shared, 32, narrow, rate=1)
        blob = net.concat(f"concat_stage{stage}", features, beliefs[-1], center)
        count = len(net.kernels.refine)
        for i, kernel in enumerate((*net.kernels.refine, 1), start=1):
            blob = net.conv_relu(f"Mconv{i}_stage{stage}", blob, 128, kernel, rate=1)
        beliefs.append(net.conv(f"Mconv{count + 2}_stage{stage}", blob, maps, 1, rate=1))
    return beliefs


def _trunk_vgg(net: _Writer, last: tuple[tuple[str, int], ...]) -> str:
    """VGG-19 up to conv4_2, then the ``last`` (name, channels) convolutions; shared by all stages."""
    blob = "image"
    for block, (channels, count) in enumerate(((64, 2), (128, 2), (256, 4)), start=1):
        for i in range(1, count + 1):
            blob = net.conv_relu(f"conv{block}_{i}", blob, channels, 3, rate=1)
        blob = net.pool(f"pool{block}_stage1", blob, "MAX", 2, 2)
    (kernel,) = net.kernels.features
    for name, channels in (("conv4_1", 512), ("conv4_2", 512), *last):
        blob = net.conv_relu(name, blob, channels, kernel, rate=1)
    return blob


def _refine_vgg(net: _Writer, stage: int, bottom: tuple[str, ...], maps: int, relu_ahead: int) -> str:
    """One refinement stage of the VGG family: 7-7-7-7-7-1-1."""
    blob = net.concat(f"concat_stage{stage}", *bottom)
    count = len(net.kernels.refine)
    for i, kernel in enumerate((*net.kernels.refine, 1), start=1):
        relu = f"Mrelu{i + relu_ahead}_stage{stage}"
        blob = net.conv_relu(f"Mconv{i}_stage{stage}", blob, 128, kernel, rate=4, relu=relu)
    return net.conv(f"Mconv{count + 2}_stage{stage}", blob, maps, 1, rate=4)


def _describe_vgg(net: _Writer, stages: int, maps: int) -> list[str]:
    """The VGG-19 variant: one trunk for all stages; the centre map enters from stage 2 on."""
    net.split_input()
    center = net.pool_center() if stages > 1 else ""
    last = (("conv4_3_CPM", 256), ("conv4_4_CPM", 256), ("conv4_5_CPM", 256), ("conv4_6_CPM", 256))
    features = _trunk_vgg(net, (*last, ("conv4_7_CPM", 128)))
    blob = net.conv_relu("conv5_1_CPM", features, 512, 1, rate=1)
    beliefs = [net.conv("conv5_2_CPM", blob, maps, 1, rate=1)]
    for stage in range(2, stages + 1):
        beliefs.append(_refine_vgg(net, stage, (beliefs[-1], features, center), maps, relu_ahead=0))
    return beliefs


def _describe_person(net: _Writer, stages: int, maps: int) -> list[str]:
    """The person detector: no centre map; the ReLUs of its refinement stages are named one ahead."""
    last = (("conv4_3", 512), ("conv4_4", 512), ("conv5_1", 512), ("conv5_2_CPM", 128))
    features = _trunk_vgg(net, last)
    blob = net.conv_relu("conv6_1_CPM", features, 512, 1, rate=1)
    beliefs = [net.conv("conv6_2_CPM", blob, maps, 1, rate=1)]
    for stage in range(2, stages + 1):
        beliefs.append(_refine_vgg(net, stage, (beliefs[-1], features), maps, relu_ahead=1))
    return beliefs


_FAMILIES: Mapping[str, Callable[[_Writer, int, int], list[str]]] = {
    "9x9": _describe_9x9,
    "vgg": _describe_vgg,
    "person": _describe_person,
}


MOST = 1000
"""Stages and parts at most: a file's claim of more is damage, and would take minutes to describe."""


def describe(
    arch: str,
    stages: int | None = None,
    parts: int | None = None,
    width: float | None = None,
    *,
    features: str | None = None,
    refine: str | None = None,
) -> NetDescription:
    """Describe the deploy network ``arch`` (spec `networks.json`).

    Args:
        arch: one of :data:`cpm_repro.config.ARCHITECTURES`.
        stages: number of stages, at least 1. None: the architecture's own, and so for the next two.
        parts: number of body parts; each stage has one map more, the background (person net: no background).
        width: hidden channels relative to the released networks, each ``max(1, round(released * width))``
            (``tiny``: relative to the VGG net, its own is 0.25). The belief maps' number does not change.
        features: sides of the feature convolutions' windows on the belief maps' grid, as in
            :class:`cpm_repro.config.Kernels`: one odd number for the VGG family ("3"), two for the 9x9
            networks ("5-9").
        refine: sides of a refinement stage's wide convolutions, odd numbers ("7-7-7-7-7", "11-11-11").

    A network of one stage has no ``pool_center_lower``: nothing would read it.

    Raises:
        UserError: an unknown architecture, or a number out of range.
    """
    own = architecture(arch)
    stages = own.stages if stages is None else stages
    parts = own.parts if parts is None else parts
    width = own.width if width is None else width
    for name, value in (("stages", stages), ("parts", parts)):
        if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= value <= MOST:
            raise UserError(f"{arch}: wanted {name} to be a whole number of 1 to {MOST}, got {value!r}")
    if isinstance(width, bool) or not isinstance(width, Real) or not 0 < width <= 64:
        raise UserError(f"{arch}: wanted a width above 0 and at most 64, got {width!r}")
    stages, parts, width = int(stages), int(parts), float(width)  # NumPy's too
    kernels = Kernels(
        _sides(arch, "features", features, own.kernels.features, len(own.kernels.features)),
        _sides(arch, "refine", refine, own.kernels.refine),
    )
    net = _Writer(width, kernels)
    maps = parts + 1 if own.background else parts
    beliefs = _FAMILIES[own.family](net, stages, maps)
    layers = tuple(net.layers)
    return NetDescription(
        arch, parts, stages, width, maps, own.input_blob, own.input_shape, layers, tuple(beliefs), kernels
    )


_WIDEST = 99


def _sides(
    arch: str, name: str, text: str | None, own: tuple[int, ...], count: int | None = None
) -> tuple[int, ...]:
    """``7-7-3`` as numbers; ``own`` where nothing was said."""
    if text is None:
        return own
    known = isinstance(text, str) and len(text) < 200
    sides = tuple(int(part) for part in text.split("-") if part.isdecimal()) if known else ()
    odd = all(side % 2 == 1 and side <= _WIDEST for side in sides)
    if not sides or not odd or "-".join(map(str, sides)) != text or len(sides) != (count or len(sides)):
        many = f"{count} odd number" + ("s" if count and count > 1 else "") if count else "odd numbers"
        example = "-".join(map(str, own))
        raise UserError(f"{arch}: wanted {name} as {many} up to {_WIDEST} such as {example}, got {text!r}")
    return sides


def describe_training(
    arch: str, stages: int | None = None, parts: int | None = None, width: float | None = None
) -> NetDescription:
    """The training network: :func:`describe` plus label slice, dropout and losses (spec `training.md`).

    The layer that makes the blobs ``data`` and ``label`` is not in it. Layers added: first the Slice
    ``label_lower`` of ``label`` into ``label_lower`` (the annotated person) and ``label_1st_lower``
    (everybody); Dropout in place after relu5_stage1 and relu6_stage1 of the 9x9 networks; EuclideanLoss
    ``loss_stageN`` after the last convolution of stage N, stage 1 against ``label_1st_lower``, the others
    against ``label_lower``.
    The VGG family's training files were never released: no dropout there, and the person net, whose label has
    a single group, compares every stage with ``label`` itself; both are our own choice.
    """
    own = architecture(arch)
    net = describe(arch, stages, parts, width)
    slice_label = Layer(
        "label_lower", "Slice", ("label",), ("label_lower", "label_1st_lower"), axis=1, slice_point=net.maps
    )
    layers = [slice_label] if own.background else []
    for layer in net.layers:
        layers.append(layer)
        if layer.name in own.dropout_after:
            number = own.dropout_after.index(layer.name) + 1
            layers.append(
                Layer(f"drop{number}_stage1", "Dropout", layer.top, layer.top, dropout_ratio=DROPOUT)
            )
        if layer.name in net.belief_blobs:
            stage = net.belief_blobs.index(layer.name) + 1
            label = ("label_1st_lower" if stage == 1 else "label_lower") if own.background else "label"
            loss = f"loss_stage{stage}"
            layers.append(Layer(loss, "EuclideanLoss", (layer.name, label), (loss,)))
    return replace(net, layers=tuple(layers))
