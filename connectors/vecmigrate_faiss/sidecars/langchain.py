"""The docstore that LangChain saves beside an index: ``index.pkl``, a pickle.

Unpickling runs what the file says. This reader knows the few classes that such a file needs, by
stand-ins that only hold what they are given, and refuses any other name before it is imported.
"""

from __future__ import annotations

import datetime
import pickle
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vecmigrate.connector import InputError, told_as
from vecmigrate_faiss.sidecars.base import NumberedRecords, Record

PICKLE = b"\x80"
"""How a pickle begins, of protocol 2 or later."""


class LangChainDocstore(NumberedRecords):
    """``(InMemoryDocstore, {number: id})`` with a ``Document`` for each id.

    A payload is ``{"page_content": text, "metadata": {...}}``, which is how LangChain stores
    documents in Qdrant too.

    Raises
    ------
    InputError
        If the pickle needs any other class, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _records(path, _unpickled(path)))


class _Held:
    """Stands for a class of LangChain: holds the state that it is given."""

    fields: Mapping[str, Any] = MappingProxyType({})

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a document's state is not a mapping")
        # Pydantic wraps a model's fields, and LangChain's docstore is a plain object.
        fields = state.get("__dict__", state)
        if not isinstance(fields, dict):
            raise pickle.UnpicklingError("a document's fields are not a mapping")
        self.fields = fields


class _Docstore(_Held):
    pass


class _Document(_Held):
    pass


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    **{
        (module, "InMemoryDocstore"): _Docstore
        for module in (
            "langchain_community.docstore.in_memory",
            "langchain.docstore.in_memory",
        )
    },
    **{
        (module, "Document"): _Document
        for module in (
            "langchain_core.documents.base",
            "langchain_core.documents",
            "langchain.schema.document",
            "langchain.schema",
            "langchain.docstore.document",
        )
    },
    ("builtins", "set"): set,
    ("datetime", "datetime"): datetime.datetime,
    ("datetime", "date"): datetime.date,
    ("datetime", "time"): datetime.time,
    ("datetime", "timezone"): datetime.timezone,
    ("datetime", "timedelta"): datetime.timedelta,
    ("uuid", "UUID"): uuid.UUID,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        known = _KNOWN.get((module_name, global_name))
        if known is None:
            raise pickle.UnpicklingError(f"it needs {module_name}.{global_name}")
        return known


def _unpickled(path: Path) -> object:
    with (
        told_as(
            InputError,
            f"{path} cannot be read as LangChain's docstore",
            "Only LangChain's own documents with JSON-like metadata are read from a pickle; write "
            "others as JSONL and name it as ?sidecar=FILE.",
            (Exception,),
        ),
        path.open("rb") as file,
    ):
        return _Unpickler(file).load()


def _records(path: Path, saved: object) -> Iterator[Record]:
    match saved:
        case (_Docstore(fields={"_dict": dict(documents)}), dict(ids)):
            pass
        case (_Docstore(), _):
            raise _other(path, "a docstore without documents")
        case _:
            raise _other(path, "something else")
    for number, point_id in ids.items():
        document = documents.get(point_id)
        if type(number) is not int or not isinstance(document, _Document):
            raise _other(path, f"no document for the vector {number!r}")
        text, metadata = document.fields.get("page_content"), document.fields.get("metadata")
        if not isinstance(text, str) or not isinstance(metadata, dict | None):
            raise _other(path, f"no text for the vector {number!r}")
        payload = {"page_content": text, "metadata": _json(path, metadata or {})}
        yield Record(number, str(point_id), payload)


def _json(path: Path, value: object) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return {str(name): _json(path, part) for name, part in value.items()}
        case list() | tuple():
            return [_json(path, part) for part in value]
        case set():
            return sorted((_json(path, part) for part in value), key=repr)
        case datetime.date() | datetime.time():
            return value.isoformat()
        case uuid.UUID():
            return str(value)
    raise _other(path, f"metadata of the type {type(value).__name__}, which JSON lacks")


def _other(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} holds {what}, not what LangChain saves with a FAISS index",
        remedy="Save it with FAISS.save_local, or name a sidecar as ?sidecar=FILE.",
    )
