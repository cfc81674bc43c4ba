"""What queries buy: each text once, in batches that queries of the same moment share."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from vecmigrate.encoders import Budget, EncoderRole, MeteredEncoder
from vecmigrate.encoders.base import in_flight, texts_at_once
from vecmigrate.encoders.metered import text_keys
from vecmigrate.errors import VecmigrateError
from vecmigrate.migration.bought import BoughtVectors, read_all
from vecmigrate.points.batch import IdArray, PointId, Vectors, id_array
from vecmigrate.search.kept import KeptVectors
from vecmigrate.search.options import Unranked
from vecmigrate.state.file import transaction

_log = logging.getLogger(__name__)

FAILURES, SHORTEST_PAUSE, LONGEST_PAUSE = 3, 5.0, 300.0
"""So many failures in a row, and the encoder is left alone for that many seconds."""


class QueryVectors(BoughtVectors):
    """Vectors that queries have bought and an account of each day, in a file that processes share.

    Parameters
    ----------
    most
        Vectors kept; the oldest go first.
    """

    def __init__(self, connection: sqlite3.Connection, batch: int, most: int) -> None:
        super().__init__(connection, batch, shared=True)
        self._most, self._dropped = most, 0
        with transaction(connection) as begun:
            begun.execute("CREATE TABLE IF NOT EXISTS days (day PRIMARY KEY, texts, tokens)")

    def keep(
        self, keys: list[str], vectors: Vectors, points: IdArray | None, tokens: Sequence[int]
    ) -> None:
        super().keep(keys, vectors, points, tokens)
        with self._lock, transaction(self._connection) as begun:
            # Counting takes time; there are no more than this.
            [(count,)] = begun.execute(
                "SELECT (SELECT max(rowid) FROM bought) - (SELECT min(rowid) FROM bought) + 1"
            )
            if count > self._most:
                [(count,)] = begun.execute("SELECT count(*) FROM bought")
            if count > self._most:
                begun.execute(
                    "DELETE FROM bought WHERE rowid IN "
                    "(SELECT rowid FROM bought ORDER BY rowid LIMIT ?)",
                    (count - self._most,),
                )
                self._dropped += 1

    def changes(self) -> tuple[int, int]:
        """Return what differs once others have changed the file, or anybody has dropped vectors."""
        with self._lock, transaction(self._connection) as begun:
            [(version,)] = begun.execute("PRAGMA data_version")
        return int(version), self._dropped

    def keys(self) -> list[str]:
        """Return the keys of all vectors that are of points."""
        with self._lock, transaction(self._connection) as begun:
            rows = begun.execute("SELECT key FROM bought WHERE id IS NOT NULL").fetchall()
        return [str(key) for (key,) in rows]

    def bought(
        self, keys: Sequence[str], dimension: int
    ) -> tuple[list[str], list[PointId], Vectors]:
        """Return those of the keys that are here, their points and ``(n, dimension)`` vectors."""
        found = list(self._found(keys))
        vectors = np.empty((len(found), dimension), np.float32)
        for row, (_, _, vector) in enumerate(found):
            vectors[row] = vector
        return [key for key, _, _ in found], [point for _, point, _ in found], vectors

    def drop(self, last: int) -> None:
        super().drop(last)
        self._dropped += 1

    def reserve(self, tokens: Sequence[int], budget: Budget) -> int:
        """Put the first texts on today's account that a budget allows; return how many."""
        day = _today()
        with self._lock, transaction(self._connection) as begun:
            # Written first, so that no other process reads what this one is about to change.
            begun.execute("INSERT OR IGNORE INTO days VALUES (?, 0, 0)", (day,))
            [(texts, spent)] = begun.execute("SELECT texts, tokens FROM days WHERE day = ?", (day,))
            count = len(tokens)
            if budget.texts is not None:
                count = min(count, max(budget.texts - texts, 0))
            if budget.tokens is not None:
                sums = np.cumsum(tokens)
                count = min(count, int(np.searchsorted(sums, budget.tokens - spent, side="right")))
            self._add(begun, day, count, sum(tokens[:count]))
        return count

    def release(self, tokens: Sequence[int]) -> None:
        """Take texts off today's account that were not embedded."""
        with self._lock, transaction(self._connection) as begun:
            self._add(begun, _today(), -len(tokens), -sum(tokens))

    def _add(self, begun: sqlite3.Connection, day: str, texts: int, tokens: int) -> None:
        begun.execute(
            "UPDATE days SET texts = max(texts + ?, 0), tokens = max(tokens + ?, 0) WHERE day = ?",
            (texts, tokens, day),
        )


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


