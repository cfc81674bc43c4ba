"""One shard of the loopback server: the engine of a real server, in process.

What a real server does to numbers, vectors, filters and indexes happens here too, since it is the
same code. The engine answers within this process alone; networks, limits and shard keys are the
loopback server's own (qdrant_loopback, qdrant_loopback_strict, qdrant_loopback_shards).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from pydantic import BaseModel
from qdrant_client import models
from vecmigrate_qdrant.edge.filters import engine_filter

from support.qdrant.loopback.errors import RefusedError

PointId = int | str

# Making a shard costs some 2 ms in memory and 100 ms on a disk, for what it brings to the disk.
_MEMORY = Path("/dev/shm")
_DISTANCES = {
    models.Distance.COSINE: edge.Distance.Cosine,
    models.Distance.DOT: edge.Distance.Dot,
    models.Distance.EUCLID: edge.Distance.Euclid,
    models.Distance.MANHATTAN: edge.Distance.Manhattan,
}
_DATATYPES = {
    models.Datatype.FLOAT32: edge.VectorStorageDatatype.Float32,
    models.Datatype.FLOAT16: edge.VectorStorageDatatype.Float16,
    models.Datatype.UINT8: edge.VectorStorageDatatype.Uint8,
}
_MAX_SIM = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
_HNSW = {
    "m": 16,
    "ef_construct": 100,
    "full_scan_threshold": 10000,
    "max_indexing_threads": 1,
}
_OPTIMIZED = (
    "deleted_threshold",
    "vacuum_min_vector_number",
    "default_segment_number",
    "indexing_threshold",
)


def folder() -> Path:
    """A new folder for shards; whoever made it removes it."""
    where = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="vecmigrate-loopback-", dir=where))


class Shard:
    """The points of one shard key; ids are integers and strings.

    Raises
    ------
    RefusedError
        From a change of vectors, if a point is not there.
    ValueError
        From each method, if the engine refuses what is asked.
    """

    def __init__(self, path: Path, config: models.CollectionConfig) -> None:
        path.mkdir()
        self._path = path
        self._shard = _asked(edge.EdgeShard.create, str(path), _config(config))
        self._dirty = False

    def configure(self, config: models.CollectionConfig) -> None:
        """Take other settings, as of HNSW and of the optimiser."""
        self._shard.flush()
        self._shard.close()
        self._shard = _asked(edge.EdgeShard.load, str(self._path), _config(config))
        self._dirty = True

    def close(self) -> None:
        self._shard.close()
        shutil.rmtree(self._path)

    def tell(self, *, optimize: bool) -> edge.ShardInfo:
        """What the engine counts, once what is above the threshold is indexed if that is wanted."""
        if optimize and self._dirty:
            _asked(self._shard.optimize)
            self._dirty = False
        return self._shard.info()

    # Writing

    def upsert(self, points: Sequence[models.PointStruct]) -> None:
        self._update(
            edge.UpdateOperation.upsert_points(
                [
                    _asked(edge.Point, _id_to(p.id), vectors_to(p.vector), p.payload or {})
                    for p in points
                ]
            )
        )

    def delete(self, chosen: models.PointsSelector) -> None:
        self._update_chosen("delete_points", chosen)

    def update_vectors(self, points: Sequence[models.PointVectors]) -> None:
        self._update(
            edge.UpdateOperation.update_vectors(
                [edge.PointVectors(_id_to(p.id), vectors_to(p.vector)) for p in points]
            )
        )

    def delete_vectors(self, chosen: models.PointsSelector, names: list[str]) -> None:
        self._update_chosen("delete_vectors", chosen, names)

    def set_payload(self, chosen: models.PointsSelector, payload: Any, key: str | None) -> None:
        self._update_chosen("set_payload", chosen, payload, key)

    def overwrite_payload(
        self, chosen: models.PointsSelector, payload: Any, key: str | None
    ) -> None:
        self._update_chosen("overwrite_payload", chosen, payload, key)

    def delete_payload(self, chosen: models.PointsSelector, keys: list[str]) -> None:
        self._update_chosen("delete_payload", chosen, keys)

    def clear_payload(self, chosen: models.PointsSelector) -> None:
        self._update_chosen("clear_payload", chosen)

    def create_vector(self, name: str, config: models.VectorNameConfig) -> None:
        make = edge.UpdateOperation
        if isinstance(config, models.SparseVectorNameConfig):
            modifier = edge.Modifier.Idf if config.sparse.modifier else None
            self._update(make.create_sparse_vector(name, modifier))
            return
        dense = config.dense
        several = None if dense.multivector_config is None else _MAX_SIM
        datatype = None if dense.datatype is None else _DATATYPES[dense.datatype]
        self._update(
            make.create_dense_vector(
                name, dense.size, _DISTANCES[dense.distance], several, datatype
            )
        )

    def delete_vector(self, name: str) -> None:
        self._update(edge.UpdateOperation.delete_vector_name(name))

    def index(self, field: str, kind: models.PayloadSchemaType) -> None:
        """Index a field; parameters matter to speed alone, but for those of texts."""
        schema = getattr(edge.PayloadSchemaType, kind.value.capitalize())
        self._update(edge.UpdateOperation.create_field_index(field, schema))

    def delete_index(self, field: str) -> None:
        self._update(edge.UpdateOperation.delete_field_index(field))

    def _update_chosen(self, what: str, chosen: models.PointsSelector, *more: Any) -> None:
        if isinstance(chosen, models.FilterSelector):
            operation = getattr(edge.UpdateOperation, f"{what}_by_filter", None)
            if operation is None:
                # A real server finds the points of this one first, too.
                found, _ = self.scroll(models.ScrollRequest(filter=chosen.filter, limit=2**31))
                chosen = models.PointIdsList(points=[record.id for record in found])
            else:
                self._update(operation(filter_to(chosen.filter), *more))
                return
        ids = [_id_to(i) for i in chosen.points]
        self._update(getattr(edge.UpdateOperation, what)(ids, *more))

    def _update(self, operation: edge.UpdateOperation) -> None:
        _asked(self._shard.update, operation)
        self._dirty = True

    # Reading

    def retrieve(
        self, ids: Sequence[PointId], payload: Any = None, vectors: Any = None
    ) -> list[models.Record]:
        found = _asked(
            self._shard.retrieve,
            [_id_to(i) for i in ids],
            payload_to(False if payload is None else payload),
            vectors or False,
        )
        return [_record(record, payload) for record in found]

    def scroll(self, request: models.ScrollRequest) -> tuple[list[models.Record], PointId | None]:
        payload = True if request.with_payload is None else request.with_payload
        asked = edge.ScrollRequest(
            offset=None if request.offset is None else _id_to(request.offset),
            limit=request.limit,
            filter=filter_to(request.filter),
            with_payload=payload_to(payload),
            with_vector=request.with_vector or False,
            order_by=_order_to(request.order_by),
        )
        found, following = _asked(self._shard.scroll, asked)
        return (
            [_record(record, payload) for record in found],
            None if following is None else _id_from(following),
        )

    def count(self, request: models.CountRequest) -> int:
        exact = request.exact is not False
        return int(
            _asked(
                self._shard.count,
                edge.CountRequest(exact=exact, filter=filter_to(request.filter)),
            )
        )

    def query(self, request: models.QueryRequest) -> list[models.ScoredPoint]:
        if request.prefetch or (
            isinstance(request.query, BaseModel)
            and not isinstance(request.query, models.NearestQuery | models.SparseVector)
        ):
            raise ValueError("Wrong input: the loopback server searches by vectors alone")
        vector = request.query
        if isinstance(vector, models.NearestQuery):
            vector = vector.nearest
        asked = edge.QueryRequest(
            limit=10 if request.limit is None else request.limit,
            offset=request.offset or 0,
            query=edge.Query.Nearest(_vector_to(vector), request.using or None),
            with_payload=payload_to(request.with_payload or False),
            with_vector=request.with_vector or False,
            filter=filter_to(request.filter),
            score_threshold=request.score_threshold,
            params=_params_to(request.params),
        )
        return [
            models.ScoredPoint(
                id=_id_from(point.id),
                version=point.version,
                score=point.score,
                payload=point.payload if request.with_payload else None,
                vector=vectors_from(point.vector),
            )
            for point in _asked(self._shard.query, asked)
        ]


def _asked(request: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return request(*arguments)
    except Exception as refusal:  # The engine knows no narrower one.
        if str(refusal).startswith("No point with id"):
            raise RefusedError(404, f"Not found: {refusal} found") from refusal
        raise ValueError(f"Wrong input: {refusal}") from refusal


def _config(config: models.CollectionConfig) -> edge.EdgeConfig:
    params = config.params
    vectors = params.vectors or {}
    if isinstance(vectors, models.VectorParams):
        vectors = {"": vectors}
    told = config.optimizer_config.model_dump(include=set(_OPTIMIZED), exclude_none=True)
    return edge.EdgeConfig(
        vectors={name: _vector_params(each) for name, each in vectors.items()},
        sparse_vectors={
            name: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf if each.modifier else None)
            for name, each in (params.sparse_vectors or {}).items()
        },
        hnsw_config=_hnsw(config.hnsw_config),
        quantization_config=_quantization(config.quantization_config),
        optimizers=edge.EdgeOptimizersConfig(**told),
        max_search_threads=1,
        wal_enabled=False,
    )


def _vector_params(params: models.VectorParams) -> edge.EdgeVectorParams:
    return edge.EdgeVectorParams(
        params.size,
        _DISTANCES[params.distance],
        multivector_config=None if params.multivector_config is None else _MAX_SIM,
        datatype=None if params.datatype is None else _DATATYPES[params.datatype],
        hnsw_config=None if params.hnsw_config is None else _hnsw(params.hnsw_config),
        quantization_config=_quantization(params.quantization_config),
    )


def _hnsw(config: BaseModel) -> edge.HnswIndexConfig:
    told = config.model_dump(include={*_HNSW, "payload_m"}, exclude_none=True)
    return edge.HnswIndexConfig(**{**_HNSW, **told})


def _quantization(config: models.QuantizationConfig | None) -> Any:
    if isinstance(config, models.ScalarQuantization):
        return edge.ScalarQuantizationConfig(edge.ScalarType.Int8, config.scalar.quantile)
    if isinstance(config, models.ProductQuantization):
        compression = config.product.compression.value.upper()
        return edge.ProductQuantizationConfig(getattr(edge.CompressionRatio, compression))
    if isinstance(config, models.BinaryQuantization):
        encoding = config.binary.encoding
        return edge.BinaryQuantizationConfig(
            encoding=encoding and getattr(edge.BinaryQuantizationEncoding, _camel(encoding.value))
        )
    # Turbo quantisation's codes are not needed to answer: the vectors themselves are there.
    return None


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _id_to(point_id: Any) -> Any:
    return point_id if isinstance(point_id, int) else str(point_id)


def _id_from(point_id: Any) -> PointId:
    return str(point_id) if isinstance(point_id, uuid.UUID) else point_id


def vectors_to(vectors: Any) -> Any:
    """Vectors of a point in the client's models, as the engine takes them."""
    if vectors is None:
        return {}
    if isinstance(vectors, dict):
        return {name: _vector_to(vector) for name, vector in vectors.items()}
    return _vector_to(vectors)


