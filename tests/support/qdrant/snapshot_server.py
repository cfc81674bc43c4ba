"""A loopback server that hands out one real snapshot, as a Qdrant server makes and keeps them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class SnapshotServer:
    """The collection ``docs`` of a server.

    Attributes
    ----------
    kept
        The snapshots that the server has, by name.
    making
        How many it is at work on.
    tells
        True if it tells so, as a server does to whoever may see all of it.
    flaw
        What goes wrong: ``bytes`` (one is changed on the way), ``short`` (the last half is
        missing), ``slow`` (making one takes until ``go_on`` is set), or nothing.
    """

    def __init__(self, content: bytes, flaw: str = "") -> None:
        self.content, self.flaw = content, flaw
        self.kept: dict[str, bytes] = {}
        self.making, self.tells = 0, True
        self.asked, self.go_on = threading.Event(), threading.Event()

    def make(self) -> dict[str, Any]:
        name = f"docs-77-{datetime.now(UTC):%Y-%m-%d-%H-%M-%S}.snapshot"
        self.making += 1
        self.asked.set()
        if self.flaw == "slow":
            self.go_on.wait(60)
        self.kept[name] = self.content
        self.making -= 1
        return self.told(name)

    def told(self, name: str) -> dict[str, Any]:
        content = self.kept[name]
        return {
            "name": name,
            "creation_time": None,
            "size": len(content),
            "checksum": hashlib.sha256(content).hexdigest(),
        }

    def sent(self, name: str) -> bytes:
        content = self.kept[name]
        if self.flaw == "bytes":
            return content[:600] + bytes([content[600] ^ 1]) + content[601:]
        return content[: len(content) // 2] if self.flaw == "short" else content


@contextmanager
def serving(server: SnapshotServer) -> Iterator[str]:
    """Serve, and yield the host and port."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def answer(self, content: Any, status: int = 200) -> None:
            is_file = isinstance(content, bytes)
            body = content if is_file else json.dumps({"result": content}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def name(self) -> str | None:
            begin, _, name = self.path.partition("?")[0].partition("/snapshots")
            if begin != "/collections/docs":
                self.answer(None, 404)
                return None
            return name.removeprefix("/")

        def do_GET(self) -> None:
            if self.path.startswith("/telemetry"):
                told = [{"id": "docs", "running_snapshots": server.making}]
                found = {"collections": {"snapshots": told}}
                self.answer(found if server.tells else None, 200 if server.tells else 403)
                return
            name = self.name()
            if name == "":
                self.answer([server.told(kept) for kept in server.kept])
            elif name is not None:
                self.answer(server.sent(name))

        def do_POST(self) -> None:
            if self.name() is not None:
                self.answer(server.make())

        def do_DELETE(self) -> None:
            name = self.name()
            if name is not None:
                self.answer(True, 200 if server.kept.pop(name, None) is not None else 404)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
