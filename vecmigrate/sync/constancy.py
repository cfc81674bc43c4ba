"""Whether the encoder of a sync is the one that made the target's vectors."""

from __future__ import annotations

import numpy as np

from vecmigrate.connector.source import Source, fetch_existing, rows_by_id
from vecmigrate.encoders import MeteredEncoder
from vecmigrate.encoders.constancy import CANDIDATES, COMPARED, check_is_same
from vecmigrate.points.batch import VectorBatch, join_batches
from vecmigrate.points.checksums import source_hashes
from vecmigrate.state.ledger import HeldVectors, Ledger, Origin

_ENCODED = (
    f"SELECT id FROM points WHERE origin = {Origin.ENCODED:d} "
    f"AND id NOT IN (SELECT id FROM writing) LIMIT {CANDIDATES}"
)


def check_as_written(
    ledger: Ledger,
    source: Source,
    target: Source,
    encoder: MeteredEncoder,
    text_field: str | None,
    *,
    in_place: bool,
) -> None:
    """Embed some texts again whose vectors the target has.

    Of points that the ledger knows as the encoder's own, those are taken whose vector is as it was
    written and whose text is the same at the source.

    Raises
    ------
    MismatchError
        If the encoder gives other vectors now.
    """
    if not encoder.needs_texts:
        return
    ledger.list_ids("encoded", _ENCODED)
    for ids in ledger.listed("encoded", CANDIDATES):
        ours, theirs = fetch_existing(source, ids), fetch_existing(target, ids)
        if ours and theirs:
            batch, found = join_batches(ours), join_batches(theirs)
            texts = batch.texts(text_field) or [None] * len(batch)
            rows = _unchanged(ledger, batch, found, target, text_field, in_place=in_place)
            same = found.take(np.array(rows[:COMPARED], np.intp))
            check_is_same(
                encoder,
                same.ids,
                [texts[row] for row in rows_by_id(batch, same.ids).tolist()],
                same.vectors,
                target.as_stored if target.describe().lossy else lambda vectors: vectors,
            )


def _unchanged(
    ledger: Ledger,
    batch: VectorBatch,
    found: VectorBatch,
    target: Source,
    text_field: str | None,
    *,
    in_place: bool,
) -> list[int]:
    """Return the rows of the target's points whose vectors are of the source's texts."""
    texts = dict(
        zip(batch.ids.tolist(), batch.texts(text_field) or [None] * len(batch), strict=True)
    )
    now = dict(zip(batch.ids.tolist(), source_hashes(batch)[:, 1].tolist(), strict=True))
    held, entries = HeldVectors(found, target.rounding()), ledger.entries(found.ids)
    texts_there = found.texts(text_field) or [None] * len(found)
    rows = []
    for at, (point, entry) in enumerate(zip(found.ids.tolist(), entries, strict=True)):
        if entry is None or texts.get(point) is None or not held.are_ours(entry, at):
            continue
        # Beside a vector that was added in place the text is the source's own.
        if entry.payload == now[point] if in_place else texts_there[at] == texts[point]:
            rows.append(at)
    return rows
