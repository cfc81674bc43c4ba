"""Qdrant on a server: gRPC if it is offered, REST elsewhere, retries for passing faults."""

from __future__ import annotations

import ipaddress
import os
import socket
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import grpc  # type: ignore[import-untyped]
from qdrant_client import grpc as messages
from qdrant_client.client_base import QdrantBase
from qdrant_client.qdrant_remote import QdrantRemote

from vecmigrate.connector import UsageError, is_known, make_known
from vecmigrate_qdrant.access.base import STORED_ULPS, Access, Refusal, T
from vecmigrate_qdrant.access.shared import SharedPlaces
from vecmigrate_qdrant.client.points import ClientPoints
from vecmigrate_qdrant.location import (
    DEFAULT_GRPC_PORT,
    DEFAULT_KEY_VARIABLE,
    DEFAULT_PORT,
    ServerLocation,
)
from vecmigrate_qdrant.points import Points, Shape
from vecmigrate_qdrant.server.faults import (
    CLIENT_ERRORS,
    DENIED_GRPC,
    explain,
    is_certificate_fault,
)
from vecmigrate_qdrant.server.retrying import Retrying
from vecmigrate_qdrant.wire.points import WirePoints, can_use_wire

PROBE_SECONDS = 2.0
RECONNECT_SECONDS = 5
"""Seconds between two tries of gRPC itself to connect again, at most; by default it takes 120."""


_clients: SharedPlaces[QdrantRemote] = SharedPlaces(QdrantRemote.close)


class ServerAccess(Access):
    """Qdrant on a server.

    Raises
    ------
    UsageError
        If the environment variable that is to hold the API key is not set.
    """

    embedded = False
    payload_ulps = STORED_ULPS

    def __init__(self, location: ServerLocation, refusal: Refusal) -> None:
        super().__init__(str(location), refusal)
        self._location = location
        self._retrying = Retrying(location)
        key = api_key(location)
        grpc_port, self.notes = self._choose_grpc()
        self._wire = grpc_port is not None
        # Two collections of one server are reached by one client, which is slow to make.
        shared = replace(location, collection=""), grpc_port, key
        self._client = _clients.take(self._held, shared, partial(_client, *shared))

    def run(self, request: Callable[[QdrantBase], T]) -> T:
        return self._explained(lambda: self._retrying.run(lambda: request(self._client)))

    def run_once(self, request: Callable[[QdrantBase], T]) -> T:
        return self._explained(lambda: request(self._client))

    def _explained(self, send: Callable[[], T]) -> T:
        try:
            return send()
        except CLIENT_ERRORS as error:
            raise explain(error, self.place, key_hint(self._location), self._refusal) from error

    def _choose_grpc(self) -> tuple[int | None, tuple[str, ...]]:
        """Return the port to use gRPC on, None to use REST, and what the user should know of it."""
        location = self._location
        if location.grpc is False or location.prefix:
            return None, ()
        if location.grpc is True:
            return location.grpc_port or DEFAULT_GRPC_PORT, ()
        if location.grpc_port is None and location.port != DEFAULT_PORT:
            # Beside a REST port of one's own the default gRPC port may belong to another server.
            return None, ()
        port = location.grpc_port or DEFAULT_GRPC_PORT
        known = f"{location}, gRPC on port {port}"
        # A server that is away for a while has gRPC all the same.
        if is_known(known) or self._answers_grpc(port):
            make_known(known)
            return port, ()
        return None, (f"gRPC does not answer on port {port}: the slower REST interface is used",)

    def _answers_grpc(self, port: int) -> bool:
        try:
            return _answers_grpc(self._location, port)
        except grpc.RpcError as error:
            raise explain(error, self.place, "", self._refusal) from error

    def points(self, collection: str, shape: Shape) -> Points:
        kind = WirePoints if self._wire and can_use_wire(self._client) else ClientPoints
        return kind(self, collection, shape)


def _client(location: ServerLocation, grpc_port: int | None, key: str | None) -> QdrantRemote:
    with warnings.catch_warnings():
        # Sending a key over plain HTTP was asked for, see api_key.
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        # What QdrantClient adds to it, which is to embed texts, takes 25 ms to make.
        return QdrantRemote(
            host=location.host if ":" not in location.host else f"[{location.host}]",
            port=location.port,
            https=location.https,
            prefer_grpc=grpc_port is not None,
            grpc_port=grpc_port or DEFAULT_GRPC_PORT,
            grpc_options={"grpc.max_reconnect_backoff_ms": 1000 * RECONNECT_SECONDS},
            prefix=location.prefix or None,
            api_key=key,
            timeout=location.timeout,
            # It warns from a thread of its own, even if the server is merely down.
            check_compatibility=False,
            # Reading the certificates of all authorities is most of what opening takes, and
            # plain HTTP has no use for them.
            verify=location.https,
        )


def api_key(location: ServerLocation) -> str | None:
    """Return the key to send to a server, from the environment, or None to send none.

    Raises
    ------
    UsageError
        If the URI names a variable that is not set.
    """
    if location.api_key_env is not None:
        key = os.environ.get(location.api_key_env)
        if not key:
            raise UsageError(
                f"the environment variable {location.api_key_env} is not set",
                remedy=f"Set it to the API key of {location}, or leave out ?api_key_env=.",
            )
        return key
    if location.https or _is_loopback(location.host):
        return os.environ.get(DEFAULT_KEY_VARIABLE) or None
    # A key that is set for a cloud cluster must not go in the clear to whatever host a URI names.
    return None


def key_hint(location: ServerLocation) -> str:
    """Tell where the key of a server that denied access is to come from."""
    if location.api_key_env is not None:
        return (
            f"Set the environment variable {location.api_key_env} to an API key that may do this."
        )
    if location.https or _is_loopback(location.host):
        return (
            f"Set the environment variable {DEFAULT_KEY_VARIABLE} to an API key that may do this, "
            "or name another one by ?api_key_env=NAME."
        )
    return (
        f"Over plain HTTP a key is sent only if the URI names its environment variable: set "
        f"{DEFAULT_KEY_VARIABLE} and add ?api_key_env={DEFAULT_KEY_VARIABLE}, or use qdrant+https."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _answers_grpc(location: ServerLocation, port: int) -> bool:
    """True if a server answers by gRPC on a port; raises if its certificate is refused."""
    try:
        # A closed port is told at once here; gRPC itself would keep trying until the time is up.
        socket.create_connection((location.host, port), timeout=PROBE_SECONDS).close()
    except OSError:
        return False
    host = f"[{location.host}]" if ":" in location.host else location.host
    target = f"{host}:{port}"
    channel = (
        grpc.secure_channel(target, grpc.ssl_channel_credentials())
        if location.https
        else grpc.insecure_channel(target)
    )
    try:
        stub = messages.QdrantStub(channel)  # type: ignore[no-untyped-call]
        stub.HealthCheck(messages.HealthCheckRequest(), timeout=PROBE_SECONDS)
    except grpc.RpcError as error:
        if is_certificate_fault(error):
            raise
        return error.code() in DENIED_GRPC  # Qdrant all the same, behind something that asks.
    finally:
        channel.close()
    return True
