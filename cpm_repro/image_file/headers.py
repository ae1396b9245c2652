"""The size that an image file's header states, read without decoding a pixel.

Every format that is decoded has its reader here, and what has none is not decoded: a file of a few bytes can
claim gigabytes of pixels. Where a file states several sizes the largest counts, for a decoder may take any.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import numpy as np

from cpm_repro.image_file.avif_size import avif_size
from cpm_repro.image_file.unsupported import Unsupported

FORMATS = "PNG, JPEG, WebP, BMP, TIFF, GIF, JPEG 2000, AVIF, PBM/PGM/PPM, Sun raster or Radiance"

HEAD = 8192
"""Bytes from a file's beginning that tell its format."""

Size = tuple[int, int]

_MAX_STEPS = 10_000
"""Segments, boxes or tags walked before a file is given up; honest ones have some dozens."""

_BLANK = rb"\s+(?:#[^\r\n]*[\r\n]\s*)*"
_PNM = re.compile(rb"P[1-6]" + _BLANK + rb"(\d{1,9})" + _BLANK + rb"(\d{1,9})\s")
_RADIANCE = re.compile(rb"#\?[^\n\0]{0,100}\n(?:[^\n\0]{1,100}\n){0,50}\n-Y (\d{1,9}) \+X (\d{1,9})\n")
_CODESTREAM = b"\xff\x4f\xff\x51"


def declared_size(data: np.ndarray) -> Size | None:
    """(width, height) that a header claims; None where that cannot be told or the format is none of ours.

    Data (bytes,) uint8, the whole file. Of a TIFF of tiles larger than the picture it is a tile's size, and
    of an AVIF the largest that any of its pictures states.

    Raises:
        Unsupported: a picture of a known kind that is not read.
    """
    view = np.ascontiguousarray(data).data
    head = bytes(view[:HEAD])
    try:
        for _name, matches, read in _READERS:
            if matches(head):
                return read(view, head)
    except (struct.error, IndexError, OverflowError):  # cut off, or a place past the end
        return None
    return None


def picture_kind(head: bytes) -> str | None:
    """The format of a picture of which ``head`` are the first :data:`HEAD` bytes; None of anything else.

    Films begin with the boxes of an AVIF, a HEIC does too: the brands tell.
    """
    if head[4:8] == b"ftyp":
        brands = head[8 : int.from_bytes(head[:4], "big")]
        film = brands[:4] == b"avis"
        return None if film else "AVIF" if b"avif" in brands else "HEIC" if b"heic" in brands else None
    return next((name for name, matches, _ in _READERS if matches(head)), None)


def _png(_: memoryview, head: bytes) -> Size:
    width, height = struct.unpack_from(">II", head, 16)
    return width, height


def _gif(_: memoryview, head: bytes) -> Size:
    width, height = struct.unpack_from("<HH", head, 6)
    return width, height


def _bmp(_: memoryview, head: bytes) -> Size:
    if struct.unpack_from("<I", head, 14) == (12,):  # OS/2's header
        width, height = struct.unpack_from("<HH", head, 18)
    else:
        width, height = struct.unpack_from("<ii", head, 18)
    return abs(width), abs(height)  # negative heights are stored top down


def _webp(_: memoryview, head: bytes) -> Size | None:
    """The first chunk: lossy, lossless or extended. Format: RFC 9649."""
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if head[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _sun(_: memoryview, head: bytes) -> Size:
    width, height = struct.unpack_from(">II", head, 4)
    return width, height


def _pnm(_: memoryview, head: bytes) -> Size | None:
    found = _PNM.match(head)
    return (int(found[1]), int(found[2])) if found else None


def _radiance(_: memoryview, head: bytes) -> Size | None:
    found = _RADIANCE.match(head)
    return (int(found[2]), int(found[1])) if found else None


def _jpeg(view: memoryview, _: bytes) -> Size | None:
    """Walk the segments to the frame header (SOF), as decoders do: bytes between segments are passed over."""
    data, at = bytes(view), 2
    for _step in range(_MAX_STEPS):
        at = data.find(b"\xff", at)
        if at < 0:
            return None
        marker = data[at + 1]
        if marker in (0xFF, 0x00):  # a fill byte before a marker; or no marker
            at += 1 if marker else 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # markers without a length
            at += 2
        elif marker in (0xD8, 0xD9, 0xDA):  # a second start, an end, or pixels before any size
            return None
        else:
            at += 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])
    return None


