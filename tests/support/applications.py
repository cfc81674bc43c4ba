"""Collections as the applications that own them write to them, through each store's own client."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from support.qdrant.places import Place

COLUMNS = {"text": pa.string(), "n": pa.int64(), "x": pa.float64(), "at": pa.int64()}
"""Payload fields that every store has a place for."""


@dataclass(frozen=True)
class Point:
    """A point without its id; ``vector`` is None if it has none."""

    vector: tuple[float, ...] | None
    payload: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> Any:
        return self.payload.get("text")


Points = dict[Any, Point]


@dataclass(frozen=True)
class Edit:
    """One request of an application's.

    Attributes
    ----------
    how
        ``put`` writes a whole point; ``vector``, ``payload`` and ``bare`` change a part of one that
        is there; ``delete`` deletes one.
    point
        The point as it is to be; None if it is to be deleted.
    """

    how: str
    id: Any
    point: Point | None


class Application(ABC):
    """Whoever writes to a collection.

    Attributes
    ----------
    uri
        The collection, as vecmigrate opens it.
    holds_bare_points
        True if a point needs no vector.
    keeps_any_payload
        False for a store with typed columns.
    writes_meanwhile
        False if nobody else can have the collection open.
    """

    uri: str
    holds_bare_points: ClassVar[bool] = False
    keeps_any_payload: ClassVar[bool] = True
    writes_meanwhile: bool = True

    @abstractmethod
    def create(self, points: Points) -> None:
        """Make the collection."""

    @abstractmethod
    def write(self, edits: Sequence[Edit], points: Points) -> None:
        """Carry out edits, after which the collection has these points."""

    @abstractmethod
    def read(self) -> Points:
        """Return all points, vectors as the store holds them."""

    def close(self) -> None:  # noqa: B027
        """Remove what is not in the folder."""


class FaissFile(Application):
    """An index with ids and its sidecar, each written beside the old one and renamed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "old.faiss"
        self.uri = f"faiss:{self._path}"

    def create(self, points: Points) -> None:
        ids = np.array(list(points), np.int64)
        index = faiss.IndexIDMap2(faiss.IndexFlatIP(_width(points)))
        index.add_with_ids(_rows(points), ids)
        lines = [json.dumps({"id": i, **point.payload}) for i, point in points.items()]
        with _replacing(self._path.with_suffix(".jsonl")) as sidecar:
            sidecar.write_text("".join(f"{line}\n" for line in lines))
        with _replacing(self._path) as file:
            faiss.write_index(index, str(file))

    def write(self, edits: Sequence[Edit], points: Points) -> None:
        self.create(points)

    def read(self) -> Points:
        index = faiss.read_index(str(self._path))
        ids = faiss.vector_to_array(index.id_map).tolist()
        lines = self._path.with_suffix(".jsonl").read_text().splitlines()
        payloads = {record.pop("id"): record for record in map(json.loads, lines)}
        rows = index.index.reconstruct_n(0, index.ntotal)
        return {
            i: Point(tuple(row), payloads[i]) for i, row in zip(ids, rows.tolist(), strict=True)
        }


class ParquetFile(Application):
    """A file that is written beside the old one and renamed."""

    keeps_any_payload = False

    def __init__(self, folder: Path) -> None:
        self._path = folder / "old.parquet"
        self.uri = f"parquet:{self._path}"

    def create(self, points: Points) -> None:
        with _replacing(self._path) as file:
            pq.write_table(_table(points), file)

    def write(self, edits: Sequence[Edit], points: Points) -> None:
        self.create(points)

    def read(self) -> Points:
        return _points(pq.read_table(self._path))


class LanceTable(Application):
    """A table that is changed row by row, each time a version of its own."""

    keeps_any_payload = False

    def __init__(self, folder: Path) -> None:
        import lancedb

        self._database = lancedb.connect(folder / "db")
        self.uri = f"lancedb:{folder}/db/old"

    def create(self, points: Points) -> None:
        self._table = self._database.create_table("old", _table(points))

    def write(self, edits: Sequence[Edit], points: Points) -> None:
        for edit in edits:
            if edit.point is None:
                self._table.delete(f"id = {edit.id!r}")
                continue
            merging = self._table.merge_insert("id").when_matched_update_all()
            rows = _table({edit.id: edit.point})
            merging.when_not_matched_insert_all().execute(rows)

    def read(self) -> Points:
        return _points(self._table.to_arrow())


