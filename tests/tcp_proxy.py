"""A TCP proxy on the loopback interface that spoils connections as networks do."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

Fault = Callable[[socket.socket, socket.socket], None]
"""Given the client's connection and one to the server; what it does with a request is the fault."""

_CHUNK = 1 << 16


def passed(client: socket.socket, server: socket.socket) -> None:
    """Carry all bytes both ways until either side closes."""
    back = threading.Thread(target=_pump, args=(server, client), daemon=True)
    back.start()
    _pump(client, server)
    back.join()


def delayed(seconds: float) -> Fault:
    """Carry the bytes, later."""

    def carry(client: socket.socket, server: socket.socket) -> None:
        time.sleep(seconds)
        passed(client, server)

    return carry


def reset(client: socket.socket, server: socket.socket) -> None:
    """Take the request, then answer with a reset."""
    client.recv(_CHUNK)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def answered(status: str, *headers: str) -> Fault:
    """Answer in the server's place."""
    head = "\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 2", "Connection: close", *headers])

    def answer(client: socket.socket, server: socket.socket) -> None:
        client.recv(_CHUNK)
        client.sendall(f"{head}\r\n\r\n{{}}".encode())

    return answer


def half_answered(client: socket.socket, server: socket.socket) -> None:
    """Carry the request and half of the answer, so that the work is done and nobody knows it."""
    server.sendall(client.recv(_CHUNK))
    answer = server.recv(_CHUNK)
    client.sendall(answer[: len(answer) // 2])


class Proxy:
    """Listens on ``port``; a context manager.

    Attributes
    ----------
    faults
        What to do with the next connections, one each; those after them are passed on.
    always
        What to do with each connection once ``faults`` is empty.
    connections
        How many there were.
    """

    def __init__(self, server_port: int) -> None:
        self.faults: deque[Fault] = deque()
        self.always: Fault = passed
        self.connections = 0
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would leave accept() waiting.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            fault = self.faults.popleft() if self.faults else self.always
            threading.Thread(target=self._serve, args=(client, fault), daemon=True).start()

    def _serve(self, client: socket.socket, fault: Fault) -> None:
        with (
            suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self._server_port)) as server,
        ):
            fault(client, server)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(_CHUNK):
            sink.sendall(part)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
