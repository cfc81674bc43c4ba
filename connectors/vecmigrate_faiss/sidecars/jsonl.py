"""JSONL sidecars: a user's flat records, or those that a sink wrote.

A sink's file begins with the line ``{"vecmigrate": {"sidecar": 1, "numbered": false}}``. Each line
after it is ``{"id": ..., "payload": {...}}``, or if the file is numbered ``{"faiss_id": ...,
"id": ..., "payload": {...}}``, so that no payload field can be taken for a key.
"""

from __future__ import annotations

import json
import mmap
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from vecmigrate.connector import InputError, PointId, UsageError
from vecmigrate_faiss.lookup import IdTable, Int64s
from vecmigrate_faiss.sidecars.base import DEFAULT_KEY, Record, Sidecar

FORMAT = 1

_BOM = b"\xef\xbb\xbf"
_INT64 = np.iinfo(np.int64)


class JsonlSidecar(Sidecar):
    """A JSONL file, its records read by their byte offsets.

    Parameters
    ----------
    key
        The field that holds the id; None for ``id``.

    Raises
    ------
    InputError
        If the file is not there or was written by a later version.
    UsageError
        If ``key`` is given for a file that a sink wrote.
    """

    def __init__(self, path: Path, key: str | None) -> None:
        super().__init__(path)
        try:
            with path.open("rb") as file:
                self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise InputError(f"{path} is empty", remedy="Write one record a line.") from error
        self._start = len(_BOM) if self._text[: len(_BOM)] == _BOM else 0
        self._key = key or DEFAULT_KEY
        self._nested = False
        self._by_faiss_id: IdTable | None = None
        self._by_original: IdTable | None = None
        self._read_header(key)
        self._leading_key = re.compile(
            rb"\s*\{\s*"
            + re.escape(json.dumps(self._key).encode())
            + rb"\s*:\s*(-?\d{1,18})\s*[,}]"
        )

    def sample(self, limit: int) -> list[Record]:
        records: list[Record] = []
        for offset, line in self._lines():
            if len(records) == limit:
                break
            records.append(self._record(offset, line))
        return records

    def lookup(self, faiss_ids: Int64s) -> Sequence[Record | None]:
        if self._by_faiss_id is None:
            table = self._table(self._faiss_id)
            self.refuse_repeated(table, self._key)
            self._by_faiss_id = table
        return self._at(self._by_faiss_id.find(faiss_ids))

    def lookup_originals(self, ids: Sequence[PointId]) -> Sequence[Record | None]:
        if self._by_original is None:
            table = self._table(lambda *at: _hash_of(self._record(*at).id))
            if table.repeated():
                raise InputError(
                    f"{self.path} has more than one record of the same id",
                    remedy="Use the sidecar as it was written.",
                )
            self._by_original = table
        hashes = np.fromiter(map(_hash_of, ids), dtype=np.int64, count=len(ids))
        found = self._at(self._by_original.find(hashes))
        # Another id may have the same hash, and 1 == 1.0 == True.
        return [
            record if record and (type(record.id), record.id) == (type(wanted), wanted) else None
            for wanted, record in zip(ids, found, strict=True)
        ]

    def close(self) -> None:
        self._text.close()

    def _read_header(self, key: str | None) -> None:
        line = self._text[self._start : self._end(self._start)]
        if not line.startswith(b'{"vecmigrate"'):
            return
        try:
            header = json.loads(line)["vecmigrate"]
            version, self.numbered = int(header["sidecar"]), bool(header["numbered"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.path}:1 is not a sidecar's header", remedy="Write the sidecar again."
            ) from error
        if version > FORMAT:
            raise InputError(
                f"{self.path} has the sidecar format {version}, this version knows {FORMAT}",
                remedy="Upgrade vecmigrate.",
            )
        if key is not None:
            raise UsageError(
                f"{self.path} was written by vecmigrate and has its key in a known place",
                remedy="Leave ?id= out.",
            )
        self._nested = True
        self._key = "faiss_id" if self.numbered else "id"
        self._start = self._end(self._start) + 1

    def _end(self, start: int) -> int:
        end = self._text.find(b"\n", start)
        return len(self._text) if end < 0 else end

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        offset, size = self._start, len(self._text)
        while offset < size:
            end = self._end(offset)
            line = self._text[offset:end]
            if line and not line.isspace():
                yield offset, line
            offset = end + 1

    def _table(self, number: Any) -> IdTable:
        numbers, offsets = array("q"), array("q")
        for offset, line in self._lines():
            numbers.append(number(offset, line))
            offsets.append(offset)
        return IdTable(
            np.frombuffer(numbers, dtype=np.int64), np.frombuffer(offsets, dtype=np.int64)
        )

    def _faiss_id(self, offset: int, line: bytes) -> int:
        # Parsing whole records twice would double the time of a migration; a line cut short is
        # seen here all the same.
        match = self._leading_key.match(line)
        if match and line.rstrip().endswith(b"}"):
            return int(match[1])
        return self._record(offset, line).faiss_id

    def _at(self, offsets: Int64s) -> list[Record | None]:
        return [
            self._record(offset, self._text[offset : self._end(offset)]) if offset >= 0 else None
            for offset in offsets.tolist()
        ]

    def _record(self, offset: int, line: bytes) -> Record:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            self._refuse(offset, f"is not JSON: {error}")
        if not isinstance(fields, dict):
            self._refuse(offset, "is not a JSON object")
        if self._key not in fields:
            self._refuse(offset, f"has no field {self._key!r}")
        faiss_id = fields.pop(self._key)
        if type(faiss_id) is not int or not _INT64.min <= faiss_id <= _INT64.max:
            self._refuse(offset, f"has in {self._key!r} no 64-bit integer")
        if not self._nested:
            return Record(faiss_id, faiss_id, fields)
        original: Any = fields.get("id") if self.numbered else faiss_id
        payload = fields.get("payload")
        if type(original) not in (int, str) or not isinstance(payload, dict):
            self._refuse(offset, "lacks its 'id' or 'payload'")
        return Record(faiss_id, original, payload)

    def _refuse(self, offset: int, reason: str) -> NoReturn:
        number = end = 0
        with self.path.open("rb") as file:
            while end <= offset:
                end += len(file.readline())
                number += 1
        raise InputError(
            f"{self.path}:{number} {reason}",
            remedy="Write one JSON object a line, its id an integer (?id= names the field).",
        )


def sidecar_lines(
    ids: Iterable[bytes], payloads: Iterable[bytes], *, numbered: bool
) -> Iterator[bytes]:
    """Yield the lines of a sink's sidecar, its header first.

    Parameters
    ----------
    ids, payloads
        Each point's id and payload as JSON.
    numbered
        Give each point its position as FAISS id.
    """
    yield json.dumps({"vecmigrate": {"sidecar": FORMAT, "numbered": numbered}}).encode() + b"\n"
    for number, (point_id, payload) in enumerate(zip(ids, payloads, strict=True)):
        faiss_id = b'"faiss_id":%d,' % number if numbered else b""
        yield b'{%b"id":%b,"payload":%b}\n' % (faiss_id, point_id, payload)


def _hash_of(point_id: PointId) -> int:
    # Of the text: hash(0) is hash(""), and hash(-1) is hash(-2).
    return hash(repr(point_id))
