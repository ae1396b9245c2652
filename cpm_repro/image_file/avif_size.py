"""The size of an AVIF picture, from the coded pictures themselves: the container's own words bind no decoder.

Formats: ISO/IEC 14496-12 (boxes, iloc, infe), AV1 Image File Format, AV1 bit stream 5.3 and 5.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from cpm_repro.image_file.unsupported import Unsupported

Size = tuple[int, int]

_SEQUENCE_HEADER = 1

_MOST_EXTENTS = 4096
"""Pieces of all items together: a hostile file may claim 65535 of no bytes for each of its items."""


def avif_size(view: memoryview) -> Size | None:
    """(width, height) of the largest coded picture or stated extent of a whole file.

    None where that is not known: no AVIF, or a picture of layers that state times. A picture that may state
    another size than its stream is taken to be of the largest that it could.

    Raises:
        struct.error, IndexError: the file is cut off.
        Unsupported: a film, a picture put together of others, HEIC.
    """
    sizes: list[Size] = []
    for kind, box in _boxes(view):
        if kind == b"ftyp":
            brands = bytes(box[:256])
            if brands[:4] == b"avis":
                raise Unsupported("an AVIF film")
            if b"avif" not in brands and b"heic" in brands:
                raise Unsupported("a HEIC picture")
            if b"avif" not in brands:
                return None
        if kind == b"meta":
            inside = dict(_boxes(box[4:]))
            if not {b"iinf", b"iprp", b"iloc"} <= set(inside):
                return None
            coded = _coded_items(inside[b"iinf"])
            for name, property_box in _boxes(dict(_boxes(inside[b"iprp"])).get(b"ipco", memoryview(b""))):
                if name == b"ispe":
                    sizes.append(struct.unpack_from(">II", property_box, 4))
            for number, stream in _items(inside[b"iloc"], view):
                if number in coded:
                    stated = _stream_sizes(bytes(stream))
                    if not stated:
                        return None
                    sizes += stated
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """(kind, body) of the boxes that lie one after another in ``view``."""
    at = 0
    while at + 8 <= len(view):
        length, kind = struct.unpack_from(">I4s", view, at)
        body = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", view, body)
            body += 8
        end = at + length if length else len(view)
        if end < body:
            raise struct.error("a box ends before it begins")
        yield kind, view[body:end]
        at = end


_TOGETHER = {b"grid": "a grid of pictures", b"iovl": "several pictures over one another",
             b"sato": "a picture computed from others"}  # fmt: skip
"""Items that are put together of others: how large the result is, no stream says."""


def _coded_items(iinf: memoryview) -> set[int]:
    """Numbers of the items that are AV1 pictures; Unsupported where one is put together of others."""
    coded = set()
    for kind, entry in _boxes(iinf[6 if iinf[0] == 0 else 8 :]):
        if kind == b"infe" and entry[0] >= 2:
            number, _, item = struct.unpack_from(">HH4s" if entry[0] == 2 else ">IH4s", entry, 4)
            if item in _TOGETHER:
                raise Unsupported(f"an AVIF that is {_TOGETHER[item]}")
            if item == b"av01":
                coded.add(number)
    return coded


def _items(iloc: memoryview, file: memoryview) -> Iterator[tuple[int, bytearray]]:
    """(number, bytes) of every item that lies in the file itself; the others have none.

    Raises:
        struct.error: cut off, or of more pieces than _MOST_EXTENTS.
    """
    version = iloc[0]
    offset_size, length_size = iloc[4] >> 4, iloc[4] & 15
    base_size, index_size = iloc[5] >> 4, iloc[5] & 15 if version else 0
    at, extents = 6, 0

    def number(size: int) -> int:
        nonlocal at
        at += size
        if at > len(iloc):
            raise struct.error("iloc is cut off")
        return int.from_bytes(iloc[at - size : at], "big")

    for _ in range(number(4 if version == 2 else 2)):
        item = number(4 if version == 2 else 2)
        elsewhere = number(2) & 15 if version else 0
        elsewhere |= number(2)  # another file
        base = number(base_size)
        stream = bytearray()
        for _ in range(number(2)):
            extents += 1
            if extents > _MOST_EXTENTS:
                raise struct.error("iloc has more pieces than any picture")
            number(index_size)
            start = base + number(offset_size)
            length = number(length_size)
            if not elsewhere and len(stream) <= len(file):
                stream += file[start : start + length] if length else file[start:]
        yield item, stream


def _stream_sizes(stream: bytes) -> list[Size]:
    """The sizes that an AV1 stream's sequence headers allow; empty if one cannot be read or there is none."""
    sizes: list[Size] = []
    at = 0
    while at < len(stream):
        header = stream[at]
        at += 2 if header & 4 else 1
        length = len(stream) - at
        if header & 2:
            length = 0
            for place in range(8):
                length |= (stream[at] & 127) << 7 * place
                at += 1
                if stream[at - 1] < 128:
                    break
        if header >> 3 & 15 == _SEQUENCE_HEADER:
            size = _sequence_size(stream[at : at + length])
            if size is None:
                return []
            sizes.append(size)
        at += length
    return sizes


def _sequence_size(header: bytes) -> Size | None:
    """A sequence header's largest frame; None where times stand before it."""
    bits = int.from_bytes(header, "big")
    left = 8 * len(header)

    def take(count: int) -> int:
        nonlocal left
        left -= count
        if left < 0:
            raise struct.error("a sequence header is cut off")
        return bits >> left & (1 << count) - 1

    take(4)  # profile, still picture
    alone = take(1)  # a reduced header: frames have no size of their own
    if alone:
        take(5)
    else:
        if take(1):  # timing information
            return None
        delays = take(1)
        for _ in range(take(5) + 1):
            take(12)
            if take(5) > 7:
                take(1)
            if delays and take(1):
                take(4)
    width_bits, height_bits = take(4) + 1, take(4) + 1
    width, height = take(width_bits) + 1, take(height_bits) + 1
    return (width, height) if alone else (1 << width_bits, 1 << height_bits)
