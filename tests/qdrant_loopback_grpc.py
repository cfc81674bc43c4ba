"""The gRPC side of the loopback Qdrant server, see qdrant_loopback."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any

import grpc
from qdrant_client import grpc as q
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_loopback import COUNTS, Engine, RefusedError

CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    503: grpc.StatusCode.UNAVAILABLE,
}
CONVERTED = {
    "hnsw_config": GrpcToRest.convert_hnsw_config_diff,
    "optimizers_config": GrpcToRest.convert_optimizers_config_diff,
    "wal_config": GrpcToRest.convert_wal_config_diff,
    "quantization_config": GrpcToRest.convert_quantization_config,
    "payload": GrpcToRest.convert_payload_storage_params,
    "id_tracker": GrpcToRest.convert_id_tracker_params,
    "sharding_method": GrpcToRest.convert_sharding_method,
}


def _served(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def serve(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        key = dict(context.invocation_metadata()).get("api-key")
        with self.engine.lock:
            try:
                self.engine.admit(f"gRPC {method.__name__}", key, request.ByteSize())
                self.engine.heard.append((f"gRPC {method.__name__}", request))
                return method(self, request)
            except RefusedError as refusal:
                context.abort(CODES[refusal.status], str(refusal))
            except ValueError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    return serve


class Collections(q.CollectionsServicer):
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @_served
    def Get(self, request: Any) -> Any:  # noqa: N802
        info = self.engine.info(request.collection_name)
        return q.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    @_served
    def List(self, request: Any) -> Any:  # noqa: N802
        names = [c.name for c in self.engine.local.get_collections().collections]
        return q.ListCollectionsResponse(
            collections=[q.CollectionDescription(name=n) for n in names]
        )

    @_served
    def CollectionExists(self, request: Any) -> Any:  # noqa: N802
        exists = self.engine.local.collection_exists(request.collection_name)
        return q.CollectionExistsResponse(result=q.CollectionExists(exists=exists))

    @_served
    def ListAliases(self, request: Any) -> Any:  # noqa: N802
        found = self.engine.local.get_aliases().aliases
        return q.ListAliasesResponse(aliases=map(RestToGrpc.convert_alias_description, found))

    @_served
    def UpdateAliases(self, request: Any) -> Any:  # noqa: N802
        actions = [GrpcToRest.convert_alias_operations(action) for action in request.actions]
        done = self.engine.local.update_collection_aliases(actions)
        return q.CollectionOperationResponse(result=done)

    @_served
    def Create(self, request: Any) -> Any:  # noqa: N802
        body = models.CreateCollection(
            vectors=GrpcToRest.convert_vectors_config(request.vectors_config),
            sparse_vectors=GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config)
            if request.HasField("sparse_vectors_config")
            else None,
            metadata=GrpcToRest.convert_payload(request.metadata),
            **{
                name: convert(getattr(request, name))
                for name, convert in CONVERTED.items()
                if request.HasField(name)
            },
            **{
                name: getattr(request, name)
                for name in (*COUNTS, "on_disk_payload")
                if request.HasField(name)
            },
        )
        self.engine.create(request.collection_name, body)
        return q.CollectionOperationResponse(result=True)

    @_served
    def Update(self, request: Any) -> Any:  # noqa: N802
        strict = None
        if request.HasField("strict_mode_config"):
            strict = GrpcToRest.convert_strict_mode_config(request.strict_mode_config)
        params = None
        if request.HasField("params"):
            params = GrpcToRest.convert_collection_params_diff(request.params)
        optimizers = None
        if request.HasField("optimizers_config"):
            optimizers = GrpcToRest.convert_optimizers_config_diff(request.optimizers_config)
        body = models.UpdateCollection(
            optimizers_config=optimizers,
            metadata=GrpcToRest.convert_payload(request.metadata),
            strict_mode_config=strict,
            params=params,
        )
        self.engine.update(request.collection_name, body)
        return q.CollectionOperationResponse(result=True)

    @_served
    def Delete(self, request: Any) -> Any:  # noqa: N802
        done = self.engine.local.delete_collection(request.collection_name)
        return q.CollectionOperationResponse(result=done)

    @_served
    def CreateShardKey(self, request: Any) -> Any:  # noqa: N802
        body = GrpcToRest.convert_create_shard_key(request.request)
        self.engine.shards[request.collection_name].create(body)
        return q.CreateShardKeyResponse(result=True)

    @_served
    def CollectionClusterInfo(self, request: Any) -> Any:  # noqa: N802
        found = self.engine.shards[request.collection_name].info()
        return RestToGrpc.convert_collection_cluster_info(found)


class Points(q.PointsServicer):
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @_served
    def Upsert(self, request: Any) -> Any:  # noqa: N802
        points = [GrpcToRest.convert_point_struct(p) for p in request.points]
        self.engine.upsert(request.collection_name, points, _shard_key(request))
        return _completed()

    @_served
    def Delete(self, request: Any) -> Any:  # noqa: N802
        ids = [GrpcToRest.convert_point_id(i) for i in request.points.points.ids]
        self.engine.delete(request.collection_name, ids, _shard_key(request))
        return _completed()

    @_served
    def UpdateVectors(self, request: Any) -> Any:  # noqa: N802
        points = [GrpcToRest.convert_point_vectors(p) for p in request.points]
        self.engine.local.update_vectors(request.collection_name, points)
        return _completed()

    @_served
    def CreateVectorName(self, request: Any) -> Any:  # noqa: N802
        dense = request.dense_config
        several = dense.HasField("multivector_config")
        config = models.DenseVectorConfig(
            size=dense.size,
            distance=GrpcToRest.convert_distance(dense.distance),
            multivector_config=GrpcToRest.convert_multivector_config(dense.multivector_config)
            if several
            else None,
        )
        self.engine.local.create_vector_name(
            request.collection_name,
            request.vector_name,
            models.DenseVectorNameConfig(dense=config),
        )
        return _completed()

    @_served
    def DeleteVectorName(self, request: Any) -> Any:  # noqa: N802
        self.engine.local.delete_vector_name(request.collection_name, request.vector_name)
        return _completed()

    @_served
    def CreateFieldIndex(self, request: Any) -> Any:  # noqa: N802
        name = q.FieldType.Name(request.field_type).removeprefix("FieldType").lower()
        schema: Any = models.PayloadSchemaType(name)
        if request.HasField("field_index_params"):
            schema = GrpcToRest.convert_payload_schema_params(request.field_index_params)
        self.engine.index(request.collection_name, request.field_name, schema)
        return _completed()

    @_served
    def Count(self, request: Any) -> Any:  # noqa: N802
        wanted = GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None
        count = self.engine.local.count(request.collection_name, wanted).count
        return q.CountResponse(result=q.CountResult(count=count))

    @_served
    def Get(self, request: Any) -> Any:  # noqa: N802
        records = self.engine.local.retrieve(
            request.collection_name,
            [GrpcToRest.convert_point_id(i) for i in request.ids],
            *_selectors(request),
        )
        records = self.engine.placed(request.collection_name, records)
        return q.GetResponse(result=map(RestToGrpc.convert_record, map(_with_payload, records)))

    @_served
    def QueryBatch(self, request: Any) -> Any:  # noqa: N802
        answers = []
        for query in request.query_points:
            found = self.engine.local.query_points(
                request.collection_name,
                list(query.query.nearest.dense.data),
                using=query.using or None,
                limit=query.limit,
            )
            points = map(RestToGrpc.convert_scored_point, found.points)
            answers.append(q.BatchResult(result=points))
        return q.QueryBatchResponse(result=answers)

    @_served
    def Scroll(self, request: Any) -> Any:  # noqa: N802
        with_payload, with_vectors = _selectors(request)
        records, following = self.engine.local.scroll(
            request.collection_name,
            limit=request.limit,
            offset=GrpcToRest.convert_point_id(request.offset)
            if request.HasField("offset")
            else None,
            with_payload=with_payload,
            with_vectors=with_vectors,
        )
        records = self.engine.placed(request.collection_name, records)
        return q.ScrollResponse(
            result=map(RestToGrpc.convert_record, map(_with_payload, records)),
            next_page_offset=None
            if following is None
            else RestToGrpc.convert_extended_point_id(following),
        )


def _selectors(request: Any) -> tuple[Any, Any]:
    return (
        GrpcToRest.convert_with_payload_selector(request.with_payload),
        GrpcToRest.convert_with_vectors_selector(request.with_vectors),
    )


def _shard_key(request: Any) -> Any:
    if not request.HasField("shard_key_selector"):
        return None
    return GrpcToRest.convert_shard_key_selector(request.shard_key_selector)


def _with_payload(record: models.Record) -> models.Record:
    return record.model_copy(update={"payload": record.payload or {}})


def _completed() -> Any:
    result = models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)
    return q.PointsOperationResponse(result=RestToGrpc.convert_update_result(result))


class Health(q.QdrantServicer):
    def HealthCheck(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return q.HealthCheckReply(title="loopback", version="1.20.0")


class GrpcServer:
    """Serves an engine over gRPC; a context manager."""

    def __init__(self, engine: Engine) -> None:
        unlimited = [("grpc.max_receive_message_length", -1)]
        self.server = grpc.server(ThreadPoolExecutor(4), options=unlimited)
        q.add_CollectionsServicer_to_server(Collections(engine), self.server)
        q.add_PointsServicer_to_server(Points(engine), self.server)
        q.add_QdrantServicer_to_server(Health(), self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> GrpcServer:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop(None).wait()
