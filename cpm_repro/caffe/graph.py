"""From a NetParameter to the layers that run: phase rules, input blobs, and the wiring checks Caffe makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpm_repro.caffe.schema import message_class
from cpm_repro.caffe.upgrade import modern_layers
from cpm_repro.errors import UserError

Shape = tuple[int, ...]

DATA_LAYERS = ("Input", "Data", "CPMData", "HDF5Data", "DummyData")
"""Layer types whose tops the caller feeds."""


@dataclass(frozen=True)
class NetState:
    """What Caffe calls the state of a net: which conditional layers are in it."""

    phase: str = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.phase not in ("TRAIN", "TEST"):
            raise UserError(f"phase: wanted TRAIN or TEST, got {self.phase!r}")

    def meets(self, rule: Any) -> bool:
        """Whether this state satisfies a NetStateRule."""
        phases = message_class("NetState").DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_name
        return (
            (not rule.HasField("phase") or rule.phase == phases[self.phase].number)
            and (not rule.HasField("min_level") or self.level >= rule.min_level)
            and (not rule.HasField("max_level") or self.level <= rule.max_level)
            and all(stage in self.stages for stage in rule.stage)
            and not any(stage in self.stages for stage in rule.not_stage)
        )


def active_layers(net: Any, state: NetState) -> list[Any]:
    """The net's layers (LayerParameter messages) that ``state`` includes, wiring checked.

    Raises:
        UserError: a bottom that no earlier layer makes, a blob made twice, a layer that changes a blob in
            place which others read, include and exclude rules in one layer, a net without layers.
    """
    layers = [layer for layer in modern_layers(net) if _included(layer, state)]
    if not layers:
        raise UserError(f"net {net.name!r} has no layers in phase {state.phase}")
    available = set(net.input)
    if len(available) != len(net.input):
        raise UserError(f"net {net.name!r}: two inputs have one name: {', '.join(net.input)}")
    for layer in layers:
        for bottom in layer.bottom:
            if bottom not in available:
                raise UserError(f"layer {layer.name!r}: no earlier layer makes its bottom {bottom!r}")
        for position, top in enumerate(layer.top):
            in_place = position < len(layer.bottom) and layer.bottom[position] == top
            if top in available and not in_place:
                raise UserError(f"layer {layer.name!r}: its top {top!r} was made before")
            available.add(top)
    _check_in_place(layers)
    return layers


def _check_in_place(layers: Sequence[Any]) -> None:
    """No blob is read by several layers one of which changes it: Caffe copies such a blob, and then aborts.

    Layers after the one that works in place read what it made; that is a blob of its own here.
    """
    readers: dict[str, list[int]] = {}
    for place, layer in enumerate(layers):
        for bottom in layer.bottom:
            readers.setdefault(bottom, []).append(place)
        for top in layer.top:
            others = [layers[reader].name for reader in readers.get(top, ()) if reader != place]
            if top in layer.bottom and others:
                raise UserError(
                    f"layer {layer.name!r}: it changes {top!r} in place, which {others[0]!r} reads too"
                )
            readers[top] = []


def _included(layer: Any, state: NetState) -> bool:
    if layer.include and layer.exclude:
        raise UserError(f"layer {layer.name!r}: wanted include or exclude rules, got both")
    if layer.include:
        return any(state.meets(rule) for rule in layer.include)
    return not any(state.meets(rule) for rule in layer.exclude)


def input_shapes(net: Any, layers: Sequence[Any], given: Mapping[str, Sequence[int]]) -> dict[str, Shape]:
    """Shape of every blob that the caller feeds; ``given`` goes before what the file says.

    Raises:
        UserError: a data layer whose file does not tell shapes, and ``given`` lacks them; an unknown blob.
    """
    shapes: dict[str, Shape | None] = dict(_declared(net))
    for layer in layers:
        if layer.type in DATA_LAYERS:
            told = _told(layer)
            shapes.update({top: told[i] if i < len(told) else None for i, top in enumerate(layer.top)})
    unknown = [blob for blob in given if blob not in shapes]
    if unknown:
        raise UserError(f"net {net.name!r} has no input {', '.join(unknown)}; it has {', '.join(shapes)}")
    shapes.update({blob: tuple(shape) for blob, shape in given.items()})
    missing = [blob for blob, shape in shapes.items() if shape is None]
    if missing:
        raise UserError(
            f"net {net.name!r}: its file does not tell the shape of {', '.join(missing)}; give input_shapes="
        )
    known = {blob: shape for blob, shape in shapes.items() if shape is not None}
    for blob, shape in known.items():
        if any(not 0 < size < 1 << 31 for size in shape):
            raise UserError(f"input {blob!r}: shape {list(shape)} has a size below 1 or above 2^31-1")
    return known


def _declared(net: Any) -> dict[str, Shape | None]:
    """Inputs at the top of old deploy files: ``input`` with ``input_shape`` or four ``input_dim`` each."""
    if net.input_shape and net.input_dim:
        raise UserError(f"net {net.name!r}: wanted input_shape or input_dim, got both")
    if net.input_dim and len(net.input_dim) != 4 * len(net.input):
        raise UserError(
            f"net {net.name!r}: wanted {4 * len(net.input)} input_dim for {len(net.input)} inputs, "
            f"got {len(net.input_dim)}"
        )
    if net.input_shape and len(net.input_shape) != len(net.input):
        raise UserError(f"net {net.name!r}: {len(net.input)} inputs but {len(net.input_shape)} input_shape")
    shapes: dict[str, Shape | None] = {}
    for index, blob in enumerate(net.input):
        if net.input_dim:
            shapes[blob] = tuple(net.input_dim[4 * index : 4 * index + 4])
        else:
            shapes[blob] = tuple(net.input_shape[index].dim) if net.input_shape else None
    return shapes


def _told(layer: Any) -> list[Shape | None]:
    """Shapes of a data layer's tops, as far as its own parameters tell them."""
    if layer.type == "Input":
        return _per_top([tuple(shape.dim) for shape in layer.input_param.shape], len(layer.top))
    if layer.type == "DummyData":
        param = layer.dummy_data_param
        old = [
            tuple(dims) for dims in zip(param.num, param.channels, param.height, param.width, strict=False)
        ]
        return _per_top([tuple(shape.dim) for shape in param.shape] or old, len(layer.top))
    if layer.type == "CPMData":
        param, batch = layer.transform_param, layer.cpmdata_param.batch_size
        height, width = param.crop_size_y, param.crop_size_x
        label = (batch, 2 * (param.num_parts + 1), height // param.stride, width // param.stride)
        return [(batch, 4, height, width), label] if batch and param.stride else []
    return []


def _per_top(shapes: list[Shape], tops: int) -> list[Shape | None]:
    """One shape serves all tops; otherwise each top has its own."""
    return list(shapes * tops if len(shapes) == 1 else shapes)
