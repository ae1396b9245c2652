"""Reading MATLAB files that nobody vouches for.

SciPy reads them, but believes what they claim: a struct array "of 10^9 elements" in a file of 1 kB would be
allocated, and a number of a type that does not exist is a segmentation fault. So the claims are compared with
the bytes first. Format: MathWorks, MAT-File Level 5.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cpm_repro.errors import UserError
from cpm_repro.paths import wanted_file

LARGEST_VARIABLE = 1 << 30
"""Most bytes of one variable once decompressed."""

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _SPARSE, _FIRST_NUMBER, _LAST_NUMBER = 1, 2, 4, 5, 6, 15
_IS_COMPLEX = 0x0800
_DEEPEST, _MOST_AXES = 64, 32
_NUMBERS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # stored type: bytes
_TEXTS = {1: 1, 2: 1, 3: 2, 4: 2, 16: 1, 17: 2, 18: 4}


class _Claim(Exception):
    """A file claims what its bytes cannot hold."""


def load_matlab_file(
    path: str | Path, names: Collection[str] | None = None, **options: Any
) -> dict[str, Any]:
    """Variables of a MATLAB file of version 5 to 7 (``-v7``), by name.

    Args:
        path: the file.
        names: the variables wanted; None takes all.
        options: passed on to ``scipy.io.loadmat``.

    Raises:
        UserError: no such file, another format, cut, or claims that its bytes cannot hold.
    """
    import scipy.io

    path = wanted_file(path, "a MATLAB file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if content[:8] == b"\x89HDF\r\n\x1a\n" or content[:10] == b"MATLAB 7.3":
        raise UserError(f"{path}: an HDF5 file (MATLAB 7.3); wanted a MATLAB file saved with -v7")
    try:
        plain = _decompressed(content, names)
        values = scipy.io.loadmat(io.BytesIO(plain), **options)
    except MemoryError:
        raise
    except Exception as error:  # scipy raises many kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: wanted a whole MATLAB file (saved with -v7 or -v6): {reason}") from error
    return {name: value for name, value in values.items() if not name.startswith("__")}


def _decompressed(content: bytes, names: Collection[str] | None) -> bytes:
    """The same file with the wanted variables only, each decompressed and its claims checked."""
    if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
        raise _Claim("no MATLAB 5 header")
    walk = _Walk("<" if content[126:128] == b"IM" else ">")
    kept, position = [content[:_HEADER]], _HEADER
    while position + 8 <= len(content):
        kind, start, size, position = walk.tag(content, position, len(content))
        if kind == _COMPRESSED:
            position = start + size  # compressed elements are not padded
            element = _inflate(content[start : start + size])
        else:
            element = content[start - 8 : position]
        kind, start, size, end = walk.tag(element, 0, len(element))
        if kind == _MATRIX and (names is None or walk.name(element, start) in names):
            walk.matrix(element, start, start + size, 0)
            kept.append(element[:end])
    return b"".join(kept)


def _inflate(packed: bytes) -> bytes:
    stream = zlib.decompressobj()
    plain = stream.decompress(packed, LARGEST_VARIABLE)
    if stream.unconsumed_tail or not stream.eof:
        raise _Claim("a variable that is cut or too large once decompressed")
    return plain


class _Walk:
    """Compares what nested arrays claim with the bytes that are there."""

    def __init__(self, order: str) -> None:
        self._pair, self._one, self.order = struct.Struct(order + "II"), struct.Struct(order + "I"), order

    def tag(self, data: bytes, position: int, end: int) -> tuple[int, int, int, int]:
        """(kind, start, size, position after it) of the element at ``position``; it ends by ``end``."""
        if position + 8 > end:
            raise _Claim(f"cut at byte {position}")
        kind, size = self._pair.unpack_from(data, position)
        if kind >> 16:  # both in one word, up to four bytes of data in the other
            kind, size, start, after = kind & 0xFFFF, kind >> 16, position + 4, position + 8
        else:
            start = position + 8
            after = start + (size + 7) // 8 * 8
        if start + size > end or size > after - start:
            raise _Claim(f"an element of {size} bytes at byte {position} does not fit")
        return kind, start, size, min(after, end)

    def name(self, data: bytes, start: int) -> str:
        """Name of the variable whose content begins at ``start``."""
        for _ in range(2):
            start = self.tag(data, start, len(data))[3]
        _, start, size, _ = self.tag(data, start, len(data))
        return data[start : start + size].decode("latin-1")

    def matrix(self, data: bytes, start: int, end: int, depth: int) -> None:
        """Check the array whose content is data[start:end], and what it contains."""
        if start == end:
            return  # an empty array may leave out everything
        if depth > _DEEPEST:
            raise _Claim(f"arrays nested deeper than {_DEEPEST}")
        if self.tag(data, start, end)[2] != 8:
            raise _Claim(f"no array flags at byte {start}")
        flags = self._one.unpack_from(data, start + 8)[0]
        kind, complex_too = flags & 0xFF, bool(flags & _IS_COMPLEX)
        _, first, size, position = self.tag(data, start + 16, end)
        if size % 4 or not 8 <= size <= 4 * _MOST_AXES:
            raise _Claim(f"a shape of {size} bytes at byte {first}")
        count = math.prod(value for (value,) in self._one.iter_unpack(data[first : first + size]))
        position = self.tag(data, position, end)[3]  # the name
        if kind == _STRUCT:
            _, first, size, position = self.tag(data, position, end)
            (length,) = self._one.unpack_from(data, first) if size == 4 else (0,)
            _, _, size, position = self.tag(data, position, end)
            if not length:
                raise _Claim(f"field names without length at byte {first}")
            self._children(data, position, end, count * (size // length), depth, count)
        elif kind == _CELL:
            self._children(data, position, end, count, depth, count)
        elif kind == _CHAR:
            self._values(data, position, end, _TEXTS, least=count)
        elif kind == _SPARSE:
            for _ in range(3 + complex_too):  # rows, columns, values
                position = self._values(data, position, end, _NUMBERS)
        elif _FIRST_NUMBER <= kind <= _LAST_NUMBER:
            for _ in range(1 + complex_too):
                position = self._values(data, position, end, _NUMBERS, least=count)
        else:
            raise _Claim(f"an object of class {kind} at byte {start}")

    def _values(self, data: bytes, position: int, end: int, types: Mapping[int, int], least: int = 0) -> int:
        """Check one element of plain values, at least so many bytes; the position after it."""
        kind, _, size, after = self.tag(data, position, end)
        if kind not in types or size % types[kind] or size < least:
            raise _Claim(f"{size} bytes of type {kind} where {least} values are due, at byte {position}")
        return after

    def _children(self, data: bytes, position: int, end: int, count: int, depth: int, size: int) -> None:
        """Check the arrays inside a cell or struct array of ``size`` elements."""
        if max(count, size) * 8 > max(end - position, 0) and size > 1:
            raise _Claim(f"{max(count, size)} arrays in {end - position} bytes at byte {position}")
        for _ in range(count):
            kind, start, length, position = self.tag(data, position, end)
            if kind != _MATRIX:
                raise _Claim(f"no array where one is due, at byte {start}")
            self.matrix(data, start, start + length, depth + 1)
