"""Qdrant's gRPC messages in which a vector, and a field of a payload, is one piece of bytes.

They are the same on the wire: numbers that are packed, and an entry of a map, are bytes with a
length. Protobuf then copies them whole, if it would make an object of each number and value.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from qdrant_client import grpc as messages

_Field = descriptor_pb2.FieldDescriptorProto

# Repeated numbers, little-endian; those of whole numbers are varints.
_NUMBERS = {
    "DenseVector": ("data",),
    "SparseVector": ("values", "indices"),
    "Vector": ("data",),
}
_MAPS = {
    "PointStruct": "payload",
    "RetrievedPoint": "payload",
    "ScoredPoint": "payload",
    "Struct": "fields",
}
# A vector that is read has the fields of one that is written, so that it can be copied there.
_READ, _WRITTEN = ".qdrant.VectorOutput", ".qdrant.Vector"


def _in_pieces(message: Any) -> None:
    for field in message.field:
        if field.name in _NUMBERS.get(message.name, ()):
            field.type = _Field.TYPE_BYTES
            field.label = _Field.LABEL_OPTIONAL
            field.ClearField("options")
        elif field.name == _MAPS.get(message.name):
            field.type = _Field.TYPE_BYTES
            field.ClearField("type_name")
            del message.nested_type[:]
        elif field.type_name == _READ:
            field.type_name = _WRITTEN
    for nested in message.nested_type:
        _in_pieces(nested)


def _add(pool: descriptor_pool.DescriptorPool, file: Any, added: set[str]) -> None:
    if file.name in added:
        return
    added.add(file.name)
    for other in file.dependencies:
        _add(pool, other, added)
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    for message in proto.message_type:
        _in_pieces(message)
    pool.AddSerializedFile(proto.SerializeToString())


_pool = descriptor_pool.DescriptorPool()
_add(_pool, messages.UpsertPoints.DESCRIPTOR.file, set())


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"qdrant.{name}"))


ScrollResponse = _class("ScrollResponse")
GetResponse = _class("GetResponse")
QueryBatchResponse = _class("QueryBatchResponse")
UpsertPoints = _class("UpsertPoints")
UpdatePointVectors = _class("UpdatePointVectors")
Struct = _class("Struct")
