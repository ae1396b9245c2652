"""Datum records: planes in, the same planes out; broken records refused."""

from __future__ import annotations

import numpy as np
import pytest

from cpm_repro.caffe.datum import decode_datum, encode_datum
from cpm_repro.caffe.schema import new
from cpm_repro.errors import UserError


def test_planes_survive():
    planes = np.random.default_rng(0).integers(0, 256, (4, 7, 65), dtype=np.uint8)
    datum = decode_datum(encode_datum(planes, label=3))
    np.testing.assert_array_equal(datum.planes, planes)
    assert datum.label == 3
    assert datum.encoded is None


def test_known_bytes():
    """By hand: channels, height, width as fields 1-3, data as field 4, label as field 5."""
    raw = encode_datum(np.array([[[1, 2]]], np.uint8))
    assert raw == bytes([0x08, 1, 0x10, 1, 0x18, 2, 0x22, 2, 1, 2, 0x28, 0])


def test_encoded_images_and_floats():
    jpeg = new("Datum", channels=3, height=5, width=6, data=b"jpeg", encoded=True).SerializeToString()
    assert decode_datum(jpeg).encoded == b"jpeg"
    floats = new("Datum", channels=1, height=1, width=2, float_data=[0.5, -1]).SerializeToString()
    np.testing.assert_array_equal(decode_datum(floats).floats, np.array([[[0.5, -1]]], np.float32))


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff\xff",
        new("Datum", channels=1, height=1 << 30, width=1 << 30).SerializeToString(),
        new("Datum", channels=-1, height=-1, width=1, data=b"x").SerializeToString(),
        new("Datum", channels=1, height=1, width=3, data=b"xx").SerializeToString(),
        new("Datum", channels=1, height=1, width=3, float_data=[1]).SerializeToString(),
    ],
)
def test_broken_records_are_refused(raw):
    with pytest.raises(UserError, match=r"^x\.mdb, key 7: "):
        decode_datum(raw, "x.mdb, key 7")


def test_wrong_planes_are_refused():
    with pytest.raises(ValueError, match="planes: wanted a uint8 array"):
        encode_datum(np.zeros((2, 2), np.uint8))


def test_bytes_go_before_floats_as_in_caffe():
    planes = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    both = new("Datum")
    both.ParseFromString(encode_datum(planes))
    both.float_data.extend([0.5] * 6)
    datum = decode_datum(both.SerializeToString())
    assert datum.floats is None
    assert np.array_equal(datum.planes, planes)
