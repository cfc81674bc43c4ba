"""Records that a framework keeps of an index, held in memory as the framework itself holds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vecmigrate.connector import InputError, PointId
from vecmigrate_faiss.lookup import Int64s
from vecmigrate_faiss.sidecar import Record, Sidecar


class NumberedRecords(Sidecar):
    """Records by the number of their vector, each with an id of its own.

    Raises
    ------
    InputError
        Where two vectors have the same id.
    """

    numbered = True

    def __init__(self, path: Path, records: Iterable[Record]) -> None:
        super().__init__(path)
        self._by_number = {record.faiss_id: record for record in records}
        self._by_id: dict[PointId, Record] = {}
        for record in self._by_number.values():
            if self._by_id.setdefault(record.id, record) is not record:
                raise InputError(
                    f"{path} gives the id {record.id!r} to more than one vector",
                    remedy="Save the index again with one vector for each id.",
                )

    def sample(self, limit: int) -> list[Record]:
        return [self._by_number[number] for number in sorted(self._by_number)[:limit]]

    def lookup(self, faiss_ids: Int64s) -> Sequence[Record | None]:
        return [self._by_number.get(number) for number in faiss_ids.tolist()]

    def lookup_originals(self, ids: Sequence[PointId]) -> Sequence[Record | None]:
        return [self._by_id.get(i) for i in ids]

    def close(self) -> None:
        """Nothing is open."""
