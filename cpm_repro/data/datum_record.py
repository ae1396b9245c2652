"""A training record inside an LMDB value: three image planes and a fourth of metadata (spec `data.md`)."""

from __future__ import annotations

import numpy as np

from cpm_repro.caffe.datum import decode_datum, encode_datum
from cpm_repro.data.record import RELEASE_JOINTS, PersonRecord, number_fault
from cpm_repro.errors import UserError

MIN_WIDTH = 64
"""Narrower images are padded to it with grey so that a row holds 16 floats."""

_GREY = 128
_FIXED_ROWS = 8
_LARGEST = 1 << 31
"""More than any side or number of an image."""


def encode_record(image: np.ndarray, record: PersonRecord, count: int, total: int) -> bytes:
    """The bytes that the original data layer reads.

    Args:
        image: (H, W, 3) uint8 BGR.
        record: its annotation, 1-based.
        count: running number of this record in the LMDB, from 0.
        total: number of records in the LMDB.

    Raises:
        UserError: the annotation does not fit into the image's rows (an image of very few pixels, or too many
            people), or a number does not fit into its byte.
    """
    height, width = image.shape[:2]
    if width < MIN_WIDTH:
        pad = np.full((height, MIN_WIDTH - width, 3), _GREY, np.uint8)
        image = np.concatenate([image, pad], axis=1)
    if what := misfit(record, (width, height)):
        raise UserError(f"{record.name}: {what}")
    rows = _rows(record, count, total)
    planes = np.zeros((4, *image.shape[:2]), np.uint8)
    planes[:3] = image.transpose(2, 0, 1)
    for index, row in enumerate(rows):
        planes[3, index, : len(row)] = np.frombuffer(row, np.uint8)
    return encode_datum(planes)


def misfit(record: PersonRecord, size: tuple[int, int] | None = None) -> str:
    """Why the annotation does not fit into its image's fourth plane, or "".

    Args:
        record: a person.
        size: (width, height) of the image; None believes the record.
    """
    width, height = size or (record.img_width, record.img_height)
    if not record.dataset or not record.dataset.isascii():
        return f"expected a data set's name in ASCII, got {record.dataset!r}"
    joints = RELEASE_JOINTS.get(record.dataset, len(record.joint_self))
    if len(record.joint_self) != joints:
        return f"expected {joints} joints of {record.dataset}, got {len(record.joint_self)}"
    if record.others > 255 or record.people_index > 255:
        return f"at most 255 people fit into a record, got {max(record.others + 1, record.people_index)}"
    rows = _rows(record, 0, 1)
    widest = max(len(row) for row in rows)
    if len(rows) > height or widest > max(width, MIN_WIDTH):
        return (
            f"the annotation needs {len(rows)} rows of {widest} bytes, "
            f"the image has {height} rows of {max(width, MIN_WIDTH)}"
        )
    return ""


def _rows(record: PersonRecord, count: int, total: int) -> list[bytes]:
    """The metadata plane row by row."""
    joints = np.asarray(record.joint_self)
    flags = bytes([int(record.is_validation), record.others, record.people_index])
    rows = [
        record.dataset.encode("ascii") + b"\0",
        _floats(record.img_height, record.img_width),
        flags + _floats(record.annolist_index, count, total),
        _floats(*record.objpos),
        _floats(record.scale),
        *(_floats(*joints[:, column]) for column in range(3)),
    ]
    if record.others:
        rows += [_floats(*place) for place in np.reshape(record.objpos_other, (-1, 2))]
        rows.append(_floats(*np.ravel(record.scale_other)))
        for other in np.reshape(record.joint_others, (record.others, -1, 3)):
            rows += [_floats(*other[:, column]) for column in range(3)]
    return rows


def _floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def stored_as_validation(raw: memoryview) -> bool | None:
    """The isValidation byte of a value, read in place; None when the value has another layout.

    Only the first bytes and that one are touched: listing a split of an LMDB of 100 GB reads a page a record.
    """
    at, numbers = 0, []
    for tag in (0x08, 0x10, 0x18, 0x22):  # channels, height, width, data: Caffe's order
        if at >= len(raw) or raw[at] != tag:
            return None
        value, at = _varint(raw, at + 1)
        numbers.append(value)
    channels, height, width, size = numbers
    flag = at + 3 * height * width + 2 * width
    if channels != 4 or size != channels * height * width or height < 3 or flag >= len(raw):
        return None
    return bool(raw[flag])


