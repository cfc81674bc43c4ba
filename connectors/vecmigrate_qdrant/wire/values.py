"""Payloads and other vectors of points as they were on the wire, read when somebody asks."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any

from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from vecmigrate.connector import Extra, Payload
from vecmigrate_qdrant.points import extra_of, vectors_of
from vecmigrate_qdrant.wire.messages import Struct

_NOTHING: Mapping[str, Any] = {}


class _Lazy(Mapping[str, Any]):
    """A mapping that is made when it is first looked into, and is pickled as a plain one."""

    # There is one of these for each point that is moved.
    __slots__ = ("_cache",)
    _cache: dict[str, Any] | None

    @abstractmethod
    def _make(self) -> dict[str, Any]:
        """Return what it holds."""

    @property
    def _made(self) -> dict[str, Any]:
        if self._cache is None:
            self._cache = self._make()
        return self._cache

    def __getitem__(self, name: str) -> Any:
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def keys(self) -> KeysView[str]:
        return self._made.keys()

    def items(self) -> ItemsView[str, Any]:
        return self._made.items()

    def values(self) -> ValuesView[Any]:
        return self._made.values()

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return dict, (self._made,)

    def __repr__(self) -> str:
        return repr(self._made)


class WirePayload(_Lazy):
    """A payload.

    Parameters
    ----------
    entries
        Its fields as the entries of a map on the wire; the last one of a name counts.
    added
        Of these, fields whose values are known.
    """

    __slots__ = ("_added", "entries")

    def __init__(self, entries: Sequence[bytes], added: Mapping[str, Any] | None = None) -> None:
        self.entries = entries
        self._added = added or _NOTHING
        self._cache = None

    def __getitem__(self, name: str) -> Any:
        return self._added[name] if name in self._added else super().__getitem__(name)

    def _make(self) -> dict[str, Any]:
        made: dict[str, Any] = GrpcToRest.convert_payload(self._message().fields)
        return made

    def _message(self) -> Any:
        return messages.Struct.FromString(Struct(fields=self.entries).SerializeToString())

    def canonical_bytes(self) -> bytes:
        """Return the same bytes for the same fields, in whichever order the server gave them."""
        canonical: bytes = self._message().SerializeToString(deterministic=True)
        return canonical

    def __or__(self, more: Mapping[str, Any]) -> WirePayload:
        """Return the payload with more fields, or other values of them."""
        return WirePayload([*self.entries, *payload_entries(more)], {**self._added, **more})

    def without(self, name: str) -> WirePayload:
        """Return the payload without a field."""
        read = messages.Struct.FieldsEntry.FromString
        left = [entry for entry in self.entries if read(entry).key != name]
        return WirePayload(left, {n: value for n, value in self._added.items() if n != name})


class WireExtra(_Lazy):
    """The other vectors of a point.

    Parameters
    ----------
    pieces
        Each one's message on the wire, by name.
    """

    __slots__ = ("pieces",)

    def __init__(self, pieces: Mapping[str, bytes]) -> None:
        self.pieces = pieces
        self._cache = None

    def without(self, names: Iterable[str]) -> WireExtra:
        """Return the vectors but for those named."""
        left = {name: piece for name, piece in self.pieces.items() if name not in names}
        return WireExtra(left)

    def canonical_bytes(self) -> bytes:
        """As :meth:`WirePayload.canonical_bytes`."""
        return b"".join(name.encode() + self.pieces[name] for name in sorted(self.pieces))

    def _make(self) -> dict[str, Any]:
        return extra_of(
            {
                name: GrpcToRest.convert_vector_output(messages.VectorOutput.FromString(piece))
                for name, piece in self.pieces.items()
            }
        )


def payload_entries(payload: Payload) -> Sequence[bytes]:
    """Return a payload's fields as the entries of a map on the wire.

    Raises
    ------
    ValueError
        If a value cannot be there, as an integer beyond 64 bits.
    """
    if isinstance(payload, WirePayload):
        return payload.entries
    message = messages.Struct(fields=RestToGrpc.convert_payload(dict(payload)))
    entries: Sequence[bytes] = Struct.FromString(message.SerializeToString()).fields
    return entries


def extra_pieces(extra: Extra) -> Mapping[str, bytes]:
    """Return the messages on the wire of a point's other vectors, by name."""
    if isinstance(extra, WireExtra):
        return extra.pieces
    named = vectors_of(extra)
    converted = RestToGrpc.convert_vector_struct(named).vectors.vectors
    return {name: converted[name].SerializeToString() for name in converted}


def wire_size(parts: Iterable[Payload | Extra]) -> int:
    """Return how many bytes payloads or extras are on the wire, about; plain ones as JSON."""
    size, plain = 0, []
    for part in parts:
        if isinstance(part, WirePayload):
            size += sum(map(len, part.entries))
        elif isinstance(part, WireExtra):
            size += sum(map(len, part.pieces.values()))
        else:
            plain.append(dict(part))
    # At once: a call for each would cost more than what it does.
    return size + len(json.dumps(plain, default=str))


def modern_piece(vector: Any) -> bytes:
    """Return the message of a vector that was read as one that every server takes."""
    piece: bytes = vector.SerializeToString()
    if vector.WhichOneof("vector") is not None:
        return piece
    # In the fields of servers before 1.16, which some later one may do without.
    found = GrpcToRest.convert_vector_output(messages.VectorOutput.FromString(piece))
    return extra_pieces(extra_of({"": found}))[""]
