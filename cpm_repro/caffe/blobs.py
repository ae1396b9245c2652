"""BlobProto on the wire: one array of a caffemodel or solverstate, read from a map, written in pieces.

Field numbers: spec `caffe_fields.json`. Floats become float32 arrays, doubles float64, copied exactly once.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cpm_repro.caffe import wire
from cpm_repro.errors import UserError

Array = npt.NDArray[np.floating[Any]]

MAX_AXES = 32
"""Most axes of a Caffe blob."""

MAX_MESSAGE = (1 << 31) - 1
"""Protobuf, and so Caffe, reads no message of 2 GiB or more."""

_LEGACY = {1: 0, 2: 1, 3: 2, 4: 3}  # num, channels, height, width -> axis
_SHAPE, _DATA, _DOUBLE_DATA = 7, 5, 8
_FLOATS = {_DATA: "<f4", 6: "<f4", _DOUBLE_DATA: "<f8", 9: "<f8"}  # 6 and 9: diffs, walked over


def map_file(path: str | Path) -> memoryview:
    """Read-only memory map of a file as bytes.

    Raises:
        UserError: the file is missing or empty, or is evidently something else (zip, HDF5, text, ...).
    """
    try:
        with open(path, "rb") as file:
            head = file.read(256)
            if not head:
                raise UserError(f"{path}: wanted a Caffe binary file, got an empty file")
            _refuse_others(path, head)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return memoryview(mapped)


def _refuse_others(path: str | Path, head: bytes) -> None:
    """Name the usual wrong files instead of calling them broken."""
    kinds = (
        (b"\x89HDF\r\n", "an HDF5 snapshot (write it as BINARYPROTO)"),
        (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint?)"),
        (b"version https://git-lfs", "a Git LFS pointer (fetch the file itself)"),
        (b"<!DOCTYPE", "a web page (the download failed)"),
        (b"<html", "a web page (the download failed)"),
    )
    for magic, kind in kinds:
        if head.startswith(magic):
            raise UserError(f"{path}: wanted a Caffe binary file, got {kind}")
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        raise UserError(f"{path}: wanted a Caffe binary file, got text (a prototxt?)")


def read_blob(data: memoryview, start: int, end: int) -> tuple[Array, bool]:
    """(array, whether its shape is the legacy num, channels, height, width) of the BlobProto in the span.

    Raises:
        WireError: malformed bytes, a bad shape, or a shape whose product is not the number of values.
    """
    dims: list[int] = []
    legacy: dict[int, int] = {}
    parts: dict[int, list[npt.NDArray[Any]]] = {_DATA: [], _DOUBLE_DATA: []}
    position = start
    while position < end:
        field = wire.next_field(data, position, end)
        position = field.end
        if field.number == _SHAPE:
            dims += _read_shape(data, field)
        elif field.number in _LEGACY and field.kind == wire.VARINT:
            legacy[_LEGACY[field.number]] = wire.signed(field.value)
        elif field.number in _FLOATS:
            values, position = _read_values(data, field, end)
            if field.number in parts:
                parts[field.number].append(values)
    # Caffe's precedence: legacy numbers before a shape, doubles before floats.
    shape = [legacy.get(axis, 0) for axis in range(4)] if legacy else dims
    values = (
        _join(parts[_DOUBLE_DATA], np.float64) if parts[_DOUBLE_DATA] else _join(parts[_DATA], np.float32)
    )
    _check_shape(shape, values.size, start)
    _release(data, start, end)
    return values.reshape(shape), bool(legacy)


def _read_values(data: memoryview, field: wire.Field, end: int) -> tuple[npt.NDArray[Any], int]:
    """(values, position after them) of a packed array or of a run of unpacked entries."""
    dtype = _FLOATS[field.number]
    single = wire.FIXED32 if dtype == "<f4" else wire.FIXED64
    if field.kind == wire.BYTES:
        return wire.packed_view(data, field, dtype), field.end
    if field.kind != single:
        raise wire.WireError(f"byte {field.head}: field {field.number} has wire type {field.kind}")
    values = wire.unpacked_run(data, field, end, dtype)
    return values, field.head + values.size * (field.end - field.head)


def _read_shape(data: memoryview, field: wire.Field) -> list[int]:
    """Dimensions of a BlobShape, packed or not."""
    if field.kind != wire.BYTES:
        raise wire.WireError(f"byte {field.head}: a shape has wire type {field.kind}")
    dims: list[int] = []
    for inner in wire.walk(data, field.start, field.end):
        if inner.number != 1:
            continue
        if inner.kind == wire.VARINT:
            dims.append(wire.signed(inner.value))
        elif inner.kind == wire.BYTES:
            position = inner.start
            while position < inner.end and len(dims) <= MAX_AXES:
                value, position = wire.read_varint(data, position, inner.end)
                dims.append(wire.signed(value))
        if len(dims) > MAX_AXES:
            raise wire.WireError(f"byte {inner.head}: a blob of more than {MAX_AXES} axes")
    return dims


def _check_shape(shape: Sequence[int], size: int, start: int) -> None:
    if any(not 0 <= dim < 1 << 31 for dim in shape):
        raise wire.WireError(f"byte {start}: blob shape {list(shape)} has a dimension outside of 0 .. 2^31-1")
    if math.prod(shape) != size:  # exact integers: nothing overflows
        raise wire.WireError(f"byte {start}: blob shape {list(shape)} does not fit its {size} values")


def _join(parts: list[npt.NDArray[Any]], dtype: type[np.floating[Any]]) -> Array:
    """One aligned array in native byte order; the only copy that is made."""
    if len(parts) == 1:
        return np.array(parts[0], dtype=dtype, copy=True, order="C")
    return np.concatenate(parts, dtype=dtype) if parts else np.empty(0, dtype)


def _release(data: memoryview, start: int, end: int) -> None:
    """Let go of mapped pages that have been copied, so that a large file is not counted twice in memory."""
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if last - first >= 1 << 20 and hasattr(mmap, "MADV_DONTNEED") and isinstance(data.obj, mmap.mmap):
        data.obj.madvise(mmap.MADV_DONTNEED, first, last - first)


def as_blob(value: Any, what: str) -> Array:
    """``value`` (NumPy array or torch tensor) as a contiguous little-endian float32 or float64 array.

    Half precision widens to float32 without loss; anything that is not a float is refused.
    """
    if hasattr(value, "detach"):
        if not value.is_floating_point():
            raise TypeError(f"{what}: wanted a float tensor, got {value.dtype}")
        value = value.detach().cpu()
        value = (value if str(value.dtype) == "torch.float64" else value.float()).numpy()
    array = np.asarray(value)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise TypeError(f"{what}: wanted a float array, got {array.dtype}")
    if array.ndim > MAX_AXES:
        raise ValueError(f"{what}: wanted at most {MAX_AXES} axes, got {array.ndim}")
    # reshape: ascontiguousarray would turn a 0-d blob into one axis of 1
    return np.ascontiguousarray(array, "<f8" if array.dtype.itemsize == 8 else "<f4").reshape(array.shape)


def blob_size(array: Array) -> int:
    """Bytes of the BlobProto that :func:`blob_pieces` writes."""
    return sum(len(piece) for piece in _blob_head(array)) + array.nbytes


def blob_pieces(array: Array) -> Iterator[bytes | npt.NDArray[np.uint8]]:
    """The BlobProto of ``array`` in pieces; the values are not copied."""
    yield from _blob_head(array)
    yield array.reshape(-1).view(np.uint8)


def _blob_head(array: Array) -> tuple[bytes, ...]:
    """Shape, then the tag and length of the values."""
    dims = b"".join(wire.varint(dim) for dim in array.shape)
    shape = wire.chunk(_SHAPE, wire.chunk(1, dims) if dims else b"")
    number = _DOUBLE_DATA if array.dtype.itemsize == 8 else _DATA
    return shape, wire.tag(number, wire.BYTES), wire.varint(array.nbytes)
