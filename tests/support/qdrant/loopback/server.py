"""A Qdrant server on the loopback interface: the engine of a real server behind REST.

For what only a server shows (faults, keys, limits, shard keys, orders of its own) where no real one
is at hand; with VECMIGRATE_TEST_QDRANT_URL the same tests run against that one as well. Statuses,
sentences, rules and roundings are those of Qdrant 1.18.3, and compared with a real server's by
tests/integration/connectors/qdrant/test_standin.py.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel
from qdrant_client import models

from support.qdrant.loopback.config import (
    SETTINGS,
    configured,
    kept_index,
    reconfigured,
    stricter,
    told_strict,
)
from support.qdrant.loopback.engine import PointId
from support.qdrant.loopback.errors import LostError, RefusedError
from support.qdrant.loopback.numbers import read_json, shuffled
from support.qdrant.loopback.shards import Collection, Collections, Points, ShardKey

__all__ = ["Engine", "LostError", "RefusedError", "RestServer"]


VERSION = "1.18.3"
MOVES_ALIASES = ("POST /collections/aliases", "gRPC UpdateAliases")
COMPLETED = models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


class Engine:
    """Collections in memory, behind the rules of a server.

    Attributes
    ----------
    local
        The collections, without networks and limits.
    status
        Of all collections, instead of what each one's own is.
    faults
        What to answer the next requests with, instead of carrying them out: statuses, or answers
        with words of their own.
    lost
        True answers the next creation with 503 although it is carried out.
    losing
        How many of the next changes of points are carried out and never answered.
    away
        True answers all requests with 503, as what stands before a server that restarts does.
    delay
        Seconds before each request is carried out.
    disk_percent, disk_full
        How full the node's disk is, and whether nothing more can be written at all.
    memory_percent
        How full the node's memory is.
    reader_key
        A key that may not move aliases.
    in_cluster
        False if it is not in cluster mode: no shard key can be made.
    most_disk_percent
        The ``max_disk_usage_percent`` that the node gives to new collections.
    snapshots
        Names of those that each collection is said to have.
    served, heard
        What was asked, by method and path; and what came with it: JSON, or a gRPC message.
    """

    def __init__(self, key: str | None = None, keeps_metadata: bool = True) -> None:
        self.local = Collections()
        self.lock = threading.RLock()
        self.key = key
        self.reader_key: str | None = None
        self.keeps_metadata = keeps_metadata
        self.status = models.CollectionStatus.GREEN
        self.faults: deque[int | RefusedError] = deque()
        self.lost = False
        self.losing = 0
        self.away = False
        self.delay = 0.0
        self.disk_percent = self.memory_percent = 0
        self.disk_full = False
        self.in_cluster = True
        self.most_disk_percent: int | None = None
        self.served: list[str] = []
        self.heard: list[tuple[str, Any]] = []
        self.snapshots: list[str] = []
        self.largest = 0

    def wait(self) -> None:
        """Take the time that an answer takes; others are answered meanwhile."""
        time.sleep(self.delay)

    def admit(self, what: str, key: str | None, size: int) -> None:
        """Note a request, and refuse it if a fault, a wrong key or an absence says so."""
        self.served.append(what)
        self.largest = max(self.largest, size)
        if self.faults:
            fault = self.faults.popleft()
            if isinstance(fault, RefusedError):
                raise fault
            raise RefusedError(fault, "service is not ready")
        if self.away:
            raise RefusedError(503, "service is not ready")
        if key is not None and key == self.reader_key:
            if what in MOVES_ALIASES:
                raise RefusedError(403, "Global manage access is required")
        elif self.key is not None and key != self.key:
            raise RefusedError(401, "Must provide an API key or an Authorization bearer token")

    # Collections

    def info(self, name: str) -> models.CollectionInfo:
        collection = self.local[name]
        config = collection.config.model_copy(deep=True)
        if not self.keeps_metadata:
            config.metadata = None
        status = self.status
        if status == models.CollectionStatus.GREEN:
            stalled = models.CollectionStatus.YELLOW if collection.is_stalled() else status
            status = collection.status or stalled
        schema = {
            field: index.model_copy(update={"points": collection.indexed(field)})
            for field, index in shuffled(collection.indexes).items()
        }
        return models.CollectionInfo(
            status=status,
            optimizer_status=models.OptimizersStatusOneOf.OK,
            config=config,
            payload_schema=schema,
            **collection.tell(),
        )

    def create(self, name: str, body: models.CreateCollection) -> None:
        if self.local.collection_exists(name):
            raise RefusedError(409, f"Wrong input: Collection `{name}` already exists!")
        made = self.local.create(name, configured(body))
        made.limits.configure(body.strict_mode_config)
        made.limits.most_disk_percent = self.most_disk_percent
        if self.lost:
            self.lost = False
            raise RefusedError(503, "the answer was lost on its way")

    def update(self, name: str, body: models.UpdateCollection) -> None:
        collection = self.local[name]
        collection.config = reconfigured(collection.config, body)
        if body.strict_mode_config is not None:
            strict = stricter(collection.limits.told, body.strict_mode_config)
            collection.limits.configure(strict)
            collection.config.strict_mode_config = told_strict(strict)
        collection.configure(anew=bool(body.model_fields_set & SETTINGS))

    def turn_grey(self, name: str) -> None:
        """As after a restart: what is to be indexed waits for a change of the collection."""
        self.local[name].status = models.CollectionStatus.GREY

    def index(self, name: str, field: str, schema: models.PayloadFieldSchema) -> None:
        collection = self.local[name]
        params = kept_index(schema) if isinstance(schema, BaseModel) else None
        kind = models.PayloadSchemaType(str(schema.type.value) if params is not None else schema)
        collection.each("index", field, kind)
        collection.indexes[field] = models.PayloadIndexInfo(data_type=kind, params=params, points=0)

    def drop_index(self, name: str, field: str) -> None:
        collection = self.local[name]
        collection.each("delete_index", field)
        collection.indexes.pop(field, None)

    def create_vector(self, name: str, vector: str, config: models.VectorNameConfig) -> None:
        collection = self.local[name]
        collection.limits.check_node(self.disk_percent, self.memory_percent)
        collection.each("create_vector", vector, config)
        params = collection.config.params
        if isinstance(config, models.SparseVectorNameConfig):
            sparse = models.SparseVectorParams(modifier=config.sparse.modifier)
            params.sparse_vectors = {**(params.sparse_vectors or {}), vector: sparse}
            return
        dense = models.VectorParams(
            size=config.dense.size,
            distance=config.dense.distance,
            datatype=config.dense.datatype,
            multivector_config=config.dense.multivector_config,
        )
        held = params.vectors or {}
        if isinstance(held, models.VectorParams):
            held = {"": held}
        params.vectors = dict(sorted({**held, vector: dense}.items()))

    def drop_vector(self, name: str, vector: str) -> None:
        collection = self.local[name]
        collection.each("delete_vector", vector)
        params = collection.config.params
        if isinstance(params.vectors, dict):
            params.vectors = {n: each for n, each in params.vectors.items() if n != vector}
        if params.sparse_vectors is not None:
            left = {n: each for n, each in params.sparse_vectors.items() if n != vector}
            params.sparse_vectors = left or None

    # Writing points

    def upsert(
        self,
        name: str,
        points: Points,
        key: ShardKey | None = None,
        timeout: int | None = None,
        *,
        insert_only: bool = False,
    ) -> models.UpdateResult:
        count = len(points.ids) if isinstance(points, models.Batch) else len(points)
        self._may_grow(self.local[name], count, "upsert limit", timeout)
        if insert_only:
            points = self.local[name].new_among(points, key)
        # Some tests put a function of two arguments in the place of this one.
        self.local.upsert(name, points, *([] if key is None else [key]))
        return self._changed(name)

    def update_vectors(
        self,
        name: str,
        points: list[models.PointVectors],
        key: ShardKey | None = None,
        timeout: int | None = None,
    ) -> models.UpdateResult:
        self._may_grow(self.local[name], len(points), "update limit", timeout)
        self.local[name].change("update_vectors", key, points)
        return self._changed(name)

    def set_payload(
        self, name: str, request: models.SetPayload, what: str, timeout: int | None = None
    ) -> models.UpdateResult:
        """Set or overwrite payloads, by the name of the shard's method."""
        collection = self.local[name]
        self._may_grow(collection, None, "", timeout)
        chosen = chosen_points(request.points, request.filter)
        collection.limits.check_update_filter(request.filter, collection.indexes)
        key = single_key(request.shard_key)
        collection.change(what, key, chosen, request.payload, request.key)
        return self._changed(name)

    def change(
        self,
        name: str,
        what: str,
        chosen: models.PointsSelector,
        *more: Any,
        key: Any = None,
        timeout: int | None = None,
    ) -> models.UpdateResult:
        """Remove points or something of them, by the name of the shard's method."""
        collection = self.local[name]
        if isinstance(chosen, models.FilterSelector):
            collection.limits.check_update_filter(chosen.filter, collection.indexes)
        collection.limits.check_timeout(timeout)
        self._has_room()
        collection.change(what, single_key(key), chosen, *more)
        return self._changed(name)

    def _may_grow(
        self, collection: Collection, points: int | None, what: str, timeout: int | None
    ) -> None:
        collection.limits.check_write(points, what, collection.vector_bytes)
        collection.limits.check_node(self.disk_percent, self.memory_percent)
        collection.limits.check_timeout(timeout)
        self._has_room()

    def create_key(self, name: str, request: models.CreateShardingKey) -> None:
        if not self.in_cluster:
            raise RefusedError(400, "Bad request: Distributed mode disabled")
        self.local[name].create_key(request)

    def _has_room(self) -> None:
        if self.disk_full:
            raise RefusedError(
                500,
                "Service internal error: No space left on device: WAL buffer size exceeds "
                "available disk space",
            )

    def _changed(self, name: str) -> models.UpdateResult:
        self.local[name].status = None
        if self.losing:
            self.losing -= 1
            raise LostError("the answer was lost on its way")
        return COMPLETED

    # Reading points

    def retrieve(
        self, name: str, request: models.PointRequest, timeout: int | None = None
    ) -> list[models.Record]:
        collection = self.local[name]
        collection.limits.check_timeout(timeout)
        payload = True if request.with_payload is None else request.with_payload
        return collection.retrieve(request.ids, payload, request.with_vector, request.shard_key)

    def scroll(
        self, name: str, request: models.ScrollRequest, timeout: int | None = None
    ) -> tuple[list[models.Record], PointId | None]:
        collection = self.local[name]
        collection.limits.check_scroll(request, collection.indexes)
        collection.limits.check_timeout(timeout)
        return collection.scroll(request, request.shard_key)

    def count(self, name: str, request: models.CountRequest, timeout: int | None = None) -> int:
        collection = self.local[name]
        collection.limits.check_count(request, collection.indexes)
        collection.limits.check_timeout(timeout)
        return collection.count(request, request.shard_key)

    def query(
        self,
        name: str,
        requests: Sequence[models.QueryRequest],
        timeout: int | None = None,
        *,
        batch: bool = True,
    ) -> list[list[models.ScoredPoint]]:
        collection = self.local[name]
        collection.limits.check_queries(requests, collection.indexes, batch=batch)
        collection.limits.check_timeout(timeout)
        return collection.query(requests)


