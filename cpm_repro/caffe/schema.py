"""Protobuf message classes of Caffe's files, built when first needed from our own field table.

The ``protobuf`` package gets its descriptors at run time (no ``protoc`` step), in a pool of their own, so
that another Caffe schema in the same process cannot collide with ours.
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from cpm_repro.caffe.fields import ENUMS, MESSAGES

_PACKAGE = "cpm_repro.caffe"
_FieldProto = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_FieldProto, f"TYPE_{name.upper()}")
    for name in ("int32", "int64", "uint32", "float", "double", "bool", "string", "bytes")
}


@cache
def message_class(name: str) -> Any:
    """The class of message ``name`` ("NetParameter", "SolverParameter", "Datum", ...)."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def new(kind: str, /, **fields: Any) -> Any:
    """A new message of ``kind`` with ``fields`` set."""
    message: Message = message_class(kind)(**fields)
    return message


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="cpm_caffe.proto", package=_PACKAGE, syntax="proto2")
    messages = {}
    for name, entries in _blocks(MESSAGES):
        messages[name] = file.message_type.add(name=name)
        for entry in entries:
            _declare(messages[name].field.add(), entry)
    enums = set()
    for name, entries in _blocks(ENUMS):
        outer, _, inner = name.rpartition(".")
        enum = messages[outer].enum_type.add(name=inner) if outer else file.enum_type.add(name=inner)
        for entry in entries:
            value, number = entry.split("=")
            enum.value.add(name=value, number=int(number))
        enums.add(name)
    for name, message in messages.items():
        for field in message.field:
            _link(field, name, enums)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    for name in messages:  # their classes are in no module, where pickle would look for them
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        copyreg.pickle(kind, _reduced)
    return pool


def _reduced(message: Message) -> tuple[Any, ...]:
    """How pickle keeps a message."""
    return _restored, (message.DESCRIPTOR.name, message.SerializePartialToString())


def _restored(kind: str, content: bytes) -> Any:
    return message_class(kind).FromString(content)


def _blocks(table: str) -> Iterator[tuple[str, list[str]]]:
    """(name, entries) of each block of a table in the notation of :mod:`cpm_repro.caffe.fields`."""
    name, entries = "", list[str]()
    for line in table.strip().splitlines():
        if not line.startswith(" "):
            if name:
                yield name, entries
            name, entries = line.strip(), []
        else:
            entries.extend(line.split())
    yield name, entries


def _declare(field: Any, entry: str) -> None:
    """Fill one field descriptor from ``name=number:type[*[!]][=default]``; named types are linked later."""
    head, _, rest = entry.partition(":")
    kind, _, default = rest.partition("=")
    name, number = head.split("=")
    field.name, field.number = name, int(number)
    repeated = kind.rstrip("!").endswith("*")
    field.label = _FieldProto.LABEL_REPEATED if repeated else _FieldProto.LABEL_OPTIONAL
    if kind.endswith("!"):
        field.options.packed = True
    if default:
        field.default_value = default
    base = kind.rstrip("*!")
    if base in _SCALARS:
        field.type = _SCALARS[base]
    else:
        field.type_name = base


def _link(field: Any, message: str, enums: set[str]) -> None:
    """Resolve a named type: an enum of the message itself, then a top-level enum, then a message."""
    if not field.type_name:
        return
    for candidate in (f"{message}.{field.type_name}", field.type_name):
        if candidate in enums:
            field.type, field.type_name = _FieldProto.TYPE_ENUM, f".{_PACKAGE}.{candidate}"
            return
    field.type, field.type_name = _FieldProto.TYPE_MESSAGE, f".{_PACKAGE}.{field.type_name}"
