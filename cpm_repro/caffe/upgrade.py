"""Old-generation layers (``layers``, enum types) as today's (``layer``, string types), in memory.

Caffe upgrades such files when it loads them; so do we, for text and for binary files alike.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cpm_repro.caffe.schema import message_class, new
from cpm_repro.errors import UserError

_UNUSUAL = {  # everything else is the enum's words joined in CamelCase
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "ROIPOOLING": "ROIPooling",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}


@cache
def _types() -> dict[int, str]:
    values = message_class("V1LayerParameter").DESCRIPTOR.fields_by_name["type"].enum_type.values
    return {
        value.number: _UNUSUAL.get(value.name) or "".join(word.capitalize() for word in value.name.split("_"))
        for value in values
        if value.name != "NONE"
    }


def type_of_number(number: int) -> str:
    """Today's type string of an old enum number; "" for one that Caffe never had."""
    return _types().get(number, "")


def modern_layers(net: Any) -> list[Any]:
    """The net's layers as LayerParameter messages: its ``layer`` entries, or its upgraded ``layers``.

    Raises:
        UserError: the net has both kinds, or an old layer without a type.
    """
    if net.layer and net.layers:
        raise UserError(f"net {net.name!r}: wanted either 'layer' or 'layers' entries, got both")
    return list(net.layer) or [_upgrade(layer) for layer in net.layers]


def _upgrade(old: Any) -> Any:
    kind = type_of_number(old.type)
    if not kind:
        raise UserError(f"layer {old.name!r}: an old-style layer without a type")
    layer = new("LayerParameter", name=old.name, type=kind)
    known = layer.DESCRIPTOR.fields_by_name
    for field, value in old.ListFields():
        if field.name in ("include", "exclude", "blobs"):
            getattr(layer, field.name).MergeFrom(value)
        elif field.name in ("bottom", "top", "loss_weight"):
            getattr(layer, field.name).extend(value)
        elif field.name.endswith("_param") and field.name in known:
            getattr(layer, field.name).CopyFrom(value)
    for index in range(max(len(old.param), len(old.blobs_lr), len(old.weight_decay))):
        spec = layer.param.add()
        if index < len(old.param) and old.param[index]:
            spec.name = old.param[index]
        if index < len(old.blob_share_mode):
            spec.share_mode = old.blob_share_mode[index]
        if index < len(old.blobs_lr):
            spec.lr_mult = old.blobs_lr[index]
        if index < len(old.weight_decay):
            spec.decay_mult = old.weight_decay[index]
    return layer
