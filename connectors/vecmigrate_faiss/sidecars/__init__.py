"""Finds and opens the sidecar of an index, whatever its format."""

from __future__ import annotations

from pathlib import Path

from vecmigrate.connector import InputError, StoreURI, UsageError, told_as
from vecmigrate_faiss.companion import Companion
from vecmigrate_faiss.exchange import belonging
from vecmigrate_faiss.location import DOCSTORE, Location
from vecmigrate_faiss.sidecars.base import Sidecar
from vecmigrate_faiss.sidecars.jsonl import JsonlSidecar
from vecmigrate_faiss.sidecars.langchain import PICKLE, LangChainDocstore
from vecmigrate_faiss.sidecars.llamaindex import LlamaIndexDocstore
from vecmigrate_faiss.sidecars.parquet import ParquetSidecar
from vecmigrate_faiss.sidecars.sqlite import MAGIC, SqliteSidecar

_OPTIONS = ("id", "text", "table")


def open_sidecar(uri: StoreURI, location: Location, companion: Companion | None) -> Sidecar | None:
    """Open the sidecar that the URI names, that vecmigrate wrote, or that lies beside the index.

    Raises
    ------
    UsageError
        If there are several and none is named, or an option does not fit.
    InputError
        If it cannot be read.
    """
    path = _path_of(uri, location, companion)
    if path is None:
        for option in _OPTIONS:
            if option in uri.options:
                raise UsageError(
                    f"{uri} names a {option}, but there is no sidecar",
                    remedy=f"Name the sidecar as ?sidecar=FILE, or leave {option!r} out.",
                )
        return None
    remedy = "Name it as ?sidecar=FILE, or put it back beside the index."
    unread = told_as(InputError, f"the sidecar {path} cannot be read", remedy, (OSError,))
    with unread, path.open("rb") as file:
        head = file.read(len(MAGIC))
    return _open(uri, path, head)


def _open(uri: StoreURI, path: Path, head: bytes) -> Sidecar:
    key = uri.options.get("id")
    if head == MAGIC:
        return SqliteSidecar(path, key, uri.options.get("table"))
    _refuse(uri, "table", path)
    if head.startswith(b"PAR1"):
        return ParquetSidecar(path, key)
    if head.startswith(PICKLE):
        _refuse(uri, "id", path)
        return LangChainDocstore(path)
    if path.name == DOCSTORE:
        _refuse(uri, "id", path)
        return LlamaIndexDocstore(path)
    return JsonlSidecar(path, key)


def _refuse(uri: StoreURI, option: str, path: Path) -> None:
    if option in uri.options:
        raise UsageError(
            f"{uri}: {path} has no {option} to be named", remedy=f"Leave ?{option}= out."
        )


def _path_of(uri: StoreURI, location: Location, companion: Companion | None) -> Path | None:
    if "sidecar" in uri.options:
        return Path(uri.options["sidecar"])
    if companion and companion.sidecar:
        return belonging(location)[0]
    found = [path for path in location.sidecar_candidates() if path.is_file()]
    if len(found) > 1:
        raise UsageError(
            f"{location.index} has more than one sidecar: {', '.join(map(str, found))}",
            remedy="Name the one to read as ?sidecar=FILE.",
        )
    return found[0] if found else None
