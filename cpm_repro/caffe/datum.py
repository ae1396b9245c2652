"""Caffe's Datum: the value of an LMDB record, an image with planes of bytes (spec `data.md`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from cpm_repro.caffe.schema import message_class, new
from cpm_repro.errors import UserError


@dataclass(frozen=True)
class Datum:
    """One record: ``planes`` uint8 (C, H, W), ``encoded`` file bytes or ``floats`` float32 (C, H, W)."""

    planes: npt.NDArray[np.uint8] | None = None
    encoded: bytes | None = None
    floats: npt.NDArray[np.float32] | None = None
    label: int = 0


def encode_datum(planes: npt.NDArray[np.uint8], label: int = 0) -> bytes:
    """Bytes of an uncompressed Datum for ``planes``, uint8 (C, H, W), as the original reads it."""
    if planes.dtype != np.uint8 or planes.ndim != 3:
        raise ValueError(f"planes: wanted a uint8 array (C, H, W), got {planes.dtype} {planes.shape}")
    channels, height, width = planes.shape
    message = new("Datum", channels=channels, height=height, width=width, data=planes.tobytes(), label=label)
    raw: bytes = message.SerializeToString()
    return raw


def decode_datum(raw: bytes, source: str = "datum") -> Datum:
    """Parse a Datum; ``source`` (file and key) names it in errors.

    ``planes`` views ``raw``'s copied bytes and is read-only.

    Raises:
        UserError: malformed bytes, or dimensions whose product is not the number of values.
    """
    message = message_class("Datum")()
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise UserError(f"{source}: not a readable Caffe datum: {error}") from error
    shape = (message.channels, message.height, message.width)
    if message.encoded:
        return Datum(encoded=message.data, label=message.label)
    if message.float_data and not message.data:  # as Caffe: bytes go before floats
        floats = np.array(message.float_data, np.float32)
        return Datum(floats=floats.reshape(_checked(shape, floats.size, source)), label=message.label)
    planes = np.frombuffer(message.data, np.uint8)
    return Datum(planes=planes.reshape(_checked(shape, planes.size, source)), label=message.label)


def _checked(shape: tuple[int, int, int], size: int, source: str) -> tuple[int, int, int]:
    channels, height, width = shape
    if min(shape) < 0 or channels * height * width != size:
        raise UserError(f"{source}: a datum of {shape} needs {channels * height * width} values, got {size}")
    return shape