def single_key(selector: Any) -> ShardKey | None:
    """The one shard key that a change goes to."""
    if isinstance(selector, list):
        if len(selector) > 1:
            raise ValueError("Wrong input: the loopback server changes one shard key at a time")
        return selector[0] if selector else None
    return selector


def chosen_points(
    points: list[PointId] | None, wanted: models.Filter | None
) -> models.PointsSelector:
    if wanted is not None:
        return models.FilterSelector(filter=wanted)
    return models.PointIdsList(points=points or [])


class RestServer:
    """Serves an engine over REST; a context manager."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._listen(0)
        self.port = self.server.server_address[1]

    def _listen(self, port: int) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self.engine))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def stop(self) -> None:
        """Go away: connections are refused until :meth:`start`."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def start(self) -> None:
        """Come back, on the same port."""
        self._listen(self.port)
        self.thread.start()

    def __enter__(self) -> RestServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _handler(engine: Engine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            url = urlsplit(self.path)
            what = f"{self.command} {url.path}"
            engine.wait()
            retry_after = None
            with engine.lock:
                try:
                    engine.admit(what, self.headers.get("api-key"), length)
                    content = read_json(body) if body else {}
                    engine.heard.append((what, content))
                    parts = [unquote(part) for part in url.path.strip("/").split("/")]
                    asked = parse_qs(url.query).get("timeout")
                    request = Request(engine, parts, content, int(asked[0]) if asked else None)
                    result = request.answer(self.command)
                    status, answer = 200, {"result": result, "status": "ok", "time": 0.0}
                    if parts == [""]:
                        answer = result
                except LostError:
                    self.close_connection = True
                    return
                except RefusedError as refusal:
                    status, answer = refusal.status, {"status": {"error": str(refusal)}}
                    retry_after = refusal.retry_after
                except ValueError as error:
                    status, answer = 400, {"status": {"error": str(error)}}
            sent = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            if retry_after is not None:
                self.send_header("Retry-After", str(retry_after))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

    return Handler


def _plain(result: Any) -> Any:
    if isinstance(result, list):
        return [_plain(each) for each in result]
    return result.model_dump(mode="json") if isinstance(result, BaseModel) else result


class Request:
    """A REST request: the parts of its path, its body, and the timeout that it names."""

    def __init__(
        self, engine: Engine, parts: list[str], body: dict[str, Any], timeout: int | None
    ) -> None:
        self.engine = engine
        self.parts = parts
        self.name = parts[1] if len(parts) > 1 else ""
        self.body = body
        self.timeout = timeout

    def answer(self, method: str) -> Any:
        local = self.engine.local
        if self.parts == [""]:
            return {"title": "qdrant - vector search engine", "version": VERSION}
        if self.parts == ["aliases"]:
            return _plain(local.get_aliases())
        if self.parts == ["collections"]:
            return _plain(local.get_collections())
        if self.parts == ["collections", "aliases"]:
            asked = models.ChangeAliasesOperation.model_validate(self.body)
            return local.change_aliases(asked.actions)
        rest = (method, *self.parts[2:])
        if rest == ("PUT",):
            self.engine.create(self.name, models.CreateCollection.model_validate(self.body))
            return True
        if rest == ("GET", "exists"):
            return {"exists": local.collection_exists(self.name)}
        if rest == ("DELETE",):
            return local.delete_collection(self.name)
        local[self.name]
        route = (self._settings() | self._changes() | self._questions()).get(rest[:4])
        if route is None and len(rest) == 3:
            route = self._named(rest[2]).get(rest[:2])
        if route is None:
            raise RefusedError(404, f"Not found: {method} {'/'.join(self.parts)}")
        result = route()
        return True if result is None else _plain(result)

    def _settings(self) -> dict[tuple[str, ...], Callable[[], Any]]:
        engine, name, body = self.engine, self.name, self.body
        collection = engine.local[name]
        return {
            ("GET",): lambda: engine.info(name),
            ("PATCH",): self._update,
            ("GET", "cluster"): collection.cluster,
            ("GET", "snapshots"): lambda: [{"name": s, "size": 1} for s in engine.snapshots],
            ("PUT", "shards"): lambda: self.engine.create_key(
                self.name, models.CreateShardingKey.model_validate(body)
            ),
            ("POST", "shards", "delete"): lambda: collection.delete_key(body["shard_key"]),
            ("PUT", "index"): self._index,
        }

    def _named(self, name: str) -> dict[tuple[str, ...], Callable[[], Any]]:
        """What ends with the name of a vector or a field."""
        engine = self.engine
        return {
            ("DELETE", "index"): lambda: engine.drop_index(self.name, name) or COMPLETED,
            ("DELETE", "vectors"): lambda: engine.drop_vector(self.name, name) or COMPLETED,
            ("PUT", "vectors"): lambda: (
                engine.create_vector(self.name, name, self._vector()) or COMPLETED
            ),
        }

    def _changes(self) -> dict[tuple[str, ...], Callable[[], Any]]:
        engine, name, body, timeout = self.engine, self.name, self.body, self.timeout
        key = body.get("shard_key") if isinstance(body, dict) else None
        return {
            ("PUT", "points"): lambda: engine.upsert(
                name,
                _points(body),
                key,
                timeout,
                **({"insert_only": True} if body.get("update_mode") == "insert_only" else {}),
            ),
            ("PUT", "points", "vectors"): lambda: engine.update_vectors(
                name, models.UpdateVectors.model_validate(body).points, key, timeout
            ),
            ("POST", "points", "vectors", "delete"): lambda: self._change(
                "delete_vectors", body["vector"]
            ),
            ("POST", "points", "delete"): lambda: self._change("delete"),
            ("POST", "points", "payload"): lambda: self._payload("set_payload"),
            ("PUT", "points", "payload"): lambda: self._payload("overwrite_payload"),
            ("POST", "points", "payload", "delete"): lambda: self._change(
                "delete_payload", body["keys"]
            ),
            ("POST", "points", "payload", "clear"): lambda: self._change("clear_payload"),
        }

    def _questions(self) -> dict[tuple[str, ...], Callable[[], Any]]:
        engine, name, body, timeout = self.engine, self.name, self.body, self.timeout
        return {
            ("POST", "points"): lambda: engine.retrieve(
                name, models.PointRequest.model_validate(body), timeout
            ),
            ("POST", "points", "count"): lambda: {
                "count": engine.count(name, models.CountRequest.model_validate(body), timeout)
            },
            ("POST", "points", "scroll"): self._scroll,
            ("POST", "points", "query"): lambda: self._query(
                [models.QueryRequest.model_validate(body)], batch=False
            )[0],
            ("POST", "points", "query", "batch"): lambda: self._query(
                models.QueryRequestBatch.model_validate(body).searches
            ),
        }

    def _update(self) -> None:
        strict = self.body.get("strict_mode_config") or {}
        if (percent := strict.pop("max_disk_usage_percent", None)) is not None:
            self.engine.local[self.name].limits.most_disk_percent = percent
        self.engine.update(self.name, models.UpdateCollection.model_validate(self.body))

    def _query(
        self, requests: Sequence[models.QueryRequest], *, batch: bool = True
    ) -> list[dict[str, Any]]:
        found = self.engine.query(self.name, requests, self.timeout, batch=batch)
        return [{"points": _plain(points)} for points in found]

    def _change(self, what: str, *more: Any) -> models.UpdateResult:
        wanted = self.body.get("filter")
        wanted = None if wanted is None else models.Filter.model_validate(wanted)
        chosen = chosen_points(self.body.get("points"), wanted)
        key = self.body.get("shard_key")
        return self.engine.change(self.name, what, chosen, *more, key=key, timeout=self.timeout)

    def _payload(self, what: str) -> models.UpdateResult:
        asked = models.SetPayload.model_validate(self.body)
        return self.engine.set_payload(self.name, asked, what, self.timeout)

    def _index(self) -> models.UpdateResult:
        asked = models.CreateFieldIndex.model_validate(self.body)
        self.engine.index(self.name, asked.field_name, asked.field_schema or "keyword")
        return COMPLETED

    def _vector(self) -> models.VectorNameConfig:
        if "sparse" in self.body:
            return models.SparseVectorNameConfig.model_validate(self.body)
        return models.DenseVectorNameConfig.model_validate(self.body)

    def _scroll(self) -> dict[str, Any]:
        asked = models.ScrollRequest.model_validate(self.body)
        records, following = self.engine.scroll(self.name, asked, self.timeout)
        return {"points": _plain(records), "next_page_offset": following}


def _points(body: dict[str, Any]) -> Points:
    if "batch" in body:
        return models.PointsBatch.model_validate(body).batch
    return models.PointsList.model_validate(body).points
