"""What a migration in place notes for the syncs that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vecmigrate.connector.addresses import followed_uri
from vecmigrate.points.batch import VectorBatch
from vecmigrate.state import transaction
from vecmigrate.sync.judging import target_hashes
from vecmigrate.sync.ledger import Entry, Origin, ledger_path, open_ledger


@contextmanager
def begun_ledger(state: Path, target: str) -> Iterator[Callable[[VectorBatch], None]]:
    """Begin the ledger of a vector that was just added in place; yields what notes its points.

    Points of a new collection are known by comparing them. On the source's own points that would
    not do: what changes, or loses its old vector, before the first sync would be taken for what
    somebody else wrote.

    Raises
    ------
    InputError, MismatchError, WriteError
        As :func:`open_state`.
    """
    with open_ledger(ledger_path(state, followed_uri(target))) as ledger:
        with transaction(ledger.connection) as connection:
            for table in ("points", "writing", "facts"):
                connection.execute(f"DELETE FROM {table}")

        def note(batch: VectorBatch) -> None:
            ledger.settle(
                Entry(point_id, None, 0, Origin.TRANSLATED, target=held)
                for point_id, held in zip(batch.ids.tolist(), target_hashes(batch), strict=True)
            )

        yield note
