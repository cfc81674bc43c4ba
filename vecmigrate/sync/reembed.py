"""Re-embeds the translated points that are worth the most, within a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from vecmigrate.connector.source import Source, fetch_existing
from vecmigrate.encoders import Encoder, MeteredEncoder
from vecmigrate.encoders.metered import BATCH, FoundVectors, text_keys
from vecmigrate.errors import InputError, MismatchError
from vecmigrate.evaluation.search import exact_search
from vecmigrate.points.batch import IdArray, PointId, VectorBatch, Vectors
from vecmigrate.points.collection import ENCODED, ORIGIN_FIELD, CollectionDescription
from vecmigrate.state.ledger import HeldVectors, Ledger, LedgerRow, Origin, stored
from vecmigrate.sync.reconcile import note_payloads
from vecmigrate.translators import TranslatorCard

NEAREST = 10


def check_encoder(
    encoder: Encoder, card: TranslatorCard | None, target: CollectionDescription
) -> None:
    """Raise :class:`MismatchError` unless the encoder makes vectors of the target's space."""
    wanted = card.target_encoder if card else None
    if wanted is None and target.provenance is not None:
        wanted = target.provenance.encoder
    if encoder.identity.dimension != target.dimension or (
        wanted is not None and not wanted.same_as(encoder.identity)
    ):
        raise MismatchError(
            f"{target.uri} is in the space of {wanted or f'{target.dimension} dimensions'}, not of "
            f"{encoder.identity}",
            remedy="Give the encoder that made the anchors' vectors, or all of the target's.",
        )


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
    ledger.make("hits", "(id PRIMARY KEY, n INTEGER) WITHOUT ROWID")
    ledger.fill("hits", hits.items())
    ledger.list_ids(
        "chosen",
        "SELECT points.id FROM points LEFT JOIN hits USING (id) "
        "WHERE origin = ? AND (has_text IS NOT 0 OR NOT ?) "
        "AND points.id NOT IN (SELECT id FROM writing) "
        "ORDER BY coalesce(variance, 1) * (1 + coalesce(n, 0)) DESC, vector",
        Origin.TRANSLATED,
        needs_texts,
    )
    return ledger.count("chosen")


def reembedded(
    ledger: Ledger,
    target: Source,
    encoder: MeteredEncoder,
    text_field: str | None,
    refused: list[PointId],
) -> Iterator[tuple[VectorBatch, list[LedgerRow]]]:
    """Yield chosen points with their true vectors, up to the budget, and what is known of them.

    Texts and payloads are those at the target, so that what is embedded is what readers get. A
    point that somebody else has written since is noted as theirs and passed over. So are those
    whose texts the encoder does not take, which ``refused`` gathers.
    """
    for ids in ledger.listed("chosen", BATCH):
        if encoder.meter.exhausted:
            return
        for found in fetch_existing(target, ids):
            batch, entries = _ours(ledger, found, target.rounding())
            texts = batch.texts(text_field) or [None] * len(batch)
            if encoder.needs_texts:
                there = [row for row, text in enumerate(texts) if text is not None]
                batch = batch.take(np.array(there, np.intp))
                entries, texts = [entries[row] for row in there], [texts[row] for row in there]
            why: dict[int, InputError] = {}
            vectors = encoder.encode(texts, ids=batch.ids, partly=True, refused=why)
            refused += batch.ids[list(why)].tolist()
            rows = np.setdiff1d(np.arange(len(vectors)), list(why))
            if len(rows):
                made = batch.take(rows).with_vectors(vectors[rows])
                yield _marked(made), [entries[row] for row in rows.tolist()]
            if len(vectors) < len(texts):
                return


def write_back(
    ledger: Ledger,
    target: Source,
    bought: FoundVectors,
    ids: IdArray,
    text_field: str | None,
    size: int = BATCH,
) -> Iterator[tuple[VectorBatch, list[LedgerRow]]]:
    """Yield translated points with the vectors that were bought of their texts, and their rows.

    A point whose text is another one by now, or that somebody else has written, is passed over.

    Parameters
    ----------
    size
        Points that are looked at before the next are.
    """
    for start in range(0, len(ids), size):
        some = ids[start : start + size]
        some = some[~ledger.among("writing", some)]
        translated = [
            entry is not None and entry.origin is Origin.TRANSLATED
            for entry in ledger.entries(some)
        ]
        for found in fetch_existing(target, some[np.array(translated, np.bool_)]):
            batch, entries = _ours(ledger, found, target.rounding())
            texts = batch.texts(text_field) or [None] * len(batch)
            vectors = np.empty((len(batch), batch.vectors.shape[1]), np.float32)
            rows = np.flatnonzero(bought.read(text_keys(batch.ids, texts), vectors))
            if len(rows):
                made = batch.take(rows).with_vectors(vectors[rows])
                yield _marked(made), [entries[row] for row in rows.tolist()]


def _marked(batch: VectorBatch) -> VectorBatch:
    """Return points that say that their vectors are the encoder's own."""
    return batch.with_payloads(
        [{**payload, ORIGIN_FIELD: ENCODED} for payload in batch.each_payload()]
    )


def _ours(
    ledger: Ledger, found: VectorBatch, rounding: float
) -> tuple[VectorBatch, list[LedgerRow]]:
    known = [entry for entry in ledger.entries(found.ids) if entry is not None]
    held = HeldVectors(found, rounding)
    ours = np.array([held.are_as(entry, at) for at, entry in enumerate(known)], dtype=np.bool_)
    for entry, is_ours, now in zip(known, ours.tolist(), held.hashes, strict=True):
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