class QdrantCollection(Application):
    """A collection at a server, or of embedded storage."""

    holds_bare_points = True

    def __init__(
        self,
        place: Place,
        name: str | None = None,
        distance: models.Distance = models.Distance.COSINE,
    ) -> None:
        self._place, self._distance = place, distance
        self.name = name or place.name("live")
        self.uri = place.uri(self.name)
        self.writes_meanwhile = place.kind != "embedded"

    def named(self, alias: str) -> str:
        """Give the collection another name, and return that one's URI."""
        made = models.CreateAlias(collection_name=self.name, alias_name=alias)
        with self._place.client() as client:
            client.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
        return self._place.uri(alias)

    def create(self, points: Points) -> None:
        params = models.VectorParams(size=_width(points), distance=self._distance)
        with self._place.client() as client:
            client.create_collection(self.name, vectors_config=params)
            if self.writes_meanwhile:
                client.create_payload_index(self.name, "at", models.PayloadSchemaType.INTEGER)
            client.upsert(self.name, [_struct(i, point) for i, point in points.items()])

    def write(self, edits: Sequence[Edit], points: Points) -> None:
        with self._place.client() as client:
            for edit in edits:
                self._carry_out(client, edit)

    def _carry_out(self, client: QdrantBase, edit: Edit) -> None:
        if edit.point is None:
            client.delete(self.name, models.PointIdsList(points=[edit.id]))
        elif edit.how == "payload":
            client.overwrite_payload(self.name, dict(edit.point.payload), points=[edit.id])
        elif edit.how == "vector" and edit.point.vector is not None:
            vectors = models.PointVectors(id=edit.id, vector=list(edit.point.vector))
            client.update_vectors(self.name, [vectors])
        elif edit.how == "bare":
            client.delete_vectors(self.name, [""], [edit.id])
        else:
            client.upsert(self.name, [_struct(edit.id, edit.point)])

    def read(self) -> Points:
        with self._place.client() as client:
            found, _ = client.scroll(self.name, limit=1000, with_vectors=True)
        return {record.id: Point(_vector(record.vector), record.payload or {}) for record in found}

    def close(self) -> None:
        if self._place.kind != "embedded":
            with self._place.client() as client:
                client.delete_collection(self.name)


class EdgeDirectory(Application):
    """A directory of Qdrant's engine, which one process has open at a time."""

    holds_bare_points = True
    writes_meanwhile = False

    def __init__(self, folder: Path) -> None:
        self._path = folder / "old-edge"
        self.uri = f"qdrant-edge:{self._path}"

    def create(self, points: Points) -> None:
        import qdrant_edge as edge

        params = edge.EdgeVectorParams(size=_width(points), distance=edge.Distance.Cosine)
        shard = edge.EdgeShard.create(str(self._path), edge.EdgeConfig(vectors=params))
        with closing(shard):
            made = [self._point(i, point) for i, point in points.items()]
            shard.update(edge.UpdateOperation.upsert_points(made))

    def write(self, edits: Sequence[Edit], points: Points) -> None:
        import qdrant_edge as edge

        operation = edge.UpdateOperation
        with closing(edge.EdgeShard.load(str(self._path))) as shard:
            for edit in edits:
                if edit.point is None:
                    shard.update(operation.delete_points([edit.id]))
                elif edit.how == "payload":
                    shard.update(operation.overwrite_payload([edit.id], dict(edit.point.payload)))
                elif edit.how == "bare":
                    shard.update(operation.delete_vectors([edit.id], [""]))
                else:
                    shard.update(operation.upsert_points([self._point(edit.id, edit.point)]))

    def read(self) -> Points:
        import qdrant_edge as edge

        with closing(edge.EdgeShard.load(str(self._path))) as shard:
            asked = edge.ScrollRequest(limit=1000, with_payload=True, with_vector=True)
            found, _ = shard.scroll(asked)
            return {
                r.id if isinstance(r.id, int) else str(r.id): Point(
                    _vector(r.vector), dict(r.payload or {})
                )
                for r in found
            }

    def _point(self, point_id: Any, point: Point) -> Any:
        import qdrant_edge as edge

        vector: Any = {} if point.vector is None else list(point.vector)
        return edge.Point(point_id, vector, dict(point.payload))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    beside = path.with_name(f"{path.name}.new")
    yield beside
    beside.replace(path)


def _width(points: Points) -> int:
    return next(len(point.vector) for point in points.values() if point.vector is not None)


def _rows(points: Points) -> np.ndarray:
    return np.array([point.vector for point in points.values()], np.float32)


def _table(points: Points) -> pa.Table:
    rows = _rows(points)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    columns = {
        name: pa.array([point.payload.get(name) for point in points.values()], kind)
        for name, kind in COLUMNS.items()
    }
    return pa.table({"id": pa.array(list(points)), "vector": lists, **columns})


def _points(table: pa.Table) -> Points:
    found: Points = {}
    for record in table.to_pylist():
        point_id, vector = record.pop("id"), tuple(record.pop("vector"))
        kept = {name: value for name, value in record.items() if value is not None}
        found[point_id] = Point(vector, kept)
    return found


def _struct(point_id: Any, point: Point) -> models.PointStruct:
    vector: Any = {} if point.vector is None else list(point.vector)
    return models.PointStruct(id=point_id, vector=vector, payload=dict(point.payload))


def _vector(found: Any) -> tuple[float, ...] | None:
    if isinstance(found, Mapping):
        found = found.get("")
    return None if found is None or not len(found) else tuple(found)
