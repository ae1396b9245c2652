"""The compact layout of an LMDB: every image's file bytes once, every person as the text of a record file.

Keys `0000000`, `0000001`, ... hold seven digits, the number of the image, and the record's JSON; keys
`i0000000`, ... the images' files as they are; the key `layout` says which layout this is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cpm_repro.data.datum_record import MIN_WIDTH
from cpm_repro.data.record import PersonRecord, number_fault
from cpm_repro.data.record_json import format_record, record_of
from cpm_repro.errors import UserError
from cpm_repro.files import parse_json
from cpm_repro.image_file import decode_image

LAYOUT_KEY, LAYOUT = b"layout", b"cpm_repro compact 1"

_DIGITS = 7
_GREY = 128


def image_key(number: int) -> bytes:
    """Key of an image's bytes."""
    return b"i%07d" % number


def encode_compact(record: PersonRecord, image: int) -> bytes:
    """Value of a person whose picture is stored under ``image_key(image)``."""
    return b"%07d" % image + format_record(record).encode()


def parse_compact(raw: bytes, name: str) -> tuple[int, PersonRecord]:
    """Number of the image and the record.

    Raises:
        UserError: not such a value.
    """
    number = raw[:_DIGITS]
    if len(number) != _DIGITS or not number.isdigit():
        raise UserError(f"{name}: expected a person of the compact layout, got other bytes")
    try:
        item = parse_json(raw[_DIGITS:])
    except ValueError as error:
        raise UserError(f"{name}: expected a person of the compact layout: {error}") from error
    record = record_of(item, name)
    if fault := number_fault(record):
        raise UserError(f"{name}: {fault}")
    return int(number), record


def decode_compact(raw: bytes, name: str, get: Callable[[bytes], bytes]) -> tuple[np.ndarray, PersonRecord]:
    """Image, as the release's layout stores it (narrow ones padded with grey), and record.

    Args:
        raw: the person's value.
        name: stands in messages.
        get: gives the value of a key, b"" when there is none.
    """
    number, record = parse_compact(raw, name)
    image = decode_image(np.frombuffer(get(image_key(number)), np.uint8), f"{name} ({record.img_path})")
    lack = max(0, MIN_WIDTH - image.shape[1])
    return np.pad(image, ((0, 0), (0, lack), (0, 0)), constant_values=_GREY) if lack else image, record