def _varint(raw: memoryview, at: int) -> tuple[int, int]:
    """A protobuf number at ``at``, at most five bytes long, and where it ends."""
    value = 0
    for shift in range(0, 35, 7):
        byte = raw[at] if at < len(raw) else 0
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            break
    return value, at


def decode_record(raw: bytes, name: str, joints: int | None = None) -> tuple[np.ndarray, PersonRecord]:
    """Read one value of an LMDB written by the release, or by `encode_record`.

    Args:
        raw: the value.
        name: stands in messages (file and key).
        joints: per person in records that are not of `RELEASE_JOINTS`; None is 16.

    Returns:
        (H, W, 3) uint8 BGR image and the record; its numbers are float32 as stored.

    Raises:
        UserError: not a Datum of this layout.
    """
    planes = decode_datum(raw, name).planes
    if planes is None or planes.shape[0] != 4:
        raise UserError(f"{name}: expected a datum of 4 planes (B, G, R, annotation), got another kind")
    meta = planes[3]
    if meta.shape[0] < _FIXED_ROWS or meta.shape[1] < MIN_WIDTH:
        raise UserError(f"{name}: expected at least {_FIXED_ROWS} x {MIN_WIDTH} pixels, got {meta.shape}")
    dataset = meta[0].tobytes().split(b"\0")[0]
    if not dataset or not dataset.isascii() or not dataset.decode().isprintable():
        raise UserError(f"{name}: expected a data set's name in the annotation plane, got other bytes")
    count = RELEASE_JOINTS.get(dataset.decode(), joints or 16)
    if 4 * count > meta.shape[1]:
        raise UserError(f"{name}: {count} joints do not fit into a row of {meta.shape[1]} bytes")
    record = _parse(meta, dataset.decode(), name, count)
    if fault := number_fault(record):
        raise UserError(f"{name}: {fault}")
    return np.ascontiguousarray(planes[:3].transpose(1, 2, 0)), record


def _parse(meta: np.ndarray, dataset: str, name: str, joints: int) -> PersonRecord:
    def floats(row: int, count: int, start: int = 0) -> np.ndarray:
        return np.frombuffer(meta[row].tobytes(), "<f4", count, start).astype(np.float32)

    def person(row: int) -> np.ndarray:
        return np.stack([floats(row + column, joints) for column in range(3)], axis=1)

    validation, others, people_index = (int(value) for value in meta[2, :3])
    height, width, index = *floats(1, 2), floats(2, 1, 3)[0]
    if not (1 <= height <= _LARGEST and 1 <= width <= _LARGEST and 0 <= index <= _LARGEST):
        numbers = f"{height:g} x {width:g} and {index:g}"
        raise UserError(f"{name}: expected an image's size and number in the annotation plane, got {numbers}")
    if others and (8 + 4 * others + 1 > meta.shape[0] or 4 * others > meta.shape[1]):
        raise UserError(f"{name}: {others} other people do not fit into {meta.shape[0]} rows")
    first = _FIXED_ROWS + others + 1
    return PersonRecord(
        dataset=dataset,
        img_path=name,
        img_width=int(width),
        img_height=int(height),
        objpos=floats(3, 2),
        joint_self=person(5),
        scale=float(floats(4, 1)[0]),
        joint_others=np.stack([person(first + 3 * n) for n in range(others)])
        if others
        else np.zeros((0, joints, 3), np.float32),
        scale_other=floats(_FIXED_ROWS + others, others) if others else np.zeros(0, np.float32),
        objpos_other=np.stack([floats(_FIXED_ROWS + n, 2) for n in range(others)])
        if others
        else np.zeros((0, 2), np.float32),
        is_validation=bool(validation),
        annolist_index=int(index),
        people_index=people_index,
    )
