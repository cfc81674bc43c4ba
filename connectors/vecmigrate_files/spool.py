"""Rows on the disk in the order of writing, to be cut off if a checkpoint was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vecmigrate.connector import MismatchError, StoreURI, sync_path

_BUFFER = 1 << 20


class Spool:
    """An Arrow stream without an end: its schema, then record batches.

    Its columns have no dictionaries, which would need messages of their own.

    Attributes
    ----------
    rows
        How many there are.
    size
        Bytes so far.
    """

    def __init__(self, path: Path, schema: Any, *, rows: int, size: int) -> None:
        self.path, self.schema, self.rows, self.size = path, schema, rows, size
        self._file = path.open("ab", _BUFFER)

    @classmethod
    def make(cls, path: Path, schema: Any) -> Spool:
        """Begin an empty one."""
        path.write_bytes(memoryview(schema.serialize()))
        return cls(path, schema, rows=0, size=path.stat().st_size)

    @classmethod
    def cut(cls, path: Path, *, rows: int, size: int) -> Spool:
        """Go back to ``rows`` rows, which are ``size`` bytes.

        Raises
        ------
        MismatchError
            If there are not as many.
        """
        if not path.exists() or path.stat().st_size < size:
            raise MismatchError(
                f"{path} has lost what was written before the checkpoint",
                remedy="Start over with --restart.",
            )
        os.truncate(path, size)
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            return cls(path, stream.schema, rows=rows, size=size)

    def append(self, rows: Any) -> None:
        """Add an Arrow record batch."""
        message = rows.serialize()
        self._file.write(memoryview(message))
        self.size += message.size
        self.rows += rows.num_rows

    def sync(self) -> None:
        """Bring all of it to the disk."""
        self._file.flush()
        sync_path(self.path)

    def batches(self) -> Iterator[Any]:
        """Yield the record batches, mapped."""
        self._file.flush()
        with pa.memory_map(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            yield from stream

    def close(self) -> None:
        """Let go; may be called again."""
        with suppress(OSError):  # what a full disk did not take is not needed any more
            self._file.close()


class Checkpoint(BaseModel):
    """What is to be kept of the staged rows.

    Attributes
    ----------
    parts
        Files that are whole.
    rows, size
        Rows, and bytes, of the spool of those that are in none yet; no bytes if there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: int = Field(default=0, ge=0)
    rows: int = Field(default=0, ge=0)
    size: int = Field(default=0, ge=0)

    @classmethod
    def parse(cls, token: str, uri: StoreURI) -> Checkpoint:
        """Read a token back.

        Raises
        ------
        MismatchError
            If it is none.
        """
        try:
            return cls.model_validate_json(token)
        except ValidationError as error:
            raise MismatchError(
                f"{token!r} is no checkpoint of {uri}", remedy="Start over with --restart."
            ) from error
