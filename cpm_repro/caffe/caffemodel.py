"""Trained weights as Caffe keeps them: binary NetParameter files of both generations (spec `training.md`).

Files are walked in a memory map, so a gigabyte of weights needs a gigabyte of memory and not three.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpm_repro.caffe import wire
from cpm_repro.caffe.blobs import MAX_MESSAGE, Array, as_blob, blob_pieces, blob_size, map_file, read_blob
from cpm_repro.caffe.prototxt import read_prototxt
from cpm_repro.caffe.upgrade import modern_layers, type_of_number
from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write

MAX_LAYERS = 100_000
MAX_BLOBS = 256
"""Limits far above any real net, so that a small hostile file cannot grow in memory."""

_NAME, _OLD_LAYERS, _LAYER = 1, 2, 100
_NEW_FIELDS = {1: "name", 2: "type", 3: "bottoms", 4: "tops", 7: "blobs"}
_OLD_FIELDS = {4: "name", 5: "type", 2: "bottoms", 3: "tops", 6: "blobs"}
_OLDEST_LAYER = 1  # among the old fields: what an older generation yet kept name, type and blobs in


@dataclass
class ModelLayer:
    """One layer of a caffemodel: today's type name, blob names, and its arrays (often none)."""

    name: str = ""
    type: str = ""
    bottoms: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)
    blobs: list[Array] = field(default_factory=list)


@dataclass
class CaffeModel:
    """A caffemodel in memory: the net's name and its layers in file order."""

    name: str
    layers: list[ModelLayer]


def read_caffemodel(path: str | Path, keep_legacy_shapes: bool = False) -> dict[str, list[Array]]:
    """The trained arrays of a caffemodel, {layer name: [arrays]}; layers without arrays are left out.

    Arrays are float32 (float64 where the file holds doubles) in Caffe's own layout, which for convolutions
    (out, in, kh, kw) and inner products (out, in) is also PyTorch's. Old files store every array with four
    axes, a bias as (1, 1, 1, C); such biases and inner-product weights come back with one and two axes, as
    today's files have them, unless ``keep_legacy_shapes``.

    Raises:
        UserError: no such file, another kind of file, truncated or malformed bytes, shapes that do not fit
            their data, two layers of one name with arrays.
    """
    weights: dict[str, list[Array]] = {}
    for layer in read_model(path, keep_legacy_shapes).layers:
        if layer.blobs and layer.name in weights:
            raise UserError(f"{path}: two layers with weights are both called {layer.name!r}")
        if layer.blobs:
            weights[layer.name] = layer.blobs
    return weights


def read_model(path: str | Path, keep_legacy_shapes: bool = False) -> CaffeModel:
    """Everything of a caffemodel that concerns weights: all layers, also those without arrays.

    Shapes and errors as in :func:`read_caffemodel`.
    """
    data = map_file(path)
    name, layers = "", []
    try:
        for entry in wire.walk(data, 0, len(data)):
            if entry.number == _NAME:
                name = wire.text(data, entry)
            elif entry.number in (_LAYER, _OLD_LAYERS):
                layers.append(_read_layer(data, entry, keep_legacy_shapes))
                if len(layers) > MAX_LAYERS:
                    raise wire.WireError(f"more than {MAX_LAYERS} layers")
    except wire.WireError as error:
        raise UserError(f"{path}: not a readable caffemodel: {error}") from error
    if not layers:
        raise UserError(f"{path}: wanted a caffemodel, got a file without any layer")
    return CaffeModel(name, layers)


def _read_layer(data: memoryview, entry: wire.Field, keep_legacy: bool) -> ModelLayer:
    if entry.kind != wire.BYTES:
        raise wire.WireError(f"byte {entry.head}: a layer has wire type {entry.kind}")
    names = _NEW_FIELDS if entry.number == _LAYER else _OLD_FIELDS
    layer, legacy = ModelLayer(), []
    for item in wire.walk(data, entry.start, entry.end):
        what = names.get(item.number)
        if names is _OLD_FIELDS and item.number == _OLDEST_LAYER:
            raise wire.WireError(
                f"byte {item.head}: a layer of Caffe's first format, of 2013; Caffe's "
                "upgrade_net_proto_binary makes today's of it"
            )
        if what == "name":
            layer.name = wire.text(data, item)
        elif what == "type":
            layer.type = type_of_number(item.value) if names is _OLD_FIELDS else wire.text(data, item)
        elif what in ("bottoms", "tops"):
            getattr(layer, what).append(wire.text(data, item))
        elif what == "blobs":
            if item.kind != wire.BYTES or len(layer.blobs) >= MAX_BLOBS:
                raise wire.WireError(f"byte {item.head}: not a blob, or more than {MAX_BLOBS} of them")
            blob, is_legacy = read_blob(data, item.start, item.end)
            layer.blobs.append(blob)
            legacy.append(is_legacy)
    if not keep_legacy:
        layer.blobs = [
            _natural_shape(blob, index, layer.type) if is_legacy else blob
            for index, (blob, is_legacy) in enumerate(zip(layer.blobs, legacy, strict=True))
        ]
    return layer


