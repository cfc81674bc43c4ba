"""Where the Qdrant tests run: embedded, the loopback server, and a real one where one is named."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase
from qdrant_client.qdrant_remote import QdrantRemote

from support.qdrant.loopback.grpc_server import GrpcServer
from support.qdrant.loopback.server import Engine, RestServer
from vecmigrate import open_sink
from vecmigrate.connector import (
    CollectionDescription,
    Metric,
    PointId,
    TargetSpec,
    VectorBatch,
    id_array,
)

SERVER = os.environ.get("VECMIGRATE_TEST_QDRANT_URL", "").rstrip("/")
_ON_SERVER = pytest.mark.skipif(
    not SERVER, reason="VECMIGRATE_TEST_QDRANT_URL names no Qdrant server"
)
SERVED = [
    "rest",
    "grpc",
    pytest.param("server", marks=_ON_SERVER),
    pytest.param("server-grpc", marks=_ON_SERVER),
]
"""The loopback server and a real one, each by REST and by gRPC."""
PLACES = ["embedded", *SERVED]
DIMENSION = 6


@dataclass
class Place:
    """A Qdrant to test against.

    Attributes
    ----------
    base, options
        What a collection's URI begins and ends with.
    connect
        Opens a plain client there, to arrange and look at collections without the connector.
    grpc_port
        Of a server that is to be reached by gRPC.
    engine
        Behind the loopback server, where that is the place.
    """

    kind: str
    base: str
    options: str
    connect: Callable[[], QdrantBase]
    made: list[str] = field(default_factory=list)
    engine: Engine | None = None
    grpc_port: int | None = None

    @property
    def wire(self) -> str:
        """What a server is reached by: "rest" or "grpc"."""
        return "rest" if self.grpc_port is None else "grpc"

    def name(self, stem: str = "c") -> str:
        """A collection's name that nothing has."""
        self.made.append(f"vecmigrate-test-{stem}-{uuid.uuid4().hex[:8]}")
        return self.made[-1]

    def uri(self, name: str, options: str = "") -> str:
        joined = "&".join(filter(None, [self.options, options]))
        return f"{self.base}/{name}" + (f"?{joined}" if joined else "")

    @contextmanager
    def client(self) -> Iterator[QdrantBase]:
        client = self.connect()
        try:
            yield client
        finally:
            client.close()

    def exists(self, name: str) -> bool:
        with self.client() as client:
            return client.collection_exists(name)

    def write(self, name: str, *batches: VectorBatch, **spec: Any) -> CollectionDescription:
        """Write a whole collection through the connector."""
        wanted = TargetSpec(**{"dimension": DIMENSION, "metric": Metric.DOT, **spec})
        with open_sink(self.uri(name), wanted) as sink:
            for batch in batches:
                sink.write(batch)
            return sink.finish()


@contextmanager
def open_place(kind: str, directory: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        if kind == "embedded":
            storage = directory / "storage"
            yield Place(kind, f"qdrant:{storage}", "", lambda: QdrantClient(path=str(storage)))
            return
        if kind.startswith("server"):
            place = _real_place(server_grpc_port() if kind == "server-grpc" else None)
            yield place
            with place.client() as client:
                for name in place.made:
                    client.delete_collection(name)
            return
        engine = Engine()
        rest = stack.enter_context(RestServer(engine))
        options, grpc_port = "retries=0&grpc=false", None
        if kind == "grpc":
            grpc_port = stack.enter_context(GrpcServer(engine)).port
            options = f"retries=0&grpc_port={grpc_port}"
        yield Place(
            kind,
            f"qdrant://127.0.0.1:{rest.port}",
            options,
            lambda: QdrantRemote(
                port=rest.port,
                host="127.0.0.1",
                check_compatibility=False,
                timeout=60,
                verify=False,
            ),
            engine=engine,
            grpc_port=grpc_port,
        )


def _real_place(grpc_port: int | None) -> Place:
    key = os.environ.get("QDRANT_API_KEY")
    url = urlsplit(SERVER)
    base = f"qdrant{'+https' if url.scheme == 'https' else ''}://{url.netloc}{url.path}"
    options = "grpc=false" if grpc_port is None else f"grpc_port={grpc_port}"
    return Place(
        "server",
        base,
        options,
        lambda: QdrantClient(url=SERVER, api_key=key, timeout=60),
        grpc_port=grpc_port,
    )


def server_grpc_port() -> int:
    """The real server's gRPC port, as VECMIGRATE_TEST_QDRANT_GRPC_PORT or the one after REST's."""
    url = urlsplit(SERVER)
    named = os.environ.get("VECMIGRATE_TEST_QDRANT_GRPC_PORT")
    port = int(named) if named else (url.port or 6333) + 1
    try:
        socket.create_connection((url.hostname or "", port), timeout=5).close()
    except OSError:
        pytest.skip(f"{url.hostname}:{port} does not answer; VECMIGRATE_TEST_QDRANT_GRPC_PORT")
    return port


def server_asked(path: str) -> Any:
    """What a real server answers at a path that the client has no method for."""
    headers = {"api-key": key} if (key := os.environ.get("QDRANT_API_KEY")) else {}
    return httpx.get(f"{SERVER}{path}", headers=headers, timeout=30).json()


def need_shard_keys(place: Place) -> None:
    """Skip the test if the place has no shard keys, which a server has in cluster mode alone."""
    if place.kind == "embedded":
        pytest.skip("embedded storage has no shard keys")
    if place.engine is None and server_asked("/cluster")["result"]["status"] != "enabled":
        pytest.skip(f"{SERVER} has no shard keys: it does not run in cluster mode")


def points(ids: list[PointId], seed: int = 0, dimension: int = DIMENSION) -> VectorBatch:
    """Points with random vectors and a payload that tells them apart."""
    return VectorBatch(
        id_array(ids),
        vectors(len(ids), seed, dimension),
        [{"text": f"the text of point {i}", "n": n} for n, i in enumerate(ids)],
    )


def vectors(count: int, seed: int = 0, dimension: int = DIMENSION) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def params(dimension: int = DIMENSION, **more: Any) -> models.VectorParams:
    return models.VectorParams(size=dimension, distance=models.Distance.DOT, **more)
