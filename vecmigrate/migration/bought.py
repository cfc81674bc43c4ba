"""Vectors that a re-embedding has bought: kept until its target is published."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors import AnchorSet, load_anchors
from vecmigrate.encoders import EmbeddingStore, Encoder, MeteredEncoder
from vecmigrate.encoders.base import EncoderRole, texts_at_once
from vecmigrate.encoders.metered import (
    EMBEDDINGS_FOLDER,
    FoundVectors,
    TokenCounter,
    bought_files,
    read_from,
    text_keys,
)
from vecmigrate.errors import InputError, MismatchError, WriteError
from vecmigrate.io.atomic import replace_text
from vecmigrate.io.vector_table import read_header
from vecmigrate.points.batch import IdArray, PointId, Vectors, id_array
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.state.file import open_state, overwrite_freed, transaction
from vecmigrate.state.ledger import ledger_key, restored, stored

_TABLES = (
    "CREATE TABLE IF NOT EXISTS bought (key TEXT PRIMARY KEY, id, tokens INTEGER NOT NULL, "
    "vector BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT)",
    "CREATE TABLE IF NOT EXISTS elsewhere (part TEXT PRIMARY KEY, texts INTEGER, tokens INTEGER)",
)
_AT_ONCE = 500
"""Keys or ids in one question to the file."""
_ANCHORS = {"population", "strategy", "target_encoder"}
"""Keys of an anchor file's header."""


class BoughtVectors:
    """Vectors of one job and encoder in a file of their own; see :class:`VectorStore`.

    Threads may share it. Memory is that of a batch, whatever it holds.

    Parameters
    ----------
    batch
        Texts encoded, and made durable, at a time.
    others
        Where vectors may be found beside, as those of anchors.
    shared
        True if other processes write to the file too.
    """

    role: EncoderRole = "document"

    def __init__(
        self,
        connection: sqlite3.Connection,
        batch: int,
        others: Sequence[FoundVectors] = (),
        *,
        shared: bool = False,
    ) -> None:
        self.batch = batch
        self._connection, self._others, self._lock = connection, others, Lock()
        with transaction(connection) as begun:
            for table in _TABLES:
                begun.execute(table)
        [(count,)] = connection.execute("SELECT count(*) FROM (SELECT 1 FROM bought LIMIT 1)")
        self._empty = count == 0 and not shared

    def paid(self) -> tuple[int, int]:
        """Return how many texts were bought, and their tokens."""
        with self._lock, transaction(self._connection) as begun:
            texts, tokens = begun.execute(
                "SELECT coalesce(sum(n), 0), coalesce(sum(t), 0) FROM ("
                "SELECT count(*) AS n, sum(tokens) AS t FROM bought "
                "UNION ALL SELECT sum(texts), sum(tokens) FROM elsewhere)"
            ).fetchone()
        return int(texts), int(tokens)

    def note_elsewhere(self, part: str, texts: int, tokens: int) -> bool:
        """Note what a worker has bought for a part, and keeps; False if that was noted before."""
        with self._lock, transaction(self._connection) as begun:
            done = begun.execute(
                "INSERT OR IGNORE INTO elsewhere VALUES (?, ?, ?)", (part, texts, tokens)
            )
        return done.rowcount > 0

    def get(self, name: str) -> str | None:
        """Return what was put under a name; None if nothing was."""
        with self._lock, transaction(self._connection) as begun:
            row = begun.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, name: str, value: str) -> None:
        """Keep a text under a name."""
        with self._lock, transaction(self._connection) as begun:
            begun.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def some(self, count: int) -> list[tuple[str, PointId, Vectors]]:
        """Return keys, points and ``(d,)`` vectors of some that were bought here."""
        with self._lock, transaction(self._connection) as begun:
            rows = begun.execute(
                "SELECT key, id, vector FROM bought WHERE id IS NOT NULL LIMIT ?", (count,)
            ).fetchall()
        return [(key, restored(i), np.frombuffer(made, np.float32)) for key, i, made in rows]

    def read(self, keys: Sequence[str], into: Vectors) -> NDArray[np.bool_]:
        here = read_all(self._others, keys, into)
        rows = {keys[row]: row for row in np.flatnonzero(~here).tolist()}
        for key, _, vector in self._found([] if self._empty else list(rows)):
            into[rows[key]], here[rows[key]] = vector, True
        return here

    def _found(self, keys: Sequence[str]) -> Iterator[tuple[str, PointId, Vectors]]:
        """Yield those of the keys that are in the file, their points and ``(d,)`` vectors."""
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            with self._lock, transaction(self._connection) as begun:
                found = begun.execute(
                    f"SELECT key, id, vector FROM bought WHERE key IN ({marks})", some
                ).fetchall()
            for key, point, vector in found:
                yield key, restored(point), np.frombuffer(vector, np.float32)

    def keep(
        self, keys: list[str], vectors: Vectors, points: IdArray | None, tokens: Sequence[int]
    ) -> None:
        ids = [None] * len(keys) if points is None else map(stored, points.tolist())
        rows = zip(keys, ids, tokens, map(bytes, vectors), strict=True)
        with self._lock, transaction(self._connection) as begun:
            begun.executemany("INSERT OR REPLACE INTO bought VALUES (?, ?, ?, ?)", rows)
            self._empty = False

    def points(self) -> tuple[IdArray, int]:
        """Return the points whose vectors are here, and the number of the last one."""
        with self._lock, transaction(self._connection) as begun:
            rows = begun.execute("SELECT id, max(rowid) FROM bought GROUP BY id").fetchall()
        last = max((number for _, number in rows), default=0)
        return id_array(restored(point) for point, _ in rows if point is not None), last

    def drop(self, last: int) -> None:
        """Keep no longer what was bought up to a number; see :meth:`points`."""
        with self._lock, transaction(self._connection) as begun:
            begun.execute("DELETE FROM bought WHERE rowid <= ?", (last,))

    def count(self) -> int:
        """Return how many vectors are here."""
        with self._lock, transaction(self._connection) as begun:
            [(count,)] = begun.execute("SELECT count(*) FROM bought")
        return int(count)