class Circuit:
    """Leaves an encoder alone that fails: for a while, then for twice as long."""

    def __init__(self) -> None:
        self._lock, self._failures = Lock(), 0
        self._pause, self._until = SHORTEST_PAUSE, 0.0

    def is_open(self) -> bool:
        """True if the encoder is not to be asked now."""
        return time.monotonic() < self._until

    def succeeded(self) -> None:
        """Take note of an answer."""
        with self._lock:
            self._failures, self._pause, self._until = 0, SHORTEST_PAUSE, 0.0

    def failed(self) -> None:
        """Take note of a failure."""
        with self._lock:
            self._failures += 1
            if self._failures >= FAILURES:
                self._until = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE)


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """A text that somebody waits for."""

    text: str
    role: EncoderRole
    key: str
    id: PointId | None = None
    tokens: int = 0
    made: Future[Vectors] = field(default_factory=Future)


@dataclass(slots=True)
class Bought:
    """What a query got.

    Attributes
    ----------
    vectors
        ``(n, d)`` float32.
    there
        ``(n,)``: True for those that are.
    why
        Why others are not.
    texts, tokens
        That were embedded for this query.
    """

    vectors: Vectors
    there: NDArray[np.bool_]
    why: set[Unranked] = field(default_factory=set)
    texts: int = 0
    tokens: int = 0


