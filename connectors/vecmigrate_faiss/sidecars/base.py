"""Texts and payloads beside an index, by id."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from vecmigrate.connector import InputError, Payload, PointId
from vecmigrate_faiss.lookup import IdTable, Int64s

DEFAULT_KEY = "id"


class Record(NamedTuple):
    """A sidecar's record.

    Attributes
    ----------
    faiss_id
        The id in the index.
    id
        The point's id: ``faiss_id``, or what a numbered sidecar holds instead.
    """

    faiss_id: int
    id: PointId
    payload: Payload


class Sidecar(ABC):
    """A file of records found by id, read where it lies.

    Attributes
    ----------
    numbered
        True if the points' ids are no int64: the index then has numbers, and the sidecar says
        which number is which id.
    """

    numbered = False

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold what is read."""
        return (self.path,)

    @abstractmethod
    def sample(self, limit: int) -> list[Record]:
        """Return the first records, up to ``limit``."""

    @abstractmethod
    def lookup(self, faiss_ids: Int64s) -> Sequence[Record | None]:
        """Return the record of each FAISS id, None if there is none.

        Raises
        ------
        InputError
            If the file is malformed or gives an id twice.
        """

    def lookup_originals(self, ids: Sequence[PointId]) -> Sequence[Record | None]:
        """Return the record of each point id of a numbered sidecar, None if there is none."""
        raise NotImplementedError(f"{self.path} is not numbered")

    @abstractmethod
    def close(self) -> None:
        """Release the file."""

    def refuse_repeated(self, table: IdTable, key: str) -> None:
        """Raise :class:`InputError` if ``table`` has an id twice."""
        if repeated := table.repeated():
            raise InputError(
                f"{self.path} has more than one record where {key!r} is "
                f"{', '.join(map(str, repeated))}",
                remedy="Leave one record for each id.",
            )


class NumberedRecords(Sidecar):
    """Records by the number of their vector, each with an id of its own.

    Raises
    ------
    InputError
        If two vectors have the same id.
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