class UnkeptVectors:
    """What was bought elsewhere, of a job that keeps nothing; see :class:`VectorStore`."""

    role: EncoderRole = "document"

    def __init__(self, batch: int, others: Sequence[FoundVectors]) -> None:
        self.batch, self._others = batch, others

    def read(self, keys: Sequence[str], into: Vectors) -> NDArray[np.bool_]:
        return read_all(self._others, keys, into)

    def keep(
        self, keys: list[str], vectors: Vectors, points: IdArray | None, tokens: Sequence[int]
    ) -> None: ...

    def get(self, name: str) -> str | None:
        """Return None: nothing is kept."""
        return None

    def put(self, name: str, value: str) -> None:
        """Keep nothing."""

    def note_elsewhere(self, part: str, texts: int, tokens: int) -> bool:
        """Return True: no earlier run has left anything."""
        return True


class PartVectors:
    """What a worker has bought for a partition, in a folder of its own; see :class:`VectorStore`.

    Parameters
    ----------
    others
        Where vectors may be found beside.

    Attributes
    ----------
    earlier_texts, earlier_tokens
        That a worker had bought for it which was stopped or killed.
    """

    role: EncoderRole = "document"

    def __init__(self, folder: Path, encoder: Encoder, others: Sequence[FoundVectors]) -> None:
        self.batch = texts_at_once(encoder)
        self._own = EmbeddingStore(folder, encoder.identity, self.role)
        self._others = others
        self._tokens_file = folder / "tokens"
        self.earlier_texts, self.earlier_tokens = len(self._own.vectors), 0
        if self._tokens_file.exists():
            self.earlier_tokens = int(self._tokens_file.read_text())
        self._tokens = self.earlier_tokens

    def read(self, keys: Sequence[str], into: Vectors) -> NDArray[np.bool_]:
        return read_all((*self._others, self._own), keys, into)

    def keep(
        self, keys: list[str], vectors: Vectors, points: IdArray | None, tokens: Sequence[int]
    ) -> None:
        self._own.keep(keys, vectors, points)
        self._tokens += sum(tokens)
        try:
            replace_text(self._tokens_file, f"{self._tokens}")
        except OSError as error:
            raise WriteError(
                f"{self._tokens_file} cannot be written: {error.strerror or error}",
                remedy="Free some space on the disk of --parts, then run the same command.",
            ) from error


