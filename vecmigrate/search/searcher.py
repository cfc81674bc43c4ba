"""The searcher: it asks a collection for candidates and ranks them by their true vectors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Lock
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecmigrate.connector.addresses import canonical_place, followed_uri
from vecmigrate.connector.registry import open_source
from vecmigrate.connector.source import Source, fetch_existing
from vecmigrate.encoders import Budget, Encoder, Meter, MeteredEncoder, open_encoder
from vecmigrate.encoders.base import texts_at_once
from vecmigrate.encoders.metered import BATCH, text_keys
from vecmigrate.errors import UsageError, VecmigrateError
from vecmigrate.evaluation.search import exact_search, score_matrix
from vecmigrate.migration.bought import ENCODER, query_vectors_path
from vecmigrate.points.batch import Payload, VectorBatch, Vectors, id_array, join_batches
from vecmigrate.points.collection import ENCODED, ORIGIN_FIELD, CollectionDescription, Metric
from vecmigrate.runtime.durations import parse_duration
from vecmigrate.search.options import Hit, Ranking, SearchOptions, SearchResult, Unranked
from vecmigrate.search.purchases import Purchases, QueryVectors
from vecmigrate.search.write_back import WORTH_IT, WritingBack
from vecmigrate.state.file import open_state, state_path
from vecmigrate.state.files import FileLog
from vecmigrate.sync.reembed import check_encoder

FOLLOW_SECONDS = 1.0
"""How often it is looked whether the target's name leads to another collection."""

READ_BATCH = 8192


@dataclass(slots=True, eq=False)
class _Opened:
    """The collection that the name leads to, closed once nobody uses it and another one is there.

    Attributes
    ----------
    turns
        Held while it is read: by one thread at a time, unless the store allows more.
    """

    place: str
    source: Source
    described: CollectionDescription
    turns: AbstractContextManager[object]
    users: int = 0
    is_left: bool = False


