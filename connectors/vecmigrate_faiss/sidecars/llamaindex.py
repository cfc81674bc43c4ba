"""What LlamaIndex persists beside a FAISS index: ``docstore.json`` and ``index_store.json``.

The index itself is in ``default__vector_store.json``, which despite its name FAISS wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vecmigrate.connector import InputError, told_as
from vecmigrate_faiss.location import INDEX_STORE
from vecmigrate_faiss.sidecars.base import NumberedRecords, Record


class LlamaIndexDocstore(NumberedRecords):
    """Nodes by the number of their vector; a payload is the node's text and its metadata.

    A payload is ``{"text": ..., "metadata": {...}, "ref_doc_id": ...}``, the last if the node
    was cut from a document.

    Raises
    ------
    InputError
        If the stores are not there, not whole, or not of a FAISS index.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _records(path))

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path, self.path.with_name(INDEX_STORE))


def _records(path: Path) -> Iterator[Record]:
    nodes = _part(path, "docstore/data")
    index_store = path.with_name(INDEX_STORE)
    for structure in _part(index_store, "index_store/data").values():
        for number, node_id in _numbers(index_store, structure).items():
            yield Record(number, node_id, _payload(path, node_id, nodes.get(node_id)))


def _part(path: Path, name: str) -> dict[str, Any]:
    remedy = "Keep the files of a persist directory together."
    try:
        with told_as(InputError, f"{path} cannot be read", remedy, (OSError,)):
            part = json.loads(path.read_text(encoding="utf-8"))[name]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _other(path, f"no {name!r}") from error
    if not isinstance(part, dict):
        raise _other(path, f"no mapping {name!r}")
    return part


def _numbers(path: Path, structure: object) -> dict[int, str]:
    """Return the node of each vector, from the structure that LlamaIndex keeps of an index."""
    try:
        data = structure["__data__"]  # type: ignore[index]
        data = json.loads(data) if isinstance(data, str) else data
        return {int(number): str(node_id) for number, node_id in data["nodes_dict"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _other(path, "an index that has no numbered nodes") from error


def _payload(path: Path, node_id: str, node: object) -> dict[str, Any]:
    data = node.get("__data__") if isinstance(node, dict) else None
    if not isinstance(data, dict):
        raise _other(path, f"no node {node_id!r}, which the index has")
    payload = {"text": data.get("text", ""), "metadata": data.get("metadata") or {}}
    # Relation "1" is the source document.
    source = (data.get("relationships") or {}).get("1")
    if isinstance(source, dict) and source.get("node_id"):
        payload["ref_doc_id"] = source["node_id"]
    return payload


def _other(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} holds {what}",
        remedy="Persist the index again with LlamaIndex, or name a sidecar as ?sidecar=FILE.",
    )