def _tiff(view: memoryview, head: bytes) -> Size | None:
    """Width, length and tile sides of the first directory. Formats: TIFF 6.0, BigTIFF."""
    order = "<" if head[:2] == b"II" else ">"
    if head[2:4] in (b"+\0", b"\0+"):
        (start,) = struct.unpack_from(order + "Q", view, 8)
        (count,) = struct.unpack_from(order + "Q", view, start)
        first, step, place = start + 8, 20, 12
    else:
        (start,) = struct.unpack_from(order + "I", view, 4)
        (count,) = struct.unpack_from(order + "H", view, start)
        first, step, place = start + 2, 12, 8
    kinds = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
    sides = {256: 0, 257: 0, 322: 0, 323: 0}
    for at in range(first, first + step * min(count, 0xFFFF), step):
        tag, kind = struct.unpack_from(order + "HH", view, at)
        if tag in sides:
            if kind not in kinds or (kind in (16, 17) and step == 12):
                return None
            (side,) = struct.unpack_from(order + kinds[kind], view, at + place)
            sides[tag] = max(sides[tag], side)  # of a tag that comes twice, a reader may take either
    width, height, tile_width, tile_height = sides.values()
    if not (width > 0 and height > 0):
        return None
    return max((width, height), (tile_width, tile_height), key=lambda size: size[0] * size[1])


def _jp2(view: memoryview, _: bytes) -> Size | None:
    """The boxes of a JP2 file up to the code stream, whose own header is what is decoded. Format: T.800 I."""
    at = 0
    for _step in range(_MAX_STEPS):
        length, kind = struct.unpack_from(">I4s", view, at)
        body = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", view, body)
            body += 8
        if kind == b"jp2c":
            return _codestream(view[body:], b"")
        if length < body - at:  # up to the end of the file, or nonsense
            return None
        at += length
    return None


def _codestream(view: memoryview, _: bytes) -> Size | None:
    """A JPEG 2000 code stream's SIZ segment. Format: T.800 A.5.1.

    The components are not part of the size, but each has a plane: more than four are Unsupported.
    """
    if view[:4] != _CODESTREAM:
        return None
    right, bottom, left, top, *_tiles, components = struct.unpack_from(">8IH", view, 8)
    if components > 4:
        raise Unsupported(f"a JPEG 2000 picture of {components} components (of at most 4 it is read)")
    if right <= left or bottom <= top:
        return None
    return right - left, bottom - top


def _starts(*signs: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(signs)


_READERS: tuple[tuple[str, Callable[[bytes], bool], Callable[[memoryview, bytes], Size | None]], ...] = (
    ("PNG", _starts(b"\x89PNG\r\n\x1a\n"), _png),
    ("JPEG", _starts(b"\xff\xd8"), _jpeg),
    ("GIF", _starts(b"GIF87a", b"GIF89a"), _gif),
    ("BMP", _starts(b"BM"), _bmp),
    ("WebP", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", _webp),
    ("TIFF", _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    ("JPEG 2000", _starts(b"\0\0\0\x0cjP  \r\n\x87\n"), _jp2),
    ("JPEG 2000", _starts(_CODESTREAM), _codestream),
    ("AVIF", lambda head: head[4:8] == b"ftyp", lambda view, _: avif_size(view)),
    ("Sun raster", _starts(b"\x59\xa6\x6a\x95"), _sun),
    ("PBM, PGM or PPM", _starts(b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), _pnm),
    ("Radiance", _starts(b"#?"), _radiance),
)