class Searcher:
    """A collection open for searching, see :func:`open_searcher`; threads may share it."""

    def __init__(
        self, target: str, encoder: MeteredEncoder, purchases: Purchases, options: SearchOptions
    ) -> None:
        self._target, self._encoder = target, encoder
        self._purchases, self._options = purchases, options
        self._lock, self._looking = Condition(), Lock()
        self._searches, self._is_closed = 0, False
        self._opened = self._open(followed_uri(target))
        self._looked_at = time.monotonic()
        self._has_marks = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for searches that are under way, and let go of the collection."""
        with self._lock:
            self._is_closed = True
            self._lock.wait_for(lambda: not self._searches)
        self._opened.source.close()

    @property
    def source(self) -> str | None:
        """The collection that the target was written from, if vecmigrate wrote it."""
        made = self._opened.described.provenance
        return None if made is None else made.source

    @property
    def count(self) -> int:
        """Points in the collection, as it was opened."""
        return self._opened.described.count

    @property
    def text_field(self) -> str | None:
        """The payload field with the texts, if there is one."""
        return self._opened.described.text_field

    @property
    def encoder(self) -> MeteredEncoder:
        """The new encoder, on this searcher's account."""
        return self._encoder

    @property
    def meter(self) -> Meter:
        """The account of all that was embedded, queries included."""
        return self._encoder.meter

    def search(
        self, query: str | ArrayLike, k: int = 10, *, where: str | None = None
    ) -> SearchResult:
        """Return the ``k`` best points for a query.

        Candidates that have a translated vector are embedded, within the bounds of the options;
        where that cannot be done the collection's own vector is scored, and the result says so.

        Parameters
        ----------
        query
            A text, or the ``(d,)`` vector that the new encoder makes of one.
        where
            A filter in the store's own language; see :meth:`Source.nearest`.

        Raises
        ------
        InputError, UnreachableError
            If the query cannot be encoded, or the collection cannot be searched.
        UsageError
            If the filter is not understood, the vector is not of the collection's dimension, or the
            searcher was closed.
        """
        begun = time.perf_counter()
        with self._in_use() as opened:
            vector = self._vector_of(query)
            encoding = time.perf_counter() - begun
            count = max(k, self._options.candidates)
            points = self._candidates(opened, vector, count, where)
            candidates = len(points)
            ranked = self._rank(opened, points, vector, begun)
            if where is None and self._options.max_texts != 0:
                points = self._with_bought(opened, points, ranked, vector, k)
        order = np.argsort(-ranked.scores, kind="stable")[:k]
        ids, payloads = points.ids.tolist(), points.each_payload()
        hits = tuple(
            Hit(
                id=ids[row],
                score=_told(float(ranked.scores[row]), opened.described.metric),
                payload=payloads[row],
                is_true=bool(ranked.true[row]),
            )
            for row in order.tolist()
        )
        return SearchResult(
            hits=hits,
            ranking=_ranking(ranked.true),
            why=frozenset(ranked.why),
            candidates=candidates,
            texts=ranked.texts,
            tokens=ranked.tokens,
            seconds=time.perf_counter() - begun,
            encoder_seconds=encoding + ranked.seconds,
        )

    async def search_async(
        self, query: str | ArrayLike, k: int = 10, *, where: str | None = None
    ) -> SearchResult:
        """As :meth:`search`, in a thread of its own."""
        return await asyncio.to_thread(self.search, query, k, where=where)

    def _vector_of(self, query: str | ArrayLike) -> Vectors:
        if isinstance(query, str):
            if not self._encoder.needs_texts:
                raise UsageError(
                    f"{self._encoder.identity} cannot encode the text of a query",
                    remedy="Give a vector, or a model or endpoint as --encoder.",
                )
            return self._purchases.query(query)
        vector = np.ascontiguousarray(query, np.float32)
        if vector.shape != (self._encoder.identity.dimension,) or not np.isfinite(vector).all():
            raise UsageError(
                f"a query's vector has {self._encoder.identity.dimension} finite components, and "
                f"shape {vector.shape} was given",
                remedy="Encode the query with the new encoder.",
            )
        return vector

    def _candidates(
        self, opened: _Opened, vector: Vectors, count: int, where: str | None
    ) -> VectorBatch:
        with opened.turns:
            found = opened.source.nearest(vector[None], count, where=where)
            if found is not None:
                return found[0]
            if where is not None:
                raise UsageError(
                    f"{opened.place} is not searched by its store, which knows no filters",
                    remedy="Leave the filter out, or move the collection to a store that searches.",
                )
            batches = opened.source.batches(READ_BATCH, payloads=False)
            ids = exact_search(batches, vector[None], count, opened.described.metric)[0]
            found = fetch_existing(opened.source, ids)
            return join_batches(found) if found else _no_points(vector)

    def _rank(self, opened: _Opened, points: VectorBatch, vector: Vectors, begun: float) -> _Ranked:
        """Score the points, by their true vectors as far as bounds allow."""
        true = self._are_true(opened, points.each_payload())
        vectors, ranked = points.vectors, _Ranked(true)
        texts = points.texts(opened.described.text_field) or [None] * len(points)
        rows = np.flatnonzero(~true)
        with_text = rows
        if self._encoder.needs_texts:
            with_text = rows[[texts[row] is not None for row in rows.tolist()]]
        if len(with_text) < len(rows):
            ranked.why.add(Unranked.NO_TEXT)
        most = self._options.max_texts
        if most is not None and len(with_text) > most:
            ranked.why.add(Unranked.MAX_TEXTS)
            with_text = with_text[:most]
        if len(with_text):
            started = time.perf_counter()
            patience = self._options.patience
            left = None if patience is None else max(patience - (started - begun), 0.0)
            wanted = [texts[row] or "" for row in with_text.tolist()]
            bought = self._purchases.buy(points.ids[with_text], wanted, left)
            ranked.seconds = time.perf_counter() - started
            ranked.texts, ranked.tokens = bought.texts, bought.tokens
            ranked.why |= bought.why
            got = with_text[bought.there]
            if len(got):
                vectors = vectors.copy()
                vectors[got] = bought.vectors[bought.there]
                true[got] = True
        ranked.scores = score_matrix(vector[None], vectors, opened.described.metric)[0]
        return ranked

    def _with_bought(
        self, opened: _Opened, points: VectorBatch, ranked: _Ranked, vector: Vectors, k: int
    ) -> VectorBatch:
        """Let points compete that queries have bought, and that the collection did not find.

        Only those that are still there with the text that was bought.
        """
        there, scores = set(points.ids.tolist()), ranked.scores
        least = float(np.partition(scores, -k)[-k]) if len(scores) >= k else -np.inf
        metric = opened.described.metric
        better = self._purchases.kept.better(vector, metric, least, there, k)
        if not better:
            return points
        with opened.turns:
            parts = fetch_existing(opened.source, id_array({each.id: None for each in better}))
        if not parts:
            return points
        found = join_batches(parts)
        texts = found.texts(opened.described.text_field) or [None] * len(found)
        bought, keys = {each.key: each.score for each in better}, text_keys(found.ids, texts)
        same = np.array([key in bought for key in keys], np.bool_)
        fresh = np.array([bought[key] for key in keys if key in bought], np.float32)
        ranked.scores = np.concatenate([scores, fresh])
        ranked.true = np.concatenate([ranked.true, np.ones(len(fresh), np.bool_)])
        return join_batches([points, found.take(same)])

    def _are_true(self, opened: _Opened, payloads: Sequence[Payload]) -> NDArray[np.bool_]:
        """Tell which points have the new encoder's own vector already."""
        made = opened.described.provenance
        if made is None or made.translator_sha256 is None:
            return np.ones(len(payloads), np.bool_)
        marks = [payload.get(ORIGIN_FIELD) for payload in payloads]
        # Beside marked points, those without a mark are what applications wrote.
        self._has_marks |= any(mark is not None for mark in marks)
        native = (ENCODED, None) if self._has_marks else (ENCODED,)
        return np.array([mark in native for mark in marks], np.bool_)

    @contextmanager
    def _in_use(self) -> Iterator[_Opened]:
        """Yield the collection that the target's name leads to."""
        self._follow()
        with self._lock:
            if self._is_closed:
                raise UsageError("the searcher is closed", remedy="Open it again.")
            opened = self._opened
            opened.users += 1
            self._searches += 1
        try:
            yield opened
        finally:
            with self._lock:
                opened.users -= 1
                self._searches -= 1
                self._lock.notify_all()
                leave = opened.is_left and not opened.users
            if leave:
                opened.source.close()

    def _follow(self) -> None:
        """Look now and then whether the name leads elsewhere, or its collection was replaced."""
        now = time.monotonic()
        if now - self._looked_at < FOLLOW_SECONDS or not self._looking.acquire(blocking=False):
            return
        try:
            before, place = self._opened, followed_uri(self._target)
            stays = canonical_place(place) == canonical_place(before.place)
            # Files that were just written have no stamp yet when they are opened.
            if stays and type(before.source).stamp is Source.stamp:
                return
            after = self._open(place)
            stamp = before.source.stamp()
            if stays and stamp is not None and after.source.stamp() == stamp:
                after.source.close()
                return
            with self._lock:
                self._opened, before.is_left = after, True
                leave = not before.users
            if leave:
                before.source.close()
        except VecmigrateError:
            # Readers keep what they have; a search tells what is wrong with that.
            pass
        finally:
            self._looked_at = time.monotonic()
            self._looking.release()

    def _open(self, place: str) -> _Opened:
        source = open_source(place)
        try:
            described = source.describe()
            described.require_finished()
            check_encoder(self._encoder, None, described)
        except BaseException:
            source.close()
            raise
        turns = nullcontext() if source.thread_safe else Lock()
        return _Opened(place, source, described, turns)


