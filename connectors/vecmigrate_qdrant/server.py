"""Qdrant on a server: gRPC where it is offered, REST elsewhere, retries for passing faults."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import warnings
from collections.abc import Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
import tenacity
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.client_base import QdrantBase

from vecmigrate.connector import UnreachableError, UsageError
from vecmigrate_qdrant.access import Access, Refusal, T
from vecmigrate_qdrant.circuit import Circuit
from vecmigrate_qdrant.client_points import ClientPoints
from vecmigrate_qdrant.faults import (
    CLIENT_ERRORS,
    DENIED_GRPC,
    asked_pause,
    explain,
    is_passing,
    reason,
)
from vecmigrate_qdrant.location import (
    DEFAULT_GRPC_PORT,
    DEFAULT_KEY_VARIABLE,
    DEFAULT_PORT,
    ServerLocation,
)
from vecmigrate_qdrant.points import Points, Shape

PROBE_SECONDS = 2.0
LONGEST_PAUSE = 60.0

_log = logging.getLogger("vecmigrate.qdrant")
_backoff = tenacity.wait_exponential(multiplier=0.25, max=15) + tenacity.wait_random(0, 0.25)


class ServerAccess(Access):
    """Qdrant on a server.

    Raises
    ------
    UsageError
        Where the environment variable that is to hold the API key is not set.
    """

    embedded = False
    # Its parser of JSON, which payloads are stored as, is off by one unit in one double in nine,
    # each time that a point is stored: once when written, and once when segments are merged.
    payload_ulps = 2

    def __init__(self, location: ServerLocation, refusal: Refusal) -> None:
        self.place = str(location)
        self._location = location
        self._refusal = refusal
        self._circuit = Circuit()
        key = api_key(location)
        grpc_port, self.notes = _choose_grpc(location)
        with warnings.catch_warnings():
            # Sending a key over plain HTTP was asked for, see api_key.
            warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
            self._client = QdrantClient(
                host=location.host if ":" not in location.host else f"[{location.host}]",
                port=location.port,
                https=location.https,
                prefer_grpc=grpc_port is not None,
                grpc_port=grpc_port or DEFAULT_GRPC_PORT,
                api_key=key,
                timeout=location.timeout,
                # It warns from a thread of its own, even where the server is merely down.
                check_compatibility=False,
                # Reading the certificates of all authorities is most of what opening takes, and
                # plain HTTP has no use for them.
                verify=location.https,
            )

    def run(self, request: Callable[[QdrantBase], T]) -> T:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._may_pass),
            stop=tenacity.stop_after_attempt(self._location.retries + 1),
            wait=_pause,
            before_sleep=self._report,
            reraise=True,
        )
        try:
            answer = retrying(request, self._client)
        except CLIENT_ERRORS as error:
            if is_passing(error) and self._circuit.is_open:
                raise UnreachableError(
                    f"the Qdrant server {self.place} failed {self._circuit.failed:,} of "
                    f"{self._circuit.tried:,} requests and is left alone now, the last one by "
                    f"{reason(error)}",
                    remedy="See to the server, then run the same command again.",
                ) from error
            raise explain(error, self.place, _key_hint(self._location), self._refusal) from error
        self._circuit.succeeded()
        return answer

    def _may_pass(self, error: BaseException) -> bool:
        if not is_passing(error):
            return False
        self._circuit.failed_once()
        return not self._circuit.is_open

    def _report(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        _log.info(
            "%s: try %d failed (%s); trying again",
            self.place,
            state.attempt_number,
            reason(error),
            extra={
                "event": "vecmigrate.retry",
                "attributes": {
                    "error.type": type(error).__name__,
                    "vecmigrate.attempt": state.attempt_number,
                    "server.address": self._location.host,
                    "server.port": self._location.port,
                },
            },
        )

    def points(self, collection: str, shape: Shape) -> Points:
        return ClientPoints(self, collection, shape)

    def begin_writes(self, collection: str) -> None:
        """A server needs no preparation."""

    def sync_writes(self, collection: str) -> None:
        """A server has made durable what it acknowledged."""

    def publish(
        self,
        collection: str,
        metadata: dict[str, Any],
        strict_mode: models.StrictModeConfig | None,
    ) -> None:
        # Every write was waited for, so that it is in the server's log already.
        self.run(
            lambda client: client.update_collection(
                collection, metadata=metadata, strict_mode_config=strict_mode
            )
        )

    def close(self) -> None:
        self._client.close()


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    return min(max(_backoff(state), asked_pause(error)), LONGEST_PAUSE)


def api_key(location: ServerLocation) -> str | None:
    """Return the key to send to a server, from the environment, or None to send none.

    Raises
    ------
    UsageError
        Where the URI names a variable that is not set.
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


def _key_hint(location: ServerLocation) -> str:
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
        f"Over plain HTTP a key is sent only where the URI names its environment variable: set "
        f"{DEFAULT_KEY_VARIABLE} and add ?api_key_env={DEFAULT_KEY_VARIABLE}, or use qdrant+https."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _choose_grpc(location: ServerLocation) -> tuple[int | None, tuple[str, ...]]:
    """Return the port to use gRPC on, or None to use REST, and what the user should know of it."""
    if location.grpc is False:
        return None, ()
    if location.grpc is True:
        return location.grpc_port or DEFAULT_GRPC_PORT, ()
    if location.grpc_port is None and location.port != DEFAULT_PORT:
        # Beside a REST port of one's own the default gRPC port may belong to another server.
        return None, ()
    port = location.grpc_port or DEFAULT_GRPC_PORT
    if _answers_grpc(location, port):
        return port, ()
    return None, (f"gRPC does not answer on port {port}: the slower REST interface is used",)


def _answers_grpc(location: ServerLocation, port: int) -> bool:
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
        return error.code() in DENIED_GRPC  # Qdrant all the same, behind something that asks.
    finally:
        channel.close()
    return True
