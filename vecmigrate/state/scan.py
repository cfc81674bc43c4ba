"""What a source has now, beside what a ledger knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np

from vecmigrate.connector.source import Source
from vecmigrate.errors import InputError, UsageError
from vecmigrate.points.batch import PointId, VectorBatch
from vecmigrate.points.checksums import source_hashes
from vecmigrate.runtime.threads import prefetch
from vecmigrate.state.ledger import Ledger, stored

BY_HASH, BY_IDS = "hash", "ids"

_SEEN = "(id PRIMARY KEY, vector INTEGER, payload INTEGER, bare INTEGER) WITHOUT ROWID"

ARRIVING = "SELECT id FROM seen WHERE NOT bare AND id NOT IN (SELECT id FROM points)"
"""Points with a vector that the ledger does not know."""
_DIFFERS = """
(seen.vector IS NOT NULL
 AND (seen.vector IS NOT points.vector OR seen.payload IS NOT points.payload))
OR points.vector IS NULL
OR seen.id IN (SELECT id FROM writing)
"""
CHANGED = f"""
SELECT seen.id AS id FROM seen JOIN points ON points.id = seen.id WHERE NOT bare AND ({_DIFFERS})
"""
"""Points with a vector that are not as the ledger knows them."""
BARE = f"SELECT seen.id AS id FROM seen LEFT JOIN points USING (id) WHERE bare AND ({_DIFFERS})"
"""Points without a vector that are not as the ledger knows them."""


def scan_source(
    source: Source, ledger: Ledger, changed_by: str, batch_size: int, *, bare: bool
) -> float | None:
    """Note in the temporary table ``seen`` what the source has; return the latest time of change.

    Parameters
    ----------
    changed_by
        ``hash``, ``ids``, or the payload field with a point's time of change.
    bare
        Note points without a vector too, since the target can hold them so. If not, such a point is
        none, and what the target has of it has vanished.

    Raises
    ------
    InputError
        If that field holds no time.
    UsageError
        If no point of the source has that field.
    """
    ledger.make("seen", _SEEN)
    since = ledger.fact("latest") or {}
    least = since.get("value") if since.get("field") == changed_by else None
    latest: float | None = least
    changed = None if least is None else source.changed_since(changed_by, least, batch_size)
    if changed_by == BY_IDS or changed is not None:
        for ids in prefetch(source.ids(batch_size)):
            _saw(ledger, [(stored(i), None, None) for i in ids.tolist()])
    if changed_by == BY_IDS:
        return None
    if changed is None:
        changed = source.whole_batches(batch_size)
        if changed_by != BY_HASH:
            changed = _having(changed_by, changed, source)
    for whole in prefetch(changed):
        batch = whole.with_one_vector()
        if bare and whole.counts is not None:
            _saw(ledger, _hashed(whole.take(whole.counts == 0)), bare=True)
        if changed_by == BY_HASH:
            _saw(ledger, _hashed(batch))
            continue
        keys = list(map(stored, batch.ids.tolist()))
        times = _times(batch, changed_by)
        known = times[~np.isnan(times)]
        if len(known):
            latest = float(known.max()) if latest is None else max(float(known.max()), latest)
        # At the very time of the last one, another may have been written after it was read.
        read = np.flatnonzero(times >= (-np.inf if least is None else least))
        rows: list[tuple[Any, int | None, int | None]] = [(key, None, None) for key in keys]
        for at, row in zip(read.tolist(), _hashed(batch.take(read)), strict=True):
            rows[at] = row
        _saw(ledger, rows)
    return latest


def _hashed(batch: VectorBatch) -> list[tuple[Any, int | None, int | None]]:
    hashes = source_hashes(batch).tolist()
    keys = map(stored, batch.ids.tolist())
    return [(key, vector, payload) for key, (vector, payload) in zip(keys, hashes, strict=True)]


def _having(field: str, batches: Iterator[VectorBatch], source: Source) -> Iterator[VectorBatch]:
    """Yield all points of a source; raises :class:`UsageError` at their end if none has a field."""
    names: set[str] = set()
    read = 0
    for batch in batches:
        read += len(batch)
        if field not in names:
            for payload in batch.each_payload():
                names.update(name for name, value in payload.items() if value is not None)
        yield batch
    if read and field not in names:
        described = source.describe()
        known = sorted(names.union(described.payload_fields) - {field})
        raise UsageError(
            f"no point of {described.uri} has the payload field {field!r}, by which no change "
            "would be noticed",
            remedy=f"Name the field with the time of change by --changed-by; there are: "
            f"{', '.join(known) or 'none'}. Or use --changed-by hash.",
        )


def _saw(
    ledger: Ledger, rows: list[tuple[Any, int | None, int | None]], *, bare: bool = False
) -> None:
    ledger.fill("seen", ((*row, bare) for row in rows))


def _times(batch: VectorBatch, field: str) -> Any:
    given = [payload.get(field) for payload in batch.each_payload()]
    return np.array(
        [_time(value, field, i) for value, i in zip(given, batch.ids.tolist(), strict=True)],
        dtype=np.float64,
    )


def _time(value: Any, field: str, point_id: PointId) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the field {field!r} of point {point_id!r} holds no time ({value!r})",
            remedy="Name a field with numbers or ISO 8601 times, or use --changed-by hash.",
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
