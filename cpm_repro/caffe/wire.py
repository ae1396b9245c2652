"""Walking protobuf's wire format in place, without building messages: for large files and for liars.

Every length is checked against the enclosing span before it is used; nothing is allocated on a file's word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED_SIZE = {FIXED64: 8, FIXED32: 4}


class WireError(ValueError):
    """The bytes are no protobuf message; the text says where and why."""


class Field(NamedTuple):
    """One field on the wire: its number, wire type and the span of its payload.

    ``value`` holds the number of a varint field and is 0 otherwise. ``head`` is where the field's tag starts.
    """

    number: int
    kind: int
    head: int
    start: int
    end: int
    value: int


def walk(data: memoryview, start: int, end: int) -> Iterator[Field]:
    """The fields of the message at ``data[start:end]`` in file order; errors as in :func:`next_field`."""
    position = start
    while position < end:
        field = next_field(data, position, end)
        yield field
        position = field.end


def next_field(data: memoryview, position: int, end: int) -> Field:
    """The field at ``position`` of a message that ends at ``end``.

    Raises:
        WireError: a length past the end, a varint of more than ten bytes, field number 0, a group.
    """
    head = position
    key, position = read_varint(data, position, end)
    number, kind = key >> 3, key & 7
    if not 1 <= number < 1 << 29:
        raise WireError(f"byte {head}: field number {number} is not valid")
    if kind == VARINT:
        value, after = read_varint(data, position, end)
        return Field(number, kind, head, position, after, value)
    if kind == BYTES:
        length, position = read_varint(data, position, end)
    elif kind in _FIXED_SIZE:
        length = _FIXED_SIZE[kind]
    else:
        raise WireError(f"byte {head}: field {number} has wire type {kind}, which Caffe never writes")
    if length > end - position:
        raise WireError(f"byte {head}: field {number} claims {length} bytes, {end - position} are left")
    return Field(number, kind, head, position, position + length, 0)


def read_varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """(value, position after it) of the unsigned varint at ``position``."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise WireError(f"byte {position}: a number is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
    raise WireError(f"byte {position}: a number of more than ten bytes")


def signed(value: int) -> int:
    """Two's-complement reading of a 64-bit varint (int32 and int64 fields)."""
    return value - (1 << 64) if value >> 63 else value


def text(data: memoryview, field: Field) -> str:
    """String payload of a length-delimited field."""
    if field.kind != BYTES:
        raise WireError(f"byte {field.head}: field {field.number} should be a string")
    try:
        return bytes(data[field.start : field.end]).decode()
    except UnicodeDecodeError as error:
        raise WireError(f"byte {field.start}: field {field.number} is not UTF-8 text") from error


def packed_view(data: memoryview, field: Field, dtype: str) -> npt.NDArray[np.generic]:
    """View (no copy, perhaps unaligned) of a packed array of ``dtype`` ("<f4" or "<f8")."""
    item = np.dtype(dtype).itemsize
    if (field.end - field.start) % item:
        raise WireError(
            f"byte {field.head}: field {field.number} has {field.end - field.start} bytes,"
            f" no multiple of {item}"
        )
    return np.frombuffer(data[field.start : field.end], dtype)


def unpacked_run(data: memoryview, field: Field, end: int, dtype: str) -> npt.NDArray[np.generic]:
    """Strided view of an unpacked array that begins with ``field``: all following entries with the same tag.

    Old writers tag every single value; a Python loop over millions of them would take minutes.
    """
    item = np.dtype(dtype).itemsize
    width = field.end - field.head
    tag = bytes(data[field.head : field.start])
    rows = np.frombuffer(data[field.head : field.head + (end - field.head) // width * width], np.uint8)
    rows = rows.reshape(-1, width)
    count, chunk = 0, 65536
    while count < len(rows):
        block = rows[count : count + chunk, : len(tag)]
        same = (block == np.frombuffer(tag, np.uint8)).all(axis=1)
        if not same.all():
            count += int(same.argmin())
            break
        count += len(block)
    values = np.ascontiguousarray(rows[:count, width - item :])
    return values.view(dtype).reshape(-1)


def varint(value: int) -> bytes:
    """Wire form of a varint; negative numbers take ten bytes, as protobuf writes them."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, kind: int) -> bytes:
    """Wire form of a field's tag."""
    return varint(number << 3 | kind)


def chunk(number: int, payload: bytes) -> bytes:
    """Wire form of a length-delimited field."""
    return tag(number, BYTES) + varint(len(payload)) + payload
