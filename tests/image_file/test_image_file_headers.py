"""Sizes are known from the header alone: of every format that is decoded, by whatever way a file may lie."""

from __future__ import annotations

import contextlib
import struct

import cv2
import numpy as np
import pytest

from cpm_repro.errors import UserError
from cpm_repro.image_file import decode_image
from cpm_repro.image_file.headers import declared_size, picture_kind
from cpm_repro.image_file.unsupported import Unsupported

ENCODINGS = {
    "png": (".png", []),
    "jpg": (".jpg", []),
    "bmp": (".bmp", []),
    "tiff": (".tiff", []),
    "gif": (".gif", []),
    "lossy webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
    "lossless webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    "jpeg 2000": (".jp2", []),
    "avif": (".avif", []),
    "sun raster": (".sr", []),
    "ppm": (".ppm", []),
    "radiance": (".hdr", []),
}


def encoded(kind):
    suffix, options = ENCODINGS[kind]
    image = np.zeros((130, 147, 3), np.float32 if kind == "radiance" else np.uint8)
    return cv2.imencode(suffix, image, options)[1].ravel()


@pytest.mark.parametrize("kind", ENCODINGS)
def test_the_size_of_every_format_that_opencv_writes(kind):
    data = encoded(kind)
    assert declared_size(data) == (147, 130)
    assert decode_image(data, "x").shape == (130, 147, 3)
    for end in range(min(data.size, 400)):  # cut anywhere: another size or none, but no crash
        declared_size(data[:end])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("png", "PNG"), ("jpg", "JPEG"), ("bmp", "BMP"), ("tiff", "TIFF"), ("gif", "GIF"),
        ("lossy webp", "WebP"), ("lossless webp", "WebP"), ("jpeg 2000", "JPEG 2000"), ("avif", "AVIF"),
        ("sun raster", "Sun raster"), ("ppm", "PBM, PGM or PPM"), ("radiance", "Radiance"),
    ],
)  # fmt: skip
def test_every_picture_is_told_by_its_beginning(kind, name):
    assert picture_kind(encoded(kind)[:64].tobytes()) == name


@pytest.mark.parametrize(
    ("brands", "kind"),
    [
        ([b"avif", b"0000", b"mif1"], "AVIF"),
        ([b"mif1", b"0000", b"avif"], "AVIF"),
        ([b"mif1", b"0000", b"heic"], "HEIC"),
        ([b"avis", b"0000", b"avif"], None),
        ([b"isom", b"0000", b"mp41"], None),
        ([b"isom", b"0000"], None),
    ],
)
def test_films_and_pictures_of_boxes_are_told_apart_by_their_brands(brands, kind):
    assert picture_kind(box(b"ftyp", *brands) + box(b"free", b"avif")) == kind


@pytest.mark.parametrize("kind", ENCODINGS)
def test_large_pictures_of_every_format_are_refused_by_their_header(kind, monkeypatch):
    data = encoded(kind)
    monkeypatch.setattr("cpm_repro.image_file.read.MAX_PIXELS", 1000)
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(UserError, match="bomb: expected at most 1000 pixels, got 147 x 130"):
        decode_image(data, "bomb")


def box(kind, *bodies):
    body = b"".join(bodies)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def siz(width, height, components=3, left=0):
    places = struct.pack(">8IH", left + width, height, left, 0, width, height, 0, 0, components)
    return b"\xff\x4f\xff\x51" + struct.pack(">HH", 38 + 3 * components, 0) + places


def jp2(stated, *code_stream):
    """A JP2 file whose image header states one size, and whose code stream another."""
    return (
        box(b"jP  ", b"\r\n\x87\n")
        + box(b"ftyp", b"jp2 ", bytes(4), b"jp2 ")
        + box(b"jp2h", box(b"ihdr", struct.pack(">IIH", stated, stated, 3), b"\x07\x07\0\0"))
        + struct.pack(">I4sQ", 1, b"jp2c", 16 + 200)  # a box with a long length
        + siz(*code_stream)
    )


def sequence(width, height, *, alone=True):
    """An AV1 stream of a time delimiter and a sequence header, sizes in 16 bits each."""
    start = "000" + "1" + "1" + "00000" if alone else "000" + "1" + "0" + "0" + "0" + "00000" + 17 * "0"
    bits = start + 2 * "1111" + f"{width - 1:016b}{height - 1:016b}"
    header = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return b"\x12\0\x0a" + bytes([len(header)]) + header


def avif(stated, stream, item=b"av01", brand=b"avif"):
    """An AVIF file that states one size in its container; its only item is ``stream``."""
    head = box(b"ftyp", brand, bytes(4), brand)

    def meta(start):
        place = struct.pack(">HHHHII", 1, 1, 0, 1, start, len(stream))
        return box(
            b"meta",
            bytes(4),
            box(b"iloc", bytes(4), b"\x44\0", place),
            box(b"iinf", bytes(4), b"\0\1", box(b"infe", b"\2\0\0\0", struct.pack(">HH", 1, 0), item, b"\0")),
            box(b"iprp", box(b"ipco", box(b"ispe", bytes(4), struct.pack(">II", stated, stated)))),
        )

    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", stream)


