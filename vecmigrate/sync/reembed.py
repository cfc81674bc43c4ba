"""Re-embeds the translated points that are worth the most, within a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vecmigrate.connector.source import Source, fetch_existing
from vecmigrate.encoders import Encoder
from vecmigrate.encoders.metered import Budget, count_tokens
from vecmigrate.errors import InputError, MismatchError
from vecmigrate.evaluation import read_queries as read_texts
from vecmigrate.evaluation.search import exact_search
from vecmigrate.points.batch import IdArray, VectorBatch, Vectors, id_array
from vecmigrate.points.checksums import target_hashes
from vecmigrate.points.collection import ENCODED, ORIGIN_FIELD, CollectionDescription
from vecmigrate.state import transaction
from vecmigrate.state.ledger import Ledger, LedgerRow, Origin, stored
from vecmigrate.sync.reconcile import note_payloads
from vecmigrate.translators import TranslatorCard
from vecmigrate.verification.index import read_query_vectors

ENCODE_BATCH = 256
NEAREST = 10


def check_encoder(encoder: Encoder, card: TranslatorCard, target: CollectionDescription) -> None:
    """Raise :class:`MismatchError` unless the encoder makes vectors of the target's space."""
    wanted = card.target_encoder
    if encoder.identity.dimension != target.dimension or (
        wanted is not None and not wanted.same_as(encoder.identity)
    ):
        raise MismatchError(
            f"{target.uri} is in the space of {wanted or f'{target.dimension} dimensions'}, not of "
            f"{encoder.identity}",
            remedy="Give the encoder that the anchors were embedded by.",
        )


def query_vectors(path: Path, encoder: Encoder, target: CollectionDescription) -> Vectors:
    """Read recent queries: ``.npy`` of the new encoder's vectors, or JSON lines to encode.

    Raises
    ------
    InputError, MismatchError, UnreachableError
    """
    if path.suffix == ".npy":
        return read_query_vectors(path, target).vectors
    asked = read_texts(path)
    texts = [query.text for query in asked if query.text]
    if encoder.needs_texts and len(texts) < len(asked):
        raise InputError(f"{path} has a query without text", remedy="Give each one its text.")
    return encoder.encode(texts, ids=id_array(query.id for query in asked), role="query")


def choose(ledger: Ledger, target: Source, queries: Vectors | None, *, needs_texts: bool) -> int:
    """List the translated points by value, the highest first; returns how many.

    A point's value is its predictive variance times 1 + the queries that have it among their ten
    nearest: the expected error of the vector, as often as somebody meets it. Where the translator
    tells no variance it is 1 for all, and equal values are taken in an order that does not depend
    on ids, so that what is re-embedded is spread over the collection.
    """
    hits: Counter[object] = Counter()
    if queries is not None:
        for ids in _nearest(target, queries):
            hits.update(map(stored, ids.tolist()))
    with transaction(ledger.connection) as connection:
        for table in ("hits", "chosen"):
            connection.execute(f"DROP TABLE IF EXISTS temp.{table}")
        connection.execute("CREATE TEMP TABLE hits (id PRIMARY KEY, n INTEGER) WITHOUT ROWID")
        connection.execute("CREATE TEMP TABLE chosen (position INTEGER PRIMARY KEY, id)")
        connection.executemany("INSERT INTO hits VALUES (?, ?)", hits.items())
        connection.execute(
            "INSERT INTO chosen (id) SELECT points.id FROM points LEFT JOIN hits USING (id) "
            "WHERE origin = ? AND (has_text OR NOT ?) "
            "AND points.id NOT IN (SELECT id FROM writing) "
            "ORDER BY coalesce(variance, 1) * (1 + coalesce(n, 0)) DESC, vector",
            (Origin.TRANSLATED, needs_texts),
        )
        return int(connection.execute("SELECT count(*) FROM chosen").fetchone()[0])


def reembedded(
    ledger: Ledger, target: Source, encoder: Encoder, budget: Budget, text_field: str | None
) -> Iterator[tuple[VectorBatch, list[LedgerRow]]]:
    """Yield chosen points with their true vectors, up to the budget, and what is known of them.

    Texts and payloads are those at the target, so that what is embedded is what readers get. A
    point that somebody else has written since is noted as theirs and passed over.
    """
    left = budget.texts if budget.texts is not None else budget.tokens or 0
    for ids in ledger.listed("chosen", ENCODE_BATCH):
        if left <= 0:
            return
        if budget.texts is not None:
            ids = ids[:left]
        for found in fetch_existing(target, ids):
            batch, entries = _ours(ledger, found)
            texts = batch.texts(text_field) or [None] * len(batch)
            if encoder.needs_texts:
                there = np.array([text is not None for text in texts], dtype=np.bool_)
                batch = batch.take(there)
                entries = [entry for entry, kept in zip(entries, there, strict=True) if kept]
                texts = [text for text in texts if text is not None]
            if budget.tokens is not None and len(batch):
                spent = np.cumsum(count_tokens(encoder, texts))
                fitting = int(np.searchsorted(spent, left, side="right"))
                left = left - int(spent[-1]) if fitting == len(batch) else 0
                batch, entries = batch.take(np.arange(fitting)), entries[:fitting]
                texts = texts[:fitting]
            elif budget.texts is not None:
                left -= len(batch)
            if len(batch):
                yield _encoded(batch, texts, encoder), entries


def _encoded(batch: VectorBatch, texts: list[str | None], encoder: Encoder) -> VectorBatch:
    given = [text or "" for text in texts] if encoder.needs_texts else None
    vectors = encoder.encode(given, ids=batch.ids, role="document")
    payloads = [{**payload, ORIGIN_FIELD: ENCODED} for payload in batch.each_payload()]
    return batch.with_vectors(vectors).with_payloads(payloads)


def _ours(ledger: Ledger, found: VectorBatch) -> tuple[VectorBatch, list[LedgerRow]]:
    known = [entry for entry in ledger.entries(found.ids) if entry is not None]
    hashes = target_hashes(found)
    ours = np.array([e.target == h for e, h in zip(known, hashes, strict=True)], dtype=np.bool_)
    for entry, is_ours, now in zip(known, ours.tolist(), hashes, strict=True):
        entry.origin = Origin.ENCODED if is_ours else Origin.FOREIGN
        entry.target = entry.target if is_ours else now
    ledger.settle(entry for entry in known if entry.origin is Origin.FOREIGN)
    batch = found.take(ours)
    entries = [entry for entry in known if entry.origin is Origin.ENCODED]
    note_payloads(batch, entries)
    return batch, entries


def _nearest(target: Source, queries: Vectors) -> list[IdArray]:
    found = target.search(queries, NEAREST)
    if found is not None:
        return found
    metric = target.describe().metric
    return list(exact_search(target.batches(8192, payloads=False), queries, NEAREST, metric))