class Purchases:
    """Embeds what queries ask for; threads share it.

    A text that is being embedded is waited for, and not asked for again. While as many calls are
    under way as are of use, what is asked for gathers, and goes out with the next one.

    Parameters
    ----------
    vectors
        Keeps what is bought.
    budget
        Of a day.

    Attributes
    ----------
    kept
        What was bought, to be searched.
    """

    def __init__(self, encoder: MeteredEncoder, vectors: QueryVectors, budget: Budget) -> None:
        self._encoder, self._vectors, self._budget = encoder, vectors, budget
        self.kept = KeptVectors(vectors, encoder.identity.dimension)
        self._lock = Lock()
        self._waiting: deque[_Wanted] = deque()
        self._under_way: dict[str, _Wanted] = {}
        self._circuit, self._calls, self._working = Circuit(), in_flight(encoder.encoder), 0
        self._pool = ThreadPoolExecutor(self._calls, thread_name_prefix="encode")

    def close(self) -> None:
        """Wait for what is being embedded, and end."""
        self._pool.shutdown()

    def query(self, text: str) -> Vectors:
        """Return the ``(d,)`` vector of a query.

        Raises
        ------
        VecmigrateError
            From the encoder.
        """
        wanted = _Wanted(text, "query", f"query {text}")
        return self._asked([wanted])[0].made.result()

    def buy(self, ids: IdArray, texts: Sequence[str], patience: float | None) -> Bought:
        """Return vectors of points' texts, those first that are asked for first.

        Parameters
        ----------
        patience
            Seconds to wait; what comes later is kept for others.
        """
        keys = text_keys(ids, texts)
        bought = Bought(
            np.empty((len(keys), self._encoder.identity.dimension), np.float32),
            np.zeros(len(keys), np.bool_),
        )
        try:
            bought.there[:] = read_all((self.kept, self._vectors), keys, bought.vectors)
        except VecmigrateError as error:
            _log.warning("%s", error)
            bought.there[:] = self.kept.read(keys, bought.vectors)
        rows = np.flatnonzero(~bought.there).tolist()
        points, tokens = ids.tolist(), self._encoder.count_tokens([texts[row] for row in rows])
        wanted = [
            _Wanted(texts[row], "document", keys[row], points[row], count)
            for row, count in zip(rows, tokens, strict=True)
        ]
        awaited = self._bought(wanted, bought)
        done, late = wait([each.made for each in awaited], patience)
        if late:
            bought.why.add(Unranked.DEADLINE)
        for row, each in zip(rows, awaited, strict=False):
            if each.made not in done:
                continue
            if each.made.exception() is not None:
                bought.why.add(Unranked.ENCODER)
                continue
            bought.vectors[row], bought.there[row] = each.made.result(), True
        return bought

    def _bought(self, wanted: list[_Wanted], bought: Bought) -> list[_Wanted]:
        """Ask for the first texts that bounds allow; return what is to be waited for."""
        with self._lock:
            known = [each.key in self._under_way for each in wanted]
        fresh = [each for each, there in zip(wanted, known, strict=True) if not there]
        allowed = len(fresh)
        if fresh and self._circuit.is_open():
            bought.why.add(Unranked.ENCODER)
            allowed = 0
        elif fresh:
            allowed = self._reserve(fresh)
            if allowed < len(fresh):
                bought.why.add(Unranked.BUDGET)
        refused = set(map(id, fresh[allowed:]))
        # Only a prefix counts, so that rows and what is waited for go together.
        first = next((at for at, each in enumerate(wanted) if id(each) in refused), len(wanted))
        awaited = self._asked(wanted[:first])
        mine = [each for each, other in zip(wanted[:first], awaited, strict=True) if each is other]
        bought.texts, bought.tokens = len(mine), sum(each.tokens for each in mine)
        paid = fresh[:allowed]
        self._give_back([each for each in paid if each not in mine])
        return awaited

    def _asked(self, wanted: list[_Wanted]) -> list[_Wanted]:
        """Return for each text what is to be waited for: itself, or what somebody asked before."""
        awaited = []
        with self._lock:
            for each in wanted:
                known = self._known(each)
                if known is None:
                    known = self._under_way[each.key] = each
                    self._waiting.append(each)
                awaited.append(known)
            workers = min(len(self._waiting), self._calls - self._working)
            self._working += max(workers, 0)
        for _ in range(workers):
            self._pool.submit(self._work)
        return awaited

    def _known(self, wanted: _Wanted) -> _Wanted | None:
        """Return what is to be waited for if a text was asked for, or made, in the meantime."""
        known = self._under_way.get(wanted.key)
        if known is None and (vector := self.kept.get(wanted.key)) is not None:
            known = replace(wanted, made=Future())
            known.made.set_result(vector)
        return known

    def _reserve(self, fresh: list[_Wanted]) -> int:
        if self._budget == Budget():
            return len(fresh)
        try:
            return self._vectors.reserve([each.tokens for each in fresh], self._budget)
        except VecmigrateError as error:
            # An account that cannot be kept allows nothing.
            _log.warning("%s", error)
            return 0

    def _give_back(self, unpaid: list[_Wanted]) -> None:
        if not unpaid or self._budget == Budget():
            return
        try:
            self._vectors.release([each.tokens for each in unpaid])
        except VecmigrateError as error:
            _log.warning("%s", error)

    def _work(self) -> None:
        """Embed what waits, batch by batch, until nothing does."""
        while True:
            with self._lock:
                batch = self._next_batch()
                if not batch:
                    self._working -= 1
                    return
            self._embed(batch)

    def _next_batch(self) -> list[_Wanted]:
        batch: list[_Wanted] = []
        most = texts_at_once(self._encoder.encoder)
        while self._waiting and len(batch) < most:
            if batch and self._waiting[0].role != batch[0].role:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _embed(self, batch: list[_Wanted]) -> None:
        role = batch[0].role
        ids = None if role == "query" else id_array(each.id or 0 for each in batch)
        try:
            made = self._encoder.encode([each.text for each in batch], ids=ids, role=role)
        except Exception as error:
            self._circuit.failed()
            self._end(batch)
            if role == "document":
                self._give_back(batch)
            for each in batch:
                each.made.set_exception(error)
            return
        self._circuit.succeeded()
        if ids is not None:
            keys = [each.key for each in batch]
            try:
                self._vectors.keep(keys, made, ids, [each.tokens for each in batch])
                self.kept.add(keys, ids.tolist(), made)
            except VecmigrateError as error:
                # The query has its answer all the same; the text may be paid for again.
                _log.warning("%s", error)
        self._end(batch)
        for each, vector in zip(batch, made, strict=True):
            each.made.set_result(vector)

    def _end(self, batch: list[_Wanted]) -> None:
        with self._lock:
            for each in batch:
                del self._under_way[each.key]