def tiff(*tags, order="<", big=False):
    """A TIFF's first directory, of (tag, kind, value)."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8)
    head += struct.pack(order + ("Q" if big else "H"), len(tags))
    for tag, kind, value in tags:
        code = {3: "H", 4: "I", 16: "Q"}[kind]
        entry = struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, 1) + struct.pack(
            order + code, value
        )
        head += entry.ljust(20 if big else 12, b"\0")
    return head


def jpeg(width, height, before=b""):
    return b"\xff\xd8" + before + b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + bytes(20)


SEGMENTS = 40 * (b"\xff\xe2\xff\xff" + bytes(65533))

HUGE = {
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 60000, 60000) + bytes(9),
    "gif": b"GIF89a" + struct.pack("<HH", 60000, 60000),
    "extended webp": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + 2 * (59999).to_bytes(3, "little"),
    "bmp, top down": b"BM" + bytes(12) + struct.pack("<Iii", 40, 60000, -60000),
    "tiff": tiff((256, 3, 60000), (257, 4, 60000)),
    "tiff, big-endian": tiff((256, 3, 60000), (257, 4, 60000), order=">"),
    "bigtiff": tiff((256, 3, 60000), (257, 16, 60000), big=True),
    "bigtiff, big-endian": tiff((256, 4, 60000), (257, 4, 60000), order=">", big=True),
    "tiff that says it twice": tiff((256, 3, 60000), (256, 3, 1), (257, 3, 60000), (257, 3, 1)),
    "tiff of one huge tile": tiff((256, 3, 9), (257, 3, 9), (322, 4, 60000), (323, 4, 60000)),
    "jpeg": jpeg(60000, 60000),
    "jpeg behind megabytes of segments": jpeg(60000, 60000, SEGMENTS),
    "jpeg behind rubbish": jpeg(60000, 60000, b"rubbish\xff\0\xff\x01\xff\xff"),
    "jpeg 2000": jp2(60000, 60000, 60000),
    "jpeg 2000 whose box lies": jp2(9, 60000, 60000),
    "jpeg 2000 off the origin": jp2(9, 60000, 60000, 3, 5),
    "jpeg 2000, bare": siz(60000, 60000),
    "avif": avif(60000, sequence(9, 9)),
    "avif whose container lies": avif(9, sequence(60000, 60000)),
    "avif with two sequences": avif(9, sequence(9, 9) + sequence(60000, 60000)),
    "sun raster": b"\x59\xa6\x6a\x95" + struct.pack(">II", 60000, 60000) + bytes(20),
    "ppm": b"P6 #a comment\r60000\n# another\n60000 255\n",
    "radiance": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60000 +X 60000\n",
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_bomb_is_refused_before_it_is_decoded(kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(UserError, match=r"^bomb: expected at most 100000000 pixels, got 60000 x 60000$"):
        decode_image(np.frombuffer(HUGE[kind], np.uint8), "bomb")


def test_an_avif_that_allows_any_size_is_taken_to_have_the_largest():
    data = avif(9, sequence(9, 9, alone=False))
    assert declared_size(np.frombuffer(data, np.uint8)) == (65536, 65536)


UNKNOWN = {
    "text": b"<html>",
    "openexr": b"\x76\x2f\x31\x01" + bytes(100),
    "pam": b"P7\nWIDTH 60000\nHEIGHT 60000\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
    "radiance with a line of many": b"#?RADIANCE\n" + 200 * b"x" + b"\n\n-Y 9 +X 9\n",
    "jpeg without a size": b"\xff\xd8\xff\xd9" + jpeg(9, 9)[2:],
    "tiff without a height": tiff((256, 3, 9)),
    "tiff whose directory is past its end": b"II*\0" + struct.pack("<I", 1 << 31),
    "jpeg 2000 without a code stream": jp2(9, 9, 9)[:60],
    "avif without a sequence header": avif(9, b"\x12\0"),
    "another film": avif(9, sequence(9, 9), brand=b"isom"),
}

UNSUPPORTED = {
    "a JPEG 2000 picture of 5 components (of at most 4 it is read)": jp2(9, 9, 9, 5),
    "a JPEG 2000 picture of 16384 components (of at most 4 it is read)": jp2(9, 9, 9, 16384),
    "an AVIF film": avif(9, sequence(9, 9), brand=b"avis"),
    "an AVIF that is a grid of pictures": avif(9, sequence(9, 9), item=b"grid"),
    "an AVIF that is several pictures over one another": avif(9, sequence(9, 9), item=b"iovl"),
    "a HEIC picture": avif(9, sequence(9, 9), brand=b"heic"),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_what_is_not_supported_is_called_by_its_name(kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(UserError) as refused:
        decode_image(np.frombuffer(UNSUPPORTED[kind], np.uint8), "x")
    assert str(refused.value) == f"x: expected one plain picture, got {kind}, which is not supported"


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_does_not_state_its_size_is_not_decoded(kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    data = np.frombuffer(UNKNOWN[kind], np.uint8)
    words = (
        rf"^x: expected an image whose header states its size \(PNG, .*\), got {data.size} bytes of another"
    )
    with pytest.raises(UserError, match=words):
        decode_image(data, "x")


def test_rubbish_after_a_formats_sign_ends_in_a_line():
    """Any bytes after a sign: a size, or none, and never another exception; quickly."""
    noise = np.random.default_rng(0)
    for data in [*HUGE.values(), *UNKNOWN.values(), *UNSUPPORTED.values()]:
        for _ in range(30):
            spoilt = np.frombuffer(data[:3000], np.uint8).copy()
            spoilt[noise.integers(4, spoilt.size, 4)] = noise.integers(0, 256, 4)
            with contextlib.suppress(Unsupported):
                declared_size(spoilt)
