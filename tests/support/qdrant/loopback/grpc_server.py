"""The gRPC side of the loopback Qdrant server, see support.qdrant.loopback.server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from qdrant_client import grpc as q
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from support.qdrant.loopback.config import COUNTS
from support.qdrant.loopback.errors import CODES
from support.qdrant.loopback.server import (
    COMPLETED,
    VERSION,
    Engine,
    LostError,
    RefusedError,
    chosen_points,
)
from support.qdrant.loopback.wire import serialized

CONVERTED = {
    "hnsw_config": GrpcToRest.convert_hnsw_config_diff,
    "optimizers_config": GrpcToRest.convert_optimizers_config_diff,
    "wal_config": GrpcToRest.convert_wal_config_diff,
    "quantization_config": GrpcToRest.convert_quantization_config,
    "payload": GrpcToRest.convert_payload_storage_params,
    "id_tracker": GrpcToRest.convert_id_tracker_params,
    "sharding_method": GrpcToRest.convert_sharding_method,
    "strict_mode_config": GrpcToRest.convert_strict_mode_config,
}
CHANGED = {
    "optimizers_config": GrpcToRest.convert_optimizers_config_diff,
    "params": GrpcToRest.convert_collection_params_diff,
    "hnsw_config": GrpcToRest.convert_hnsw_config_diff,
    "quantization_config": GrpcToRest.convert_quantization_config_diff,
    "strict_mode_config": GrpcToRest.convert_strict_mode_config,
}


def _served(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def serve(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        key = dict(context.invocation_metadata()).get("api-key")
        self.engine.wait()
        with self.engine.lock:
            try:
                self.engine.admit(f"gRPC {method.__name__}", key, request.ByteSize())
                self.engine.heard.append((f"gRPC {method.__name__}", request))
                return method(self, request)
            except LostError as lost:
                context.abort(grpc.StatusCode.UNAVAILABLE, str(lost))
            except RefusedError as refusal:
                if refusal.retry_after is not None:
                    context.set_trailing_metadata((("retry-after", str(refusal.retry_after)),))
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
        done = self.engine.local.change_aliases(actions)
        return q.CollectionOperationResponse(result=done)

    @_served
    def Create(self, request: Any) -> Any:  # noqa: N802
        body = models.CreateCollection(
            vectors=GrpcToRest.convert_vectors_config(request.vectors_config)
            if request.HasField("vectors_config")
            else None,
            sparse_vectors=GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config)
            if request.HasField("sparse_vectors_config")
            else None,
            metadata=GrpcToRest.convert_payload(request.metadata) or None,
            **_converted(request, CONVERTED),
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
        vectors = None
        if request.HasField("vectors_config"):
            vectors = GrpcToRest.convert_vectors_config_diff(request.vectors_config)
        body = models.UpdateCollection(
            metadata=GrpcToRest.convert_payload(request.metadata),
            **_converted(request, CHANGED) | ({} if vectors is None else {"vectors": vectors}),
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
        self.engine.create_key(request.collection_name, body)
        return q.CreateShardKeyResponse(result=True)

    @_served
    def DeleteShardKey(self, request: Any) -> Any:  # noqa: N802
        key = GrpcToRest.convert_shard_key(request.request.shard_key)
        self.engine.local[request.collection_name].delete_key(key)
        return q.DeleteShardKeyResponse(result=True)

    @_served
    def CollectionClusterInfo(self, request: Any) -> Any:  # noqa: N802
        found = self.engine.local[request.collection_name].cluster()
        return RestToGrpc.convert_collection_cluster_info(found)


class Points(q.PointsServicer):
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @_served
    def Upsert(self, request: Any) -> Any:  # noqa: N802
        points = [GrpcToRest.convert_point_struct(p) for p in request.points]
        only = {"insert_only": True} if request.update_mode == q.UpdateMode.InsertOnly else {}
        self.engine.upsert(
            request.collection_name, points, _shard_key(request), _timeout(request), **only
        )
        return _completed()

    @_served
    def Delete(self, request: Any) -> Any:  # noqa: N802
        return self._change(request, "delete", request.points)

    @_served
    def UpdateVectors(self, request: Any) -> Any:  # noqa: N802
        points = [GrpcToRest.convert_point_vectors(p) for p in request.points]
        self.engine.update_vectors(
            request.collection_name, points, _shard_key(request), _timeout(request)
        )
        return _completed()

    @_served
    def DeleteVectors(self, request: Any) -> Any:  # noqa: N802
        names = list(request.vectors.names)
        return self._change(request, "delete_vectors", request.points_selector, names)

    @_served
    def SetPayload(self, request: Any) -> Any:  # noqa: N802
        return self._payload(request, "set_payload")

    @_served
    def OverwritePayload(self, request: Any) -> Any:  # noqa: N802
        return self._payload(request, "overwrite_payload")

    @_served
    def DeletePayload(self, request: Any) -> Any:  # noqa: N802
        return self._change(request, "delete_payload", request.points_selector, list(request.keys))

    @_served
    def ClearPayload(self, request: Any) -> Any:  # noqa: N802
        return self._change(request, "clear_payload", request.points)

    def _change(self, request: Any, what: str, selector: Any, *more: Any) -> Any:
        self.engine.change(
            request.collection_name,
            what,
            _chosen(selector),
            *more,
            key=_shard_key(request),
            timeout=_timeout(request),
        )
        return _completed()

    def _payload(self, request: Any, what: str) -> Any:
        chosen = _chosen(request.points_selector)
        asked = models.SetPayload(
            payload=GrpcToRest.convert_payload(request.payload),
            points=getattr(chosen, "points", None),
            filter=getattr(chosen, "filter", None),
            shard_key=_shard_key(request),
            key=request.key if request.HasField("key") else None,
        )
        self.engine.set_payload(request.collection_name, asked, what, _timeout(request))
        return _completed()

    @_served
    def CreateVectorName(self, request: Any) -> Any:  # noqa: N802
        config: models.VectorNameConfig
        if request.HasField("sparse_config"):
            idf = request.sparse_config.modifier == q.Modifier.Idf
            sparse = models.SparseVectorConfig(modifier=models.Modifier.IDF if idf else None)
            config = models.SparseVectorNameConfig(sparse=sparse)
        else:
            dense = request.dense_config
            several = dense.HasField("multivector_config")
            config = models.DenseVectorNameConfig(
                dense=models.DenseVectorConfig(
                    size=dense.size,
                    distance=GrpcToRest.convert_distance(dense.distance),
                    multivector_config=GrpcToRest.convert_multivector_config(
                        dense.multivector_config
                    )
                    if several
                    else None,
                    datatype=GrpcToRest.convert_datatype(dense.datatype)
                    if dense.HasField("datatype")
                    else None,
                )
            )
        self.engine.create_vector(request.collection_name, request.vector_name, config)
        return _completed()

    @_served
    def DeleteVectorName(self, request: Any) -> Any:  # noqa: N802
        self.engine.drop_vector(request.collection_name, request.vector_name)
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
    def DeleteFieldIndex(self, request: Any) -> Any:  # noqa: N802
        self.engine.drop_index(request.collection_name, request.field_name)
        return _completed()

    @_served
    def Count(self, request: Any) -> Any:  # noqa: N802
        asked = models.CountRequest(
            filter=_filter(request),
            exact=request.exact if request.HasField("exact") else None,
            shard_key=_shard_key(request),
        )
        count = self.engine.count(request.collection_name, asked, _timeout(request))
        return q.CountResponse(result=q.CountResult(count=count))

    @_served
    def Get(self, request: Any) -> Any:  # noqa: N802
        with_payload, with_vectors = _selectors(request)
        asked = models.PointRequest(
            ids=[GrpcToRest.convert_point_id(i) for i in request.ids],
            with_payload=with_payload,
            with_vector=with_vectors,
            shard_key=_shard_key(request),
        )
        records = self.engine.retrieve(request.collection_name, asked, _timeout(request))
        return q.GetResponse(result=map(RestToGrpc.convert_record, map(_with_payload, records)))

    @_served
    def Query(self, request: Any) -> Any:  # noqa: N802
        asked = _query(request)
        [found] = self.engine.query(
            request.collection_name, [asked], _timeout(request), batch=False
        )
        return q.QueryResponse(result=map(_scored, found))

    @_served
    def QueryBatch(self, request: Any) -> Any:  # noqa: N802
        asked = [_query(each) for each in request.query_points]
        found = self.engine.query(request.collection_name, asked, _timeout(request))
        return q.QueryBatchResponse(
            result=[q.BatchResult(result=map(_scored, points)) for points in found]
        )

    @_served
    def Scroll(self, request: Any) -> Any:  # noqa: N802
        with_payload, with_vectors = _selectors(request)
        asked = models.ScrollRequest(
            limit=request.limit if request.HasField("limit") else None,
            offset=GrpcToRest.convert_point_id(request.offset)
            if request.HasField("offset")
            else None,
            filter=_filter(request),
            with_payload=with_payload,
            with_vector=with_vectors,
            order_by=GrpcToRest.convert_order_by(request.order_by)
            if request.HasField("order_by")
            else None,
            shard_key=_shard_key(request),
        )
        records, following = self.engine.scroll(request.collection_name, asked, _timeout(request))
        return q.ScrollResponse(
            result=map(RestToGrpc.convert_record, map(_with_payload, records)),
            next_page_offset=None
            if following is None
            else RestToGrpc.convert_extended_point_id(following),
        )


def _converted(request: Any, converters: dict[str, Callable[[Any], Any]]) -> dict[str, Any]:
    return {
        name: convert(getattr(request, name))
        for name, convert in converters.items()
        if request.HasField(name)
    }


def _selectors(request: Any) -> tuple[Any, Any]:
    """What of points is asked for: nothing, unless the request says so."""
    return (
        GrpcToRest.convert_with_payload_selector(request.with_payload)
        if request.HasField("with_payload")
        else False,
        GrpcToRest.convert_with_vectors_selector(request.with_vectors)
        if request.HasField("with_vectors")
        else False,
    )


def _query(request: Any) -> models.QueryRequest:
    asked: models.QueryRequest = GrpcToRest.convert_query_points(request)
    return asked


def _filter(request: Any) -> models.Filter | None:
    return GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None


def _chosen(selector: Any) -> models.PointsSelector:
    if selector.HasField("filter"):
        return chosen_points(None, GrpcToRest.convert_filter(selector.filter))
    return chosen_points([GrpcToRest.convert_point_id(i) for i in selector.points.ids], None)


def _timeout(request: Any) -> int | None:
    return request.timeout if request.HasField("timeout") else None


def _shard_key(request: Any) -> Any:
    if not request.HasField("shard_key_selector"):
        return None
    return GrpcToRest.convert_shard_key_selector(request.shard_key_selector)


def _scored(point: models.ScoredPoint) -> Any:
    return RestToGrpc.convert_scored_point(
        point.model_copy(update={"payload": point.payload or {}})
    )


def _with_payload(record: models.Record) -> models.Record:
    return record.model_copy(update={"payload": record.payload or {}})


def _completed() -> Any:
    return q.PointsOperationResponse(result=RestToGrpc.convert_update_result(COMPLETED))


class Snapshots(q.SnapshotsServicer):
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @_served
    def List(self, request: Any) -> Any:  # noqa: N802
        kept = [q.SnapshotDescription(name=name, size=1) for name in self.engine.snapshots]
        return q.ListSnapshotsResponse(snapshot_descriptions=kept)


class Health(q.QdrantServicer):
    def HealthCheck(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return q.HealthCheckReply(title="qdrant - vector search engine", version=VERSION)


class GrpcServer:
    """Serves an engine over gRPC; a context manager."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._listen(0)

    def _listen(self, port: int) -> None:
        unlimited = [("grpc.max_receive_message_length", -1)]
        self.server = grpc.server(ThreadPoolExecutor(4), options=unlimited)
        for name, servicer in {
            "Collections": Collections(self._engine),
            "Points": Points(self._engine),
            "Snapshots": Snapshots(self._engine),
            "Qdrant": Health(),
        }.items():
            self.server.add_generic_rpc_handlers((_handlers(name, servicer),))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")

    def stop(self) -> None:
        """Go away: connections are refused until :meth:`start`."""
        self.server.stop(None).wait()

    def start(self) -> None:
        """Come back, on the same port."""
        self._listen(self.port)
        self.server.start()

    def __enter__(self) -> GrpcServer:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _handlers(name: str, servicer: object) -> grpc.GenericRpcHandler:
    """The methods of a service, as qdrant-client registers them but for the order of maps."""
    service = _service(name)
    return grpc.method_handlers_generic_handler(
        service.full_name,
        {
            method.name: grpc.unary_unary_rpc_method_handler(
                getattr(servicer, method.name),
                request_deserializer=partial(_read, GetMessageClass(method.input_type)),
                response_serializer=serialized,
            )
            for method in service.methods
        },
    )


def _read(kind: Any, message: bytes) -> Any:
    return kind.FromString(message)


def _service(name: str) -> ServiceDescriptor:
    pool = q.RetrievedPoint.DESCRIPTOR.file.pool
    return pool.FindServiceByName(f"qdrant.{name}")