def _vector_to(vector: Any) -> Any:
    if isinstance(vector, models.SparseVector):
        return edge.SparseVector(vector.indices, vector.values)
    return vector


def vectors_from(vectors: Any) -> Any:
    """Vectors of a point as the server answers them; None if none were asked for."""
    if isinstance(vectors, dict):
        return {name: vectors_from(vector) for name, vector in vectors.items()}
    if isinstance(vectors, edge.SparseVector):
        return models.SparseVector(indices=vectors.indices, values=vectors.values)
    return vectors


def _record(record: edge.Record, payload: Any) -> models.Record:
    return models.Record(
        id=_id_from(record.id),
        payload=record.payload if payload else None,
        vector=vectors_from(record.vector),
        order_value=record.order_value,
    )


def payload_to(selector: Any) -> Any:
    if isinstance(selector, models.PayloadSelectorInclude):
        return edge.PayloadSelector.Include(selector.include)
    if isinstance(selector, models.PayloadSelectorExclude):
        return edge.PayloadSelector.Exclude(selector.exclude)
    return selector


def _order_to(order: models.OrderByInterface | None) -> edge.OrderBy | None:
    if order is None:
        return None
    if isinstance(order, str):
        return edge.OrderBy(order)
    direction = edge.Direction.Desc if order.direction == models.Direction.DESC else None
    return edge.OrderBy(order.key, direction, order.start_from)


def _params_to(params: models.SearchParams | None) -> edge.SearchParams | None:
    if params is None:
        return None
    quantization = params.quantization
    return edge.SearchParams(
        hnsw_ef=params.hnsw_ef,
        exact=bool(params.exact),
        indexed_only=bool(params.indexed_only),
        quantization=None
        if quantization is None
        else edge.QuantizationSearchParams(
            bool(quantization.ignore), quantization.rescore, quantization.oversampling
        ),
    )


def filter_to(wanted: models.Filter | None) -> edge.Filter | None:
    """A filter in the client's models, as the engine takes it."""
    found: edge.Filter | None = _asked(engine_filter, wanted)
    return found