@dataclass(frozen=True, slots=True)
class Purchases:
    """An encoder that buys nothing twice.

    Attributes
    ----------
    store
        Has what it bought, and texts that the job is to know again, by name.
    found
        What was bought before by others.
    """

    encoder: MeteredEncoder
    store: BoughtVectors | UnkeptVectors
    found: tuple[FoundVectors, ...]

    def note(self, part: str, texts: int, tokens: int) -> None:
        """Put on the account what a worker has bought for a part; once, if it is read again."""
        if self.store.note_elsewhere(part, texts, tokens):
            self.encoder.meter.paid_elsewhere(texts, tokens)


class KnownVectors:
    """Vectors in memory, by their keys; see :class:`FoundVectors`. Other processes may be sent it.

    Parameters
    ----------
    vectors
        ``(d,)`` each.
    """

    def __init__(self, vectors: dict[str, Vectors]) -> None:
        self._vectors = vectors

    @classmethod
    def of_anchors(cls, anchors: AnchorSet) -> Self:
        """Return the true vectors of anchors, by the texts that they were made from."""
        texts = anchors.texts or []
        keys = text_keys(anchors.ids[: len(texts)], texts)
        rows = zip(keys, texts, anchors.target_vectors[: len(texts)], strict=True)
        return cls({key: vector for key, text, vector in rows if text})

    def read(self, keys: Sequence[str], into: Vectors) -> NDArray[np.bool_]:
        return read_from(self._vectors, keys, into)


def read_all(
    stores: Sequence[FoundVectors], keys: Sequence[str], into: Vectors
) -> NDArray[np.bool_]:
    """As :meth:`FoundVectors.read`, from whichever store has a vector."""
    here = np.zeros(len(keys), np.bool_)
    for store in stores:
        rows = np.flatnonzero(~here)
        some = np.empty((len(rows), into.shape[1]), np.float32)
        found = store.read([keys[row] for row in rows.tolist()], some)
        into[rows[found]] = some[found]
        here[rows[found]] = True
    return here


def named_for_reuse(places: Iterable[Path], encoder: EncoderIdentity) -> Iterator[FoundVectors]:
    """As :func:`reusable`, of places that a user has named.

    Raises
    ------
    InputError
        If there is nothing of the encoder in one of them.
    """
    for place in places:
        found = list(reusable([place], encoder))
        if not found:
            raise InputError(
                f"{place} holds no vectors that {encoder} has made of texts",
                remedy="Name the folder of a dry run, or an anchor file, of that encoder with "
                "--reuse, or leave it out.",
            )
        yield from found


def reusable(places: Iterable[Path], encoder: EncoderIdentity) -> Iterator[FoundVectors]:
    """Yield what anchors and dry runs have bought of an encoder in files or folders.

    What cannot be read, or is of another encoder, is passed over. A file of a dry run that is no
    anchor file stands for its folder.
    """
    folders: dict[Path, None] = {}
    files: dict[Path, None] = {}
    for place in places:
        if bought_files(place):
            folders[(place if place.is_dir() else place.parent) / EMBEDDINGS_FOLDER] = None
        of_dry_run = place if place.is_dir() else place.parent
        tables = [place] if place.suffix == ".parquet" else sorted(of_dry_run.glob("*.parquet"))
        files.update((table, None) for table in tables if table.suffix == ".parquet")
    for file in files:
        anchors = _anchors_of(file, encoder)
        if anchors is not None:
            yield KnownVectors.of_anchors(anchors)
    for folder in folders:
        with suppress(InputError, MismatchError):
            yield KnownVectors(EmbeddingStore(folder, encoder, "document").vectors)


def _anchors_of(file: Path, encoder: EncoderIdentity) -> AnchorSet | None:
    header = read_header(file) if file.is_file() else None
    if header is None or not header.keys() >= _ANCHORS:
        return None
    try:
        anchors = load_anchors(file)
    except InputError:
        return None
    return anchors if anchors.card.target_encoder.same_as(encoder) else None


