"""A Qdrant server on the loopback interface: the client's own local engine behind REST.

For what only a server shows (faults, keys, request limits, collection-wide settings) where no real
one is at hand; with VECMIGRATE_TEST_QDRANT_URL the same tests run against that one as well.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel
from qdrant_client import models
from qdrant_client.local.qdrant_local import QdrantLocal
from qdrant_loopback_shards import Shards

CONFIGS = {
    "hnsw_config": "hnsw_config",
    "optimizers_config": "optimizer_config",
    "wal_config": "wal_config",
    "quantization_config": "quantization_config",
    "strict_mode_config": "strict_mode_config",
}
COUNTS = ("shard_number", "replication_factor", "write_consistency_factor")
FAN_OUT = ("read_fan_out_factor", "read_fan_out_delay_ms")


class RefusedError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Engine:
    """Collections in memory, with the settings that the local engine itself does not keep.

    Attributes
    ----------
    faults
        Statuses to answer the next requests with, instead of carrying them out.
    lost
        True answers the next creation with 503 although it is carried out.
    served, heard
        What was asked, by method and path; and what came with it: JSON, or a gRPC message.
    """

    def __init__(self, key: str | None = None, keeps_metadata: bool = True) -> None:
        self.local = QdrantLocal(":memory:", force_disable_check_same_thread=True)
        self.lock = threading.RLock()
        self.key = key
        self.keeps_metadata = keeps_metadata
        self.settings: dict[str, dict[str, Any]] = {}
        self.indexes: dict[str, dict[str, models.PayloadIndexInfo]] = {}
        self.status = models.CollectionStatus.GREEN
        self.faults: deque[int] = deque()
        self.lost = False
        self.shards: dict[str, Shards] = {}
        self.served: list[str] = []
        self.heard: list[tuple[str, Any]] = []
        self.largest = 0

    def admit(self, what: str, key: str | None, size: int) -> None:
        """Note a request, and refuse it where a fault, a wrong key or its size says so."""
        self.served.append(what)
        self.largest = max(self.largest, size)
        if self.faults:
            raise RefusedError(self.faults.popleft(), "service is not ready")
        if self.key is not None and key != self.key:
            raise RefusedError(401, "Must provide an API key or an Authorization bearer token")

    def info(self, name: str) -> models.CollectionInfo:
        self.must_exist(name)
        info = self.local.get_collection(name)
        name = self.local.aliases.get(name, name)
        raw = info.model_dump(mode="json")
        raw["config"]["params"] |= {**dict.fromkeys(COUNTS, 1), "on_disk_payload": True}
        for key, value in self.settings[name].items():
            if key in CONFIGS and value:
                held = raw["config"].get(CONFIGS[key]) or {}
                raw["config"][CONFIGS[key]] = {**held, **value}
            elif key in raw["config"]["params"] and value is not None:
                raw["config"]["params"][key] = value
        if not self.keeps_metadata:
            raw["config"]["metadata"] = None
        found = models.CollectionInfo.model_validate(raw)
        found.payload_schema = self.indexes[name]
        found.status = self.status
        return found

    def must_exist(self, name: str) -> None:
        if not self.local.collection_exists(name):
            raise RefusedError(404, f"Not found: Collection `{name}` doesn't exist!")

    def create(self, name: str, body: models.CreateCollection) -> None:
        if self.local.collection_exists(name):
            raise RefusedError(409, f"Wrong input: Collection `{name}` already exists!")
        self.local.create_collection(
            name,
            body.vectors,
            metadata=body.metadata,
            sparse_vectors_config=body.sparse_vectors,
        )
        held = body.model_dump(
            mode="json", exclude_none=True, exclude={"vectors", "sparse_vectors", "metadata"}
        )
        self.settings[name], self.indexes[name] = held, {}
        if body.sharding_method == models.ShardingMethod.CUSTOM:
            self.shards[name] = Shards()
        if self.lost:
            self.lost = False
            raise RefusedError(503, "the answer was lost on its way")

    def update(self, name: str, body: models.UpdateCollection) -> None:
        self.must_exist(name)
        self.local.update_collection(name, metadata=body.metadata)
        if body.params is not None:
            told = body.params.model_dump(mode="json", exclude_none=True)
            self.settings[name] |= told
        if body.optimizers_config is not None:
            told = body.optimizers_config.model_dump(mode="json", exclude_none=True)
            held = self.settings[name].get("optimizers_config") or {}
            self.settings[name]["optimizers_config"] = {**held, **told}
        if body.strict_mode_config is not None:
            self.settings[name]["strict_mode_config"] = body.strict_mode_config.model_dump(
                mode="json", exclude_none=True
            )

    def upsert(
        self, name: str, points: models.Batch | list[models.PointStruct], key: object = None
    ) -> models.UpdateResult:
        if name in self.shards:
            ids = points.ids if isinstance(points, models.Batch) else [p.id for p in points]
            self.shards[name].place(ids, key)
        return self.local.upsert(name, points)

    def delete(self, name: str, ids: list[int | str], key: object = None) -> models.UpdateResult:
        if name in self.shards:
            ids = self.shards[name].under(ids, key)
        if not ids:
            return models.UpdateResult(status=models.UpdateStatus.COMPLETED)
        return self.local.delete(name, models.PointIdsList(points=ids))

    def placed(self, name: str, records: list[models.Record]) -> list[models.Record]:
        return self.shards[name].tell(records) if name in self.shards else records

    def index(self, name: str, field: str, schema: models.PayloadFieldSchema) -> None:
        if isinstance(schema, BaseModel):
            kind, params = models.PayloadSchemaType(str(schema.type.value)), schema
        else:
            kind, params = models.PayloadSchemaType(schema), None
        count = self.local.count(name).count
        self.indexes[name][field] = models.PayloadIndexInfo(
            data_type=kind, params=params, points=count
        )


class RestServer:
    """Serves an engine over REST; a context manager."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(engine))
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> RestServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def _handler(engine: Engine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            path = urlsplit(self.path).path
            with engine.lock:
                try:
                    engine.admit(f"{self.command} {path}", self.headers.get("api-key"), length)
                    parts = [unquote(part) for part in path.strip("/").split("/")]
                    content = json.loads(body) if body else {}
                    engine.heard.append((f"{self.command} {path}", content))
                    result = _route(engine, self.command, parts, content)
                    status, answer = 200, {"result": _plain(result), "status": "ok", "time": 0.0}
                except RefusedError as refusal:
                    status, answer = refusal.status, {"status": {"error": str(refusal)}}
                except ValueError as error:
                    status, answer = 400, {"status": {"error": str(error)}}
            sent = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

    return Handler


def _plain(result: Any) -> Any:
    return result.model_dump(mode="json") if isinstance(result, BaseModel) else result


def _route(engine: Engine, method: str, parts: list[str], body: dict[str, Any]) -> Any:
    local = engine.local
    if parts == ["aliases"]:
        return local.get_aliases()
    if parts == ["collections"]:
        return local.get_collections()
    if parts == ["collections", "aliases"]:
        asked = models.ChangeAliasesOperation.model_validate(body)
        return local.update_collection_aliases(asked.actions)
    name, rest = parts[1], (method, *parts[2:])
    if rest == ("PUT",):
        engine.create(name, models.CreateCollection.model_validate(body))
        return True
    if rest == ("GET", "exists"):
        return {"exists": local.collection_exists(name)}
    engine.must_exist(name)
    routes: dict[tuple[str, ...], Callable[[], Any]] = {
        ("GET",): lambda: engine.info(name),
        ("PATCH",): lambda: engine.update(name, models.UpdateCollection.model_validate(body)),
        ("DELETE",): lambda: local.delete_collection(name),
        ("PUT", "index"): lambda: _index(engine, name, body),
        ("PUT", "points"): lambda: engine.upsert(name, _points(body), body.get("shard_key")),
        ("PUT", "shards"): lambda: engine.shards[name].create(
            models.CreateShardingKey.model_validate(body)
        ),
        ("GET", "cluster"): lambda: engine.shards[name].info(),
        ("POST", "points"): lambda: [
            _plain(r)
            # A server's order is its own.
            for r in reversed(
                engine.placed(
                    name,
                    local.retrieve(
                        name, body["ids"], body.get("with_payload"), body.get("with_vector")
                    ),
                )
            )
        ],
        ("POST", "points", "delete"): lambda: engine.delete(
            name, models.PointIdsList.model_validate(body).points, body.get("shard_key")
        ),
        ("PUT", "points", "vectors"): lambda: local.update_vectors(
            name, models.UpdateVectors.model_validate(body).points
        ),
        ("POST", "points", "count"): lambda: local.count(
            name, models.CountRequest.model_validate(body).filter
        ),
        ("POST", "points", "scroll"): lambda: _scroll(engine, name, body),
        ("POST", "points", "query", "batch"): lambda: [
            _plain(response)
            for response in local.query_batch_points(
                name, models.QueryRequestBatch.model_validate(body).searches
            )
        ],
    }
    if rest[1:2] == ("vectors",):
        if method == "DELETE":
            return local.delete_vector_name(name, rest[2])
        config = models.DenseVectorNameConfig.model_validate(body)
        return local.create_vector_name(name, rest[2], config)
    result = routes[rest]()
    return True if result is None else result


def _index(engine: Engine, name: str, body: dict[str, Any]) -> models.UpdateResult:
    request = models.CreateFieldIndex.model_validate(body)
    engine.index(name, request.field_name, request.field_schema)
    return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


def _points(body: dict[str, Any]) -> models.Batch | list[models.PointStruct]:
    if "batch" in body:
        return models.PointsBatch.model_validate(body).batch
    return models.PointsList.model_validate(body).points


def _scroll(engine: Engine, name: str, body: dict[str, Any]) -> dict[str, Any]:
    records, following = engine.local.scroll(
        name,
        limit=body["limit"],
        offset=body.get("offset"),
        with_payload=body.get("with_payload"),
        with_vectors=body.get("with_vector"),
    )
    points = [_plain(r) for r in engine.placed(name, records)]
    return {"points": points, "next_page_offset": following}
