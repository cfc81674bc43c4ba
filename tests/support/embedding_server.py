"""An OpenAI-compatible embedding server on the loopback interface; it counts its texts."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from vecmigrate.encoders.openai import _PROBE

DIMENSION = 8


def vector_of(text: str, dimension: int = DIMENSION) -> list[float]:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    return np.random.default_rng(seed).standard_normal(dimension).astype(np.float32).tolist()


def vectors_of(*texts: str, dimension: int = DIMENSION) -> np.ndarray:
    return np.array([vector_of(text, dimension) for text in texts], np.float32)


def embeddings(body: dict[str, Any]) -> list[dict[str, Any]]:
    dimension = body.get("dimensions", DIMENSION)
    return [
        {"object": "embedding", "index": i, "embedding": vector_of(text, dimension)}
        for i, text in enumerate(body["input"])
    ]


@dataclass
class Reply:
    """An HTTP answer."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """A request as the server saw it."""

    at: float
    path: str
    authorization: str | None
    body: dict[str, Any]
    status: int = 0


class EmbeddingServer(ThreadingHTTPServer):
    """Embeds texts; ``script`` answers the next requests otherwise, and ``rule`` any request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[Seen] = []
        self.script: list[Reply | Callable[[dict[str, Any]], Reply]] = []
        self.rule: Callable[[dict[str, Any]], Reply | None] = lambda body: None

    def name(self, options: str = "") -> str:
        return f"openai:model-a?base_url=http://127.0.0.1:{self.server_port}/v1{options}"

    def asked(self) -> Counter[str]:
        """How often each text was embedded; without those by which an encoder is probed."""
        answered = [seen for seen in list(self.seen) if seen.status == HTTPStatus.OK]
        texts = [text for seen in answered for text in seen.body["input"]]
        return Counter(text for text in texts if text not in _PROBE)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up, as the one that times out does."""

    def reply(self, body: dict[str, Any]) -> Reply:
        if self.script:
            step = self.script.pop(0)
            return step if isinstance(step, Reply) else step(body)
        return self.rule(body) or Reply(body={"data": embeddings(body), "model": body["model"]})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: EmbeddingServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        seen = Seen(time.monotonic(), self.path, self.headers["authorization"], body)
        self.server.seen.append(seen)
        reply = self.server.reply(body)
        seen.status = reply.status
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    """A server that runs, in a thread."""
    with EmbeddingServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()