BOUGHT = "bought"
"""Folder next to the state file."""


def is_bought_file(path: Path) -> bool:
    """Tell whether a file is one of :func:`bought_path`, by its name."""
    return path.parent.name == BOUGHT and path.suffix == ".sqlite"


def erase_bought(path: Path, ids: IdArray, *, look: bool) -> set[PointId]:
    """Delete what was bought of some points, its bytes overwritten; return those that were there.

    Parameters
    ----------
    look
        Delete nothing.

    Raises
    ------
    InputError, MismatchError, WriteError
        As :func:`open_state`.
    """
    found: set[PointId] = set()
    with closing(open_state(path)) as connection:
        with transaction(connection) as begun:
            begun.execute(_TABLES[0])
            for start in range(0, len(ids), _AT_ONCE):
                some = list(map(stored, ids[start : start + _AT_ONCE].tolist()))
                among = f"WHERE id IN ({', '.join('?' * len(some))})"
                rows = begun.execute(f"SELECT DISTINCT id FROM bought {among}", some)
                found.update(restored(point) for (point,) in rows)
                if not look:
                    begun.execute(f"DELETE FROM bought {among}", some)
        if found and not look:
            overwrite_freed(connection)
    return found


def bought_path(state: Path, job_key: str, encoder: EncoderIdentity) -> Path:
    """Return where the vectors are kept that a job has bought of an encoder."""
    told = hashlib.blake2b(encoder.model_dump_json().encode(), digest_size=8).hexdigest()
    return state.parent / BOUGHT / f"{job_key}-{told}.sqlite"


def query_vectors_path(state: Path, target: str, encoder: EncoderIdentity) -> Path:
    """Return where the vectors are kept that queries of a target have bought of an encoder."""
    return bought_path(state, f"{_QUERIES}-{ledger_key(target)}", encoder)


_QUERIES = "queries"


@contextmanager
def bought_by_queries(
    state: Path, target: str, encoder: EncoderIdentity | None
) -> Iterator[list[BoughtVectors]]:
    """Yield what queries of a target have bought, of any encoder if None is given.

    Raises
    ------
    InputError, MismatchError, WriteError
        As :func:`open_state`.
    """
    found = []
    with ExitStack() as stack:
        pattern = f"{_QUERIES}-{ledger_key(target)}-*.sqlite"
        for path in sorted((state.parent / BOUGHT).glob(pattern)):
            connection = stack.enter_context(closing(open_state(path, threads=True)))
            vectors = BoughtVectors(connection, 1, shared=True)
            told = vectors.get(ENCODER)
            if told is not None and (
                encoder is None or EncoderIdentity.model_validate_json(told).same_as(encoder)
            ):
                found.append(vectors)
        yield found


ENCODER = "encoder"
"""The fact that names the encoder of vectors that queries bought."""


def remove_bought(state: Path, job_key: str) -> None:
    """Remove what a job has bought: its target has it."""
    for path in (state.parent / BOUGHT).glob(f"{job_key}-*.sqlite*"):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        (state.parent / BOUGHT).rmdir()


@contextmanager
def buying(
    encoder: MeteredEncoder, path: Path | None, others: Sequence[FoundVectors]
) -> Iterator[Purchases]:
    """Yield the encoder with a store at ``path``, what it holds put on the account.

    Parameters
    ----------
    path
        None if nothing is to be kept.

    Raises
    ------
    InputError, MismatchError, WriteError
        As :func:`open_state`.
    """
    batch = texts_at_once(encoder.encoder)
    if path is None:
        nothing = UnkeptVectors(batch, others)
        yield Purchases(encoder.storing(nothing), nothing, tuple(others))
        return
    with closing(open_state(path, threads=True)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        store = BoughtVectors(connection, batch, others)
        estimated = not (isinstance(encoder.encoder, TokenCounter) or store.get(_TOLD))
        encoder.meter.paid_before(*store.paid(), estimated=estimated)
        try:
            yield Purchases(encoder.storing(store), store, tuple(others))
        finally:
            if encoder.meter.told and not encoder.meter.estimated:
                store.put(_TOLD, "yes")


_TOLD = "tokens told"
