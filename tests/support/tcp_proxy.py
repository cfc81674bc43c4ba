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


def _carry(
    client: socket.socket, server: socket.socket, halving: threading.Event | None = None
) -> None:
    """Carry all bytes both ways until either side closes, or an answer is to be halved."""
    back = threading.Thread(target=_pump, args=(server, client, halving), daemon=True)
    back.start()
    _pump(client, server)
    back.join()


def delayed(seconds: float) -> Fault:
    """Carry the bytes, later."""

    def carry(client: socket.socket, server: socket.socket) -> None:
        time.sleep(seconds)
        _carry(client, server)

    return carry


def reset(client: socket.socket, server: socket.socket) -> None:
    """Take the request, then answer with a reset."""
    client.recv(_CHUNK)
    _close_with_reset(client)


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
    halving
        While set, an answer on a connection that is passed on is cut in half, and the connection
        is reset: the work is done and nobody knows it. Unset by the answer.
    is_away
        True between :meth:`leave` and :meth:`back`.
    """

    def __init__(self, server_port: int) -> None:
        self.faults: deque[Fault] = deque()
        self.always: Fault = self.passed
        self.connections = 0
        self.halving = threading.Event()
        self.is_away = False
        self._live: set[socket.socket] = set()
        self._server_port = server_port
        # Bound and never listening: the port stays ours while nobody answers there.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port = self._held.getsockname()[1]
        self._listener = socket.create_server(("127.0.0.1", self.port))

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close_listener()
        self._held.close()

    def passed(self, client: socket.socket, server: socket.socket) -> None:
        """Carry all bytes both ways."""
        _carry(client, server, self.halving)

    def leave(self) -> None:
        """Be away: reset what connections there are, and refuse others until :meth:`back`."""
        self._close_listener()
        self.is_away = True
        self.cut()

    def back(self) -> None:
        """Listen again on the same port."""
        self.is_away = False
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset the connections that there are, as those of gRPC, which stay open."""
        for client in list(self._live):
            with suppress(OSError):
                _close_with_reset(client)

    def _close_listener(self) -> None:
        # Closing alone would leave accept() waiting.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                client, _ = listener.accept()
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
            self._live.add(client)
            try:
                fault(client, server)
            finally:
                self._live.discard(client)


def _close_with_reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # A thread that reads from it would keep it open otherwise.
    connection.shutdown(socket.SHUT_RD)
    connection.close()


def _pump(
    source: socket.socket, sink: socket.socket, halving: threading.Event | None = None
) -> None:
    with suppress(OSError):
        while part := source.recv(_CHUNK):
            if halving is not None and halving.is_set():
                halving.clear()
                sink.sendall(part[: len(part) // 2])
                _close_with_reset(sink)
                return
            sink.sendall(part)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
