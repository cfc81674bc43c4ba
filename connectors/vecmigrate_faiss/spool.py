"""What a sink was given, on disk beside its target until the index is built from it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from vecmigrate.connector import (
    MismatchError,
    VectorBatch,
    Vectors,
    id_array,
    payload_json,
    sync_path,
)
from vecmigrate_faiss.lookup import Int64s

_BUFFER = 1 << 20
_READ_ROWS = 1 << 16
_EMPTY = b"{}\n"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=dict).encode


class _Checkpoint(BaseModel):
    """Rows so far, and the size of each file that holds them."""

    count: int
    named: bool
    sizes: dict[str, int]


class Spool:
    """A directory with all rows in the order of writing: vectors, ids, payloads.

    Ids are kept as int64 until one comes that is none; from then on as JSON lines.

    Attributes
    ----------
    count
        Rows, an id written again counting again.
    named
        True if an id is not int64.
    index, sidecar, companion
        Where to build the index, and to write what belongs to it.
    payload_file
        The payloads as JSON lines; there only if :attr:`has_payloads`.

    Parameters
    ----------
    head
        What the index will hold before its vectors, if these are all else that it holds or come
        first: see :meth:`turn_into_index`.
    """

    def __init__(self, directory: Path, dimension: int, *, head: bytes = b"") -> None:
        self.index = directory / "index"
        self.sidecar = directory / "sidecar.jsonl"
        self.companion = directory / "companion.json"
        self.payload_file = directory / "payloads.jsonl"
        self._vectors = directory / "vectors.f32"
        self._integers = directory / "ids.i64"
        self._names = directory / "ids.jsonl"
        self._directory = directory
        self._head = head
        self._dimension = dimension
        self.count = 0
        self.named = False
        self._files: dict[Path, IO[bytes]] = {}

    def go_back(self, token: str) -> Collection[str]:
        """Go back to a checkpoint, and return the names of the files that belong to it.

        What else lies in the directory is to be removed.

        Raises
        ------
        MismatchError
            If what ``token`` tells of is not there any more.
        """
        try:
            marked = _Checkpoint.model_validate_json(token)
        except ValidationError as error:
            raise MismatchError(
                f"{token!r} is no checkpoint of {self._directory}", remedy="Start over."
            ) from error
        self._turn_back(marked)
        paths = {self._directory / name: size for name, size in marked.sizes.items()}
        lost = [p.name for p, size in paths.items() if not p.exists() or p.stat().st_size < size]
        if lost:
            raise MismatchError(
                f"{self._directory} has lost {', '.join(lost)}",
                remedy="Start over with --restart.",
            )
        for path, size in paths.items():
            os.truncate(path, size)
            self._files[path] = path.open("ab", _BUFFER)
        self.count, self.named = marked.count, marked.named
        return marked.sizes

    def _turn_back(self, marked: _Checkpoint) -> None:
        """Undo :meth:`turn_into_index`, if a kill came between it and the publication."""
        size = marked.sizes.get(self._vectors.name)
        if size is None:
            return
        if size != len(self._head) + 4 * self._dimension * marked.count:
            raise MismatchError(
                f"{self._directory} was written by another version of vecmigrate or FAISS",
                remedy="Start over with --restart.",
            )
        if self.index.exists() and not self._vectors.exists():
            self.index.rename(self._vectors)

    @property
    def has_payloads(self) -> bool:
        """True if a batch had payloads."""
        return self.payload_file in self._files

    def append(self, batch: VectorBatch, vectors: Vectors) -> None:
        """Add a batch's points with ``vectors`` in place of its own.

        Raises
        ------
        MismatchError
            If an id is neither an integer nor a string, or a payload is not JSON.
        """
        if not len(batch):
            return
        ids = id_array(batch.ids if batch.ids.dtype == np.int64 else batch.ids.tolist())
        lines = None if batch.payloads is None else _payload_lines(batch)
        self._append_ids(ids)
        self._file(self._vectors).write(vectors.data)
        if lines is not None and not self.has_payloads:
            self._file(self.payload_file).writelines(repeat(_EMPTY, self.count))
        if self.has_payloads:
            self._file(self.payload_file).write(_EMPTY * len(batch) if lines is None else lines)
        self.count += len(batch)

    def checkpoint(self) -> str:
        """Bring everything to the disk and return a token to continue from."""
        self.sync()
        sync_path(self._directory)
        sizes = {path.name: path.stat().st_size for path in self._files}
        return _Checkpoint(count=self.count, named=self.named, sizes=sizes).model_dump_json()

    def close(self) -> None:
        """Let go of the files; may be called again."""
        for file in self._files.values():
            # What a full disk did not take is thrown away, or written again.
            with suppress(OSError):
                file.close()

    def sync(self) -> None:
        """Bring everything to the disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def vectors(self) -> Vectors:
        """Return ``(count, d)`` float32, mapped."""
        shape = (self.count, self._dimension)
        if not self.count:
            return np.empty(shape, dtype=np.float32)
        return np.memmap(
            self._vectors, dtype=np.float32, mode="r", shape=shape, offset=len(self._head)
        )

    def turn_into_index(self, head: bytes, tail: Iterable[bytes]) -> None:
        """Make the vectors' file the index, between a head as long as was announced and a tail."""
        if len(head) != len(self._head):
            raise ValueError(f"a head of {len(head)} bytes, not of {len(self._head)}")
        self._file(self._vectors).close()
        with self._vectors.open("r+b") as file:
            file.write(head)
            file.seek(len(head) + 4 * self._dimension * self.count)
            file.writelines(tail)
            file.truncate()
        self._vectors.rename(self.index)

    def ids(self) -> Int64s:
        """Return ``(count,)`` int64, mapped; only if not ``named``."""
        if not self.count:
            return np.empty(0, dtype=np.int64)
        return np.memmap(self._integers, dtype=np.int64, mode="r", shape=(self.count,))

    def id_lines(self) -> Iterator[bytes]:
        """Yield each row's id as JSON."""
        if not self.named:
            ids = self.ids()
            for start in range(0, self.count, _READ_ROWS):
                yield from (b"%d" % i for i in ids[start : start + _READ_ROWS].tolist())
            return
        with self._names.open("rb", _BUFFER) as file:
            yield from (line[:-1] for line in file)

    def payload_lines(self) -> Iterator[bytes]:
        """Yield each row's payload as JSON."""
        if not self.has_payloads:
            yield from repeat(_EMPTY[:-1], self.count)
            return
        with self.payload_file.open("rb", _BUFFER) as file:
            yield from (line[:-1] for line in file)

    def kept(self) -> NDArray[np.bool_] | None:
        """Return a mask of the rows to keep, the last of each id; None if that is all."""
        keys: NDArray[Any]
        if self.named:
            # Any two of 2**40 ids share a digest of this length with a chance of 2**-49.
            digests = (hashlib.blake2b(line, digest_size=16).digest() for line in self.id_lines())
            keys = np.fromiter(digests, dtype="S16", count=self.count)
        else:
            keys = self.ids()
            if bool((keys[1:] > keys[:-1]).all()):
                return None
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        last = np.ones(self.count, dtype=bool)
        last[:-1] = keys[1:] != keys[:-1]
        if last.all():
            return None
        kept = np.zeros(self.count, dtype=bool)
        kept[order[last]] = True
        return kept

    def discard(self) -> None:
        """Remove the directory; may be called again."""
        self.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _file(self, path: Path) -> IO[bytes]:
        if path not in self._files:
            self._files[path] = path.open("wb", _BUFFER)
            if path == self._vectors:
                self._files[path].write(self._head)
        return self._files[path]

    def _append_ids(self, ids: NDArray[Any]) -> None:
        if not self.named and ids.dtype == np.int64:
            self._file(self._integers).write(np.ascontiguousarray(ids).data)
            return
        lines = [_id_line(i) for i in ids.tolist()]
        if not self.named:
            self._file(self._integers).flush()
            names = self._file(self._names)
            names.writelines(line + b"\n" for line in self.id_lines())
            self.named = True
        self._file(self._names).writelines(lines)


def _id_line(point_id: Any) -> bytes:
    if type(point_id) not in (int, str):
        raise MismatchError(
            f"the id {point_id!r} is a {type(point_id).__name__}",
            remedy="Ids are integers or strings.",
        )
    return json.dumps(point_id).encode() + b"\n"


def _payload_lines(batch: VectorBatch) -> bytes:
    payloads = batch.payloads or ()
    try:
        return "\n".join([*map(_encode, payloads), ""]).encode()
    except (TypeError, ValueError):
        # One is not JSON, or holds a lone surrogate, which is no Unicode text but can be escaped.
        pairs = zip(payloads, batch.ids, strict=True)
        return "".join(f"{payload_json(*pair)}\n" for pair in pairs).encode()