@dataclass(slots=True)
class _Ranked:
    """Points' scores, which of them are true, and what that took."""

    true: NDArray[np.bool_]
    scores: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    why: set[Unranked] = field(default_factory=set)
    texts: int = 0
    tokens: int = 0
    seconds: float = 0.0


def _ranking(true: NDArray[np.bool_]) -> Ranking:
    if true.all():
        return Ranking.TRUE
    return Ranking.PARTLY if true.any() else Ranking.TRANSLATED


def _no_points(like: Vectors) -> VectorBatch:
    return VectorBatch(id_array(()), np.empty((0, len(like)), np.float32), [])


def _told(score: float, metric: Metric) -> float:
    """Return a score as stores tell it: distances are positive, and not squared."""
    if metric is Metric.EUCLID:
        return float(np.sqrt(max(-score, 0.0)))
    return -score if metric is Metric.MANHATTAN else score


@contextmanager
def open_searcher(
    target: str,
    encoder: str | Encoder,
    options: SearchOptions | None = None,
    *,
    state: str | Path | None = None,
    price_per_million_tokens: float | None = None,
    **given: Any,
) -> Iterator[Searcher]:
    """Open a collection for searching in two stages; a context.

    A translated collection has most of a query's true nearest points among its best hundred, but
    not first. The searcher takes the best ``candidates``, embeds the texts of those that are not
    the new encoder's own yet, and ranks them by their true scores. What it buys is kept beside the
    state file, so that no text is paid for twice.

    Parameters
    ----------
    target
        A collection that :func:`vecmigrate.migrate` wrote, or a name that leads to one: where that
        leads is looked up anew about each second.
    encoder
        The new encoder, which encodes queries and texts.
    options, given
        :class:`SearchOptions`, or fields of it by name.
    state
        The state file; default: as for all commands.

    Raises
    ------
    MismatchError
        If the collection is not in the encoder's space.
    InputError, UsageError, UnreachableError, MissingDependencyError, WriteError
        From the collection, the encoder and the state file.
    """
    asked = SearchOptions.given(options, given)
    opened = open_encoder(encoder) if isinstance(encoder, str) else encoder
    metered = MeteredEncoder(opened, Meter(price_per_million_tokens=price_per_million_tokens))
    budget = Budget() if asked.budget is None else Budget.parse(str(asked.budget))
    where = state_path(state)
    path = query_vectors_path(where, followed_uri(target), opened.identity)
    with ExitStack() as stack:
        connection = stack.enter_context(closing(open_state(path, threads=True)))
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        vectors = QueryVectors(connection, texts_at_once(opened), asked.kept_vectors)
        vectors.put(ENCODER, opened.identity.model_dump_json())
        purchases = Purchases(metered, vectors, budget)
        stack.callback(purchases.close)
        searcher = stack.enter_context(Searcher(target, metered, purchases, asked))
        if searcher.source is not None:
            # Where points are forgotten, what queries bought of them is, too.
            with closing(open_state(where)) as records:
                FileLog(records).note(searcher.source, path)
        if every := parse_duration(asked.write_back):
            least = max(BATCH, searcher.count // WORTH_IT)
            stack.enter_context(WritingBack(followed_uri(target), where, vectors, every, least))
        yield searcher
