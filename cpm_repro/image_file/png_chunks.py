"""A PNG brought to what its picture needs, so that libpng finds nothing to write to the terminal about.

libpng writes lines of its own for a file that is cut off or damaged, and for colour profiles that it does not
like. The process's standard error cannot be held back meanwhile: other threads write there too.
"""

from __future__ import annotations

import struct
import zlib

SIGN = b"\x89PNG\r\n\x1a\n"

_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND")


def picture_chunks(data: bytes) -> bytes | None:
    """A whole PNG file with the chunks of its still picture and its EXIF data alone.

    None if it is cut off or damaged: a chunk that is not whole, a needed one whose checksum is
    wrong, or none with pixels.
    """
    kept, at = [SIGN], len(SIGN)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return None
        if kind in _NEEDED:
            if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                return None
            kept.append(data[at:end])
        elif not kind[0] & 32:  # a chunk that no picture may do without, and that nobody knows
            return None
        if kind == b"IEND":
            return b"".join(kept) if any(chunk[4:8] == b"IDAT" for chunk in kept) else None
        at = end
    return None
