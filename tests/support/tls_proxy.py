"""TLS before a server on the loopback interface, by certificates of an authority of its own."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

OPENSSL = shutil.which("openssl")


class Authority:
    """Issues certificates, in a folder; needs ``openssl``.

    Attributes
    ----------
    file
        Its own certificate, which clients are to trust.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = folder / "authority.pem"
        self._key = folder / "authority.key"
        _openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=authority", "-days", "2",
            "-keyout", str(self._key), "-out", str(self.file),
        )  # fmt: skip

    def context(self, name: str) -> ssl.SSLContext:
        """Return what a server needs that is called ``name``, as ``IP:127.0.0.1``."""
        key, request, own = (self._folder / f"server.{end}" for end in ("key", "csr", "pem"))
        _openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server",
            "-keyout", str(key), "-out", str(request),
        )  # fmt: skip
        names = self._folder / "names"
        names.write_text(f"subjectAltName={name}\n")
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.file), "-CAkey", str(self._key),
            "-CAcreateserial", "-days", "2", "-extfile", str(names), "-out", str(own),
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own, key)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


class TlsProxy:
    """Takes TLS off what comes to ``port`` and gives it to a server; a context manager."""

    def __init__(self, server_port: int, context: ssl.SSLContext) -> None:
        self._server_port = server_port
        self._context = context
        self._loop = asyncio.new_event_loop()
        # A client that refuses the certificate is what is tested.
        self._loop.set_exception_handler(lambda loop, what: None)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> TlsProxy:
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._server_port)
        with suppress(OSError):
            await asyncio.gather(_pump(reader, forth), _pump(back, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while part := await source.read(1 << 16):
        sink.write(part)
        await sink.drain()
    sink.close()


def _openssl(*arguments: str) -> None:
    subprocess.run([str(OPENSSL), *arguments], check=True, capture_output=True, timeout=60)
