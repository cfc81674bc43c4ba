"""What a sink was given, on disk beside its target until the index is built from it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from vecmigrate.connector import (
    MismatchError,
    TargetExistsError,
    VectorBatch,
    Vectors,
    id_array,
    sync_path,
    take_lock,
)
from vecmigrate_faiss.lookup import Int64s

_BUFFER = 1 << 20
_READ_ROWS = 1 << 16
_EMPTY = b"{}\n"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=dict).encode
_LOCK, _RUN, _PUBLISHING, _INDEX = "lock", "run", "publishing", "index"
_encode_ascii = json.JSONEncoder(separators=(",", ":"), default=dict).encode


class _Checkpoint(BaseModel):
    """Rows so far, and the size of each file that holds them."""

    count: int
    named: bool
    sizes: dict[str, int]


class Staging:
    """A directory with all rows in the order of writing: vectors, ids, payloads.

    Ids are kept as int64 until one comes that is none; from then on as JSON lines.

    Attributes
    ----------
    count
        Rows, an id written again counting again.
    named
        True where an id is not int64.
    was_publishing
        True where an earlier run left the directory after :meth:`mark_publishing`.

    Parameters
    ----------
    run
        Names who writes: what it left behind before is begun anew, like what holds nothing.
    token
        From :meth:`checkpoint` of an earlier run: continue there.
    head
        What the index will hold before its vectors, where these are all else that it holds or come
        first: see :meth:`turn_into_index`.

    Raises
    ------
    TargetExistsError
        Where the directory is there, another run's, and ``restart`` is false, or in use.
    MismatchError
        Where what ``token`` tells of is not there any more.
    """

    def __init__(
        self,
        directory: Path,
        dimension: int,
        *,
        run: str | None = None,
        restart: bool = False,
        token: str | None = None,
        head: bytes = b"",
    ) -> None:
        self._directory = directory
        self._head = head
        self._dimension = dimension
        self.count = 0
        self.named = False
        self._files: dict[Path, IO[bytes]] = {}
        if token is not None:
            self._continue(token)
            return
        directory.mkdir(exist_ok=True)
        self._lock = _take_lock(self._directory)
        try:
            if not (restart or self._is_free_for(run)):
                raise TargetExistsError(
                    f"an earlier run left {directory} unfinished", remedy="Run again with restart."
                )
            self.was_publishing = self._marker.exists()
            self._remove_parts()
            self._run.write_text(run or "", encoding="utf-8")
        except BaseException:
            self._lock.close()
            raise

    def _continue(self, token: str) -> None:
        """Go back to a checkpoint: cut off or remove what came after it."""
        try:
            marked = _Checkpoint.model_validate_json(token)
        except ValidationError as error:
            raise MismatchError(
                f"{token!r} is no checkpoint of {self._directory}", remedy="Start over."
            ) from error
        if not self._directory.exists():
            raise MismatchError(
                f"nothing is left of the unfinished run in {self._directory}",
                remedy="Start over with --restart.",
            )
        self._lock = _take_lock(self._directory)
        self.was_publishing = self._marker.exists()
        try:
            self._turn_back(marked)
            for path in self._directory.iterdir():
                size = marked.sizes.get(path.name)
                if size is not None and path.stat().st_size >= size:
                    os.truncate(path, size)
                elif path.name not in (_LOCK, _RUN, _PUBLISHING):
                    path.unlink()
            missing = [name for name in marked.sizes if not (self._directory / name).exists()]
            if missing:
                raise MismatchError(
                    f"{self._directory} has lost {', '.join(missing)}",
                    remedy="Start over with --restart.",
                )
        except BaseException:
            self._lock.close()
            raise
        self.count, self.named = marked.count, marked.named
        for name in marked.sizes:
            path = self._directory / name
            self._files[path] = path.open("ab", _BUFFER)

    def _turn_back(self, marked: _Checkpoint) -> None:
        """Undo :meth:`turn_into_index`, where a kill came between it and the publication."""
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

    def _is_free_for(self, run: str | None) -> bool:
        """True where the directory holds nothing, or what ``run`` left there."""
        names = {path.name for path in self._directory.iterdir()}
        if names <= {_LOCK, _RUN}:
            return True
        return _RUN in names and run not in (None, "") and self._run.read_text("utf-8") == run

    def _remove_parts(self) -> None:
        """Remove all but what tells whose the directory is."""
        for path in self._directory.iterdir():
            if path.name not in (_LOCK, _RUN, _PUBLISHING):
                path.unlink()

    @property
    def index(self) -> Path:
        """Where to build the index."""
        return self._directory / _INDEX

    @property
    def sidecar(self) -> Path:
        """Where to write the sidecar."""
        return self._directory / "sidecar.jsonl"

    @property
    def companion(self) -> Path:
        """Where to write the companion."""
        return self._directory / "companion.json"

    @property
    def has_payloads(self) -> bool:
        """True where a batch had payloads."""
        return self._payloads in self._files

    @property
    def payload_file(self) -> Path:
        """The payloads as JSON lines; there only where :attr:`has_payloads`."""
        return self._payloads

    def append(self, batch: VectorBatch, vectors: Vectors) -> None:
        """Add a batch's points with ``vectors`` in place of its own.

        Raises
        ------
        MismatchError
            Where an id is neither an integer nor a string, or a payload is not JSON.
        """
        if not len(batch):
            return
        ids = id_array(batch.ids if batch.ids.dtype == np.int64 else batch.ids.tolist())
        lines = None if batch.payloads is None else _payload_lines(batch)
        self._append_ids(ids)
        self._file(self._vectors).write(vectors.data)
        if lines is not None and not self.has_payloads:
            self._file(self._payloads).writelines(repeat(_EMPTY, self.count))
        if self.has_payloads:
            self._file(self._payloads).write(_EMPTY * len(batch) if lines is None else lines)
        self.count += len(batch)

    def checkpoint(self) -> str:
        """Bring everything to the disk and return a token to continue from."""
        self.sync()
        sync_path(self._directory)
        sizes = {path.name: path.stat().st_size for path in self._files}
        return _Checkpoint(count=self.count, named=self.named, sizes=sizes).model_dump_json()

    def suspend(self) -> None:
        """Leave the directory for a later run; may be called again."""
        for file in self._files.values():
            with suppress(OSError):
                file.close()
        self._lock.close()

    def sync(self) -> None:
        """Bring everything to the disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def mark_publishing(self) -> None:
        """Note that files now at the target's names, the index excepted, are this sink's."""
        self._marker.touch()
        sync_path(self._directory)

    def clear_mark(self) -> None:
        """Forget :meth:`mark_publishing`."""
        self._marker.unlink(missing_ok=True)
        self.was_publishing = False

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
        """Return ``(count,)`` int64, mapped; only where not ``named``."""
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
        with self._payloads.open("rb", _BUFFER) as file:
            yield from (line[:-1] for line in file)

    def kept(self) -> NDArray[np.bool_] | None:
        """Return a mask of the rows to keep, the last of each id; None where that is all."""
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
        for file in self._files.values():
            # What a full disk did not take is thrown away like the rest.
            with suppress(OSError):
                file.close()
        if not self._lock.closed:
            # Last what tells whose it is: a kill in between must not leave a stranger's directory.
            with suppress(OSError):
                self._remove_parts()
                self._marker.unlink(missing_ok=True)
            shutil.rmtree(self._directory, ignore_errors=True)
            self._lock.close()

    @property
    def _run(self) -> Path:
        return self._directory / _RUN

    @property
    def _marker(self) -> Path:
        return self._directory / _PUBLISHING

    @property
    def _vectors(self) -> Path:
        return self._directory / "vectors.f32"

    @property
    def _integers(self) -> Path:
        return self._directory / "ids.i64"

    @property
    def _names(self) -> Path:
        return self._directory / "ids.jsonl"

    @property
    def _payloads(self) -> Path:
        return self._directory / "payloads.jsonl"

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


