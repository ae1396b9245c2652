"""Reading and writing Caffe's text files: network and solver prototxt.

Reading is strict: a field our schema does not declare, a wrong value or a syntax error stops with its name,
line and column, because a dropped setting is a silently different network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor

from cpm_repro.caffe.schema import message_class
from cpm_repro.errors import UserError, first_line
from cpm_repro.files import atomic_write

MAX_BYTES = 16 << 20
"""Largest text file read; the released networks' files have about 50 kB."""

MAX_DEPTH = 32
"""Deepest nesting of braces; a real file needs six (solver, net, layer, parameter, filler, value)."""

WIDTH = 100
"""Line width of written files."""

# A text without its closing quote ends with its line: looking for it from every quote on would take forever.
_TOKENS = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\\n])*\"?|'(?:\\.|[^'\\\n])*'?|[{<\[]|[}>\]]")


def read_prototxt(path: str | Path) -> Any:
    """NetParameter message of a network prototxt (deploy or training, ``layer`` or old ``layers``).

    Raises:
        UserError: the file is missing, too large, not text, nested too deeply, has a syntax error or a field
            that the schema does not know (line and column are named).
    """
    return parse_prototxt(_read_text(path), "NetParameter", str(path))


def read_solver(path: str | Path) -> Any:
    """SolverParameter message of a solver prototxt; errors as in :func:`read_prototxt`."""
    return parse_prototxt(_read_text(path), "SolverParameter", str(path))


def parse_prototxt(text: str, message: str = "NetParameter", source: str = "prototxt") -> Any:
    """Message ``message`` from prototxt ``text``; ``source`` names the text in errors."""
    text = _checked_text(text, source)
    result = message_class(message)()
    try:
        text_format.Parse(text, result, allow_unknown_extension=False, allow_unknown_field=False)
    except text_format.ParseError as error:
        raise UserError(_parse_sentence(error, source)) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: not readable as a Caffe {message}: {first_line(error)}") from error
    return result


def write_prototxt(path: str | Path, message: Any, header: Sequence[str] = ()) -> None:
    """Write a network or solver message to ``path``, atomically, formatted by :func:`format_prototxt`."""
    with atomic_write(path, "w") as file:
        file.write(format_prototxt(message, header))


def format_prototxt(message: Any, header: Sequence[str] = (), before: Mapping[str, str] | None = None) -> str:
    """Prototxt text of ``message``: what fits in a line stands in one line, the rest is broken and indented.

    ``header`` lines become comments at the top; ``before`` maps a layer's name to a comment above it.
    """
    lines = [f"# {line}".rstrip() for line in header]
    for field, value in _entries(message):
        comment = (before or {}).get(getattr(value, "name", ""), "") if _is_message(field) else ""
        if comment:
            lines += ["", f"# {comment}"]
        lines += _format_entry(field, value, indent=0)
    return "\n".join(lines) + "\n"


def _format_entry(field: FieldDescriptor, value: Any, indent: int) -> list[str]:
    """Lines of one ``name: value`` or ``name { ... }``."""
    margin = "  " * indent
    flat = _flat(field, value)
    if not _is_message(field) or len(margin) + len(flat) <= WIDTH:
        return [margin + flat]
    lines, row = [f"{margin}{field.name} {{"], ""
    for inner, item in _entries(value):
        text = _flat(inner, item)
        fits = len(margin) + 3 + len(row) + len(text) <= WIDTH
        if row and (not fits or _is_message(inner)):
            lines.append(f"{margin}  {row}")
            row = ""
        if _is_message(inner):
            lines += _format_entry(inner, item, indent + 1)
        else:
            row = f"{row} {text}".strip()
    if row:
        lines.append(f"{margin}  {row}")
    return [*lines, f"{margin}}}"]


def _flat(field: FieldDescriptor, value: Any) -> str:
    if _is_message(field):
        inner = " ".join(_flat(*entry) for entry in _entries(value))
        return f"{field.name} {{ {inner} }}" if inner else f"{field.name} {{ }}"
    return f"{field.name}: {_scalar(field, value)}"


def _scalar(field: FieldDescriptor, value: Any) -> str:
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return _float_text(np.float32(value))
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _float_text(np.float64(value))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true" if value else "false"
    if field.type == FieldDescriptor.TYPE_ENUM:
        assert field.enum_type is not None
        return str(field.enum_type.values_by_number[value].name)
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        raw = value if isinstance(value, bytes) else value.encode()
        escaped = "".join(_ESCAPES.get(b, chr(b) if 32 <= b < 127 else f"\\{b:03o}") for b in raw)
        return f'"{escaped}"'
    return str(value)


_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r"}


def _float_text(value: np.floating[Any]) -> str:
    """Shortest text that reads back as exactly ``value``: 5, 0.333, 8e-05."""
    text = str(value)
    return text[:-2] if text.endswith(".0") else text


def _entries(message: Any) -> Iterator[tuple[FieldDescriptor, Any]]:
    """(field, value) of everything set, in the order our table declares, repeated fields one by one."""
    present = {field.name: value for field, value in message.ListFields()}
    for field in message.DESCRIPTOR.fields:
        if field.name in present:
            value = present[field.name]
            repeated = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
            yield from ((field, item) for item in (value if repeated else [value]))


def _is_message(field: FieldDescriptor) -> bool:
    return field.type == FieldDescriptor.TYPE_MESSAGE


def _read_text(path: str | Path) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if len(raw) > MAX_BYTES:
        raise UserError(f"{path}: wanted a prototxt of at most {MAX_BYTES >> 20} MiB, got a larger file")
    if b"\0" in raw:
        raise UserError(f"{path}: wanted prototxt text, got binary data (is it a caffemodel?)")
    # Comments in old encodings are common and harmless; broken text elsewhere is refused with its place.
    return raw.decode("utf-8-sig", errors="surrogateescape")


def _checked_text(text: str, source: str) -> str:
    """``text`` without what the parser cannot stand: nesting bombs and, outside of comments, broken UTF-8."""
    _check_depth(text, source)
    if text.isascii():
        return text
    text = _TOKENS.sub(lambda match: _printable(match[0]) if match[0][0] == "#" else match[0], text)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        column = error.start - text.rfind("\n", 0, error.start)
        raise UserError(f"{source}: line {line}, column {column}: this is not UTF-8 text") from error
    return text


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _check_depth(text: str, source: str) -> None:
    """Refuse nesting bombs before a recursive parser sees them."""
    depth = 0
    for match in _TOKENS.finditer(text):
        if match[0] in "{<[":
            depth += 1
            if depth > MAX_DEPTH:
                line = text.count("\n", 0, match.start()) + 1
                raise UserError(f"{source}: line {line}: nested deeper than {MAX_DEPTH} levels")
        elif match[0] in "}>]":
            depth -= 1


def _parse_sentence(error: text_format.ParseError, source: str) -> str:
    reason = re.sub(r"^\d+:\d+ : ", "", first_line(error))
    unknown = re.search(r'Message type "[\w.]*?(\w+)" (?:has no field named|does not have) "?(\w+)', reason)
    if unknown:
        reason = f"unknown field {unknown[2]!r} in {unknown[1]}"
    else:
        reason = f"syntax error: {reason.replace('cpm_repro.caffe.', '')}"
    line, column = error.GetLine(), error.GetColumn()
    place = f"line {line}, column {column}: " if line else ""
    return f"{source}: {place}{reason}"
