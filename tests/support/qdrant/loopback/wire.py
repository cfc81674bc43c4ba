"""Messages of the loopback server on the wire, the entries of each map in an order of their own."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_BYTES = 2
"""The wire type of what has a length."""


def serialized(message: Message) -> bytes:
    """Serialise a message; protobuf itself would give small maps in much the same order always."""
    if not _holds_maps(message.DESCRIPTOR):
        return message.SerializeToString()
    parts = bytearray()
    rest = type(message)()
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            part: Any = getattr(rest, field.name)
            if field.is_repeated:
                part.extend(value)
            else:
                setattr(rest, field.name, value)
        elif field.message_type.GetOptions().map_entry:
            keys = list(value)
            random.shuffle(keys)
            for key in keys:
                parts += _sized(field.number, _entry(key, value[key]))
        else:
            for each in value if field.is_repeated else [value]:
                parts += _sized(field.number, serialized(each))
    return rest.SerializeToString() + bytes(parts)


def _entry(key: Any, value: Any) -> bytes:
    """An entry of a map from strings to messages; the protocol has others, and Qdrant has none."""
    return _sized(1, key.encode()) + _sized(2, serialized(value))


def _sized(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


@cache
def _holds_maps(kind: Descriptor) -> bool:
    """True if a message of this kind may have a map somewhere within."""
    seen, open_kinds = set(), [kind]
    while open_kinds:
        each = open_kinds.pop()
        if each in seen:
            continue
        seen.add(each)
        if each.GetOptions().map_entry:
            return True
        open_kinds += [f.message_type for f in each.fields if f.message_type is not None]
    return False