def _natural_shape(blob: Array, index: int, kind: str) -> Array:
    """Today's shape of a legacy four-axis array, where the layer's type tells it."""
    if (
        kind in ("Convolution", "Deconvolution", "InnerProduct")
        and index == 1
        and blob.shape[:3] == (1, 1, 1)
    ):
        return blob.reshape(-1)
    if kind == "InnerProduct" and index == 0 and blob.shape[:2] == (1, 1):
        return blob.reshape(blob.shape[2:])
    if kind == "PReLU" and blob.shape[:3] == (1, 1, 1):
        return blob.reshape(-1)
    return blob


def write_caffemodel(
    path: str | Path, weights: Mapping[str, Sequence[Any]], net: Any = None, name: str | None = None
) -> None:
    """Write ``weights`` ({layer: [arrays or tensors]}) as a caffemodel of today's generation, atomically.

    ``net`` (a NetParameter message or a prototxt's path) gives the layers' order, types, wiring and
    parameters, and layers without weights are written too, as Caffe's snapshots have them. Without ``net``
    layers have names and arrays only, which is all that loading by name needs. float64 arrays are stored as
    doubles, so reading returns exactly what was written.

    Raises:
        UserError: weights for a layer that ``net`` lacks, or a file of 2 GiB or more (Caffe reads none).
        TypeError: an array that is not of floats, or one that is in no list, as in a state dict.
        EnvironmentFailure: the file cannot be written.
    """
    blobs = {
        layer: [
            as_blob(array, f"{layer}, blob {index}") for index, array in enumerate(in_list(layer, arrays))
        ]
        for layer, arrays in weights.items()
    }
    title, heads = _layer_heads(blobs, net)
    sizes = [
        len(head) + sum(len(_blob_prefix(blob)) + blob_size(blob) for blob in blobs.get(layer, ()))
        for layer, head in heads
    ]
    if sum(sizes) > MAX_MESSAGE:
        raise UserError(f"{path}: {sum(sizes)} bytes of weights; Caffe reads no file of 2 GiB or more")
    with atomic_write(path) as file:
        file.write(wire.chunk(_NAME, (title if name is None else name).encode()))
        for (layer, head), size in zip(heads, sizes, strict=True):
            file.write(wire.tag(_LAYER, wire.BYTES) + wire.varint(size) + head)
            write_blobs(file, blobs.get(layer, ()))


def in_list(layer: str, arrays: Sequence[Any]) -> Sequence[Any]:
    """A layer's ``arrays``; one that is in no list would be taken apart into its rows.

    Raises:
        TypeError: it is one.
    """
    if hasattr(arrays, "ndim"):
        raise TypeError(
            f"weights: wanted a list of arrays for layer {layer!r}, got one {type(arrays).__name__}, as in a "
            "state dict"
        )
    return arrays


def write_blobs(file: Any, blobs: Iterable[Array], number: int = 7) -> None:
    """Write each array as BlobProto field ``number`` of the message being written."""
    for blob in blobs:
        file.write(_blob_prefix(blob, number))
        for piece in blob_pieces(blob):
            file.write(piece)


def _blob_prefix(blob: Array, number: int = 7) -> bytes:
    return wire.tag(number, wire.BYTES) + wire.varint(blob_size(blob))


def _layer_heads(blobs: Mapping[str, Sequence[Array]], net: Any) -> tuple[str, list[tuple[str, bytes]]]:
    """(net name, [(layer name, its LayerParameter bytes without blobs)])."""
    if net is None:
        return "", [(layer, wire.chunk(1, layer.encode())) for layer in blobs]
    if isinstance(net, (str, Path)):
        net = read_prototxt(net)
    heads, written = [], set[str]()
    for message in modern_layers(net):
        if message.name in written:
            continue  # the same layer for another phase: its weights are stored once
        if message.name in blobs:
            written.add(message.name)
        bare = type(message)()
        bare.CopyFrom(message)
        bare.ClearField("blobs")
        heads.append((message.name, bare.SerializeToString()))
    unknown = [layer for layer in blobs if layer not in {head[0] for head in heads}]
    if unknown:
        raise UserError(f"weights for layers that net {net.name!r} does not have: {', '.join(unknown)}")
    return net.name, heads