def remove_spent(directory: Path) -> None:
    """Remove what is left of a run whose index has its name already, unless it is in use."""
    if not directory.exists():
        return
    try:
        lock = _take_lock(directory)
    except TargetExistsError:
        return
    with lock:
        names = {path.name for path in directory.iterdir()}
        if names <= {_LOCK, _RUN} or (_PUBLISHING in names and _INDEX not in names):
            shutil.rmtree(directory)


def _take_lock(directory: Path) -> IO[bytes]:
    taken = TargetExistsError(f"another run is writing to {directory}", remedy="Let it finish.")
    return take_lock(directory / _LOCK, taken)


def _id_line(point_id: Any) -> bytes:
    if type(point_id) not in (int, str):
        raise MismatchError(
            f"the id {point_id!r} is a {type(point_id).__name__}",
            remedy="Ids are integers or strings.",
        )
    return json.dumps(point_id).encode() + b"\n"


def _payload_lines(batch: VectorBatch) -> bytes:
    lines = []
    for point_id, payload in zip(batch.ids, batch.payloads or (), strict=True):
        try:
            lines.append(_encode(payload))
        except (TypeError, ValueError) as error:
            raise MismatchError(
                f"the payload of {point_id} is not JSON: {error}",
                remedy="Leave the field out or turn it into text.",
            ) from error
    lines.append("")
    try:
        return "\n".join(lines).encode()
    except UnicodeEncodeError:
        # A lone surrogate is no Unicode text, but JSON can escape it.
        return "\n".join([*map(_encode_ascii, batch.payloads or ()), ""]).encode()
