"""What is left of a PNG before it is decoded: the picture as it was, nothing that libpng speaks about."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from cpm_repro.errors import UserError
from cpm_repro.image_file import decode_image
from cpm_repro.image_file.png_chunks import picture_chunks


def chunk(kind, body, *, spoilt=0):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ spoilt)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def png(image):
    return cv2.imencode(".png", image)[1].tobytes()


def test_a_picture_stays_and_other_chunks_go(image, png, capfd):
    """A colour profile that libpng warns of, and text with a wrong checksum: neither is of the picture."""
    extra = chunk(b"iCCP", b"bad\0\0" + zlib.compress(b"no profile")) + chunk(b"tEXt", b"a\0b", spoilt=1)
    spoken = png[:33] + extra + png[33:]
    np.testing.assert_array_equal(decode_image(np.frombuffer(spoken, np.uint8), "x"), image)
    assert capfd.readouterr().err == ""
    cv2.imdecode(np.frombuffer(spoken, np.uint8), cv2.IMREAD_COLOR)
    assert "libpng" in capfd.readouterr().err  # what it would say
    assert picture_chunks(spoken) == picture_chunks(png) == png


@pytest.mark.parametrize("kind", ["grey", "sixteen", "alpha"])
def test_every_kind_of_png_decodes_as_before(image, kind):
    array = {
        "grey": image[..., 0],
        "sixteen": image.astype(np.uint16) * 257,
        "alpha": np.dstack([image, image[..., 0]]),
    }[kind]
    data = cv2.imencode(".png", array)[1].ravel()
    np.testing.assert_array_equal(decode_image(data, "x"), cv2.imdecode(data, cv2.IMREAD_COLOR))


def test_cut_off_anywhere_and_spoilt_anywhere_is_our_line_alone(png, capfd):
    spoilt = []
    for at in range(40, len(png) - 12, 101):
        spoilt += [png[:at], png[:at] + bytes([png[at] ^ 1]) + png[at + 1 :]]
    for data in [*spoilt, png[:-12], png[:33] + png[-12:]]:
        with pytest.raises(UserError, match="x: expected an image, got"):
            decode_image(np.frombuffer(data, np.uint8), "x")
    assert capfd.readouterr().err == ""
