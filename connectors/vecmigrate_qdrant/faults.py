"""What a server's failures mean: which pass by themselves, and what the user is to hear."""

from __future__ import annotations

import json

import grpc  # type: ignore[import-untyped]
import httpx
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from vecmigrate.connector import RefusedError, UnreachableError, VecmigrateError, WriteError
from vecmigrate_qdrant.access import Refusal

CLIENT_ERRORS: tuple[type[Exception], ...] = (
    ResourceExhaustedResponse,
    ResponseHandlingException,
    UnexpectedResponse,
    grpc.RpcError,
    # What a request cannot express, such as an integer beyond 64 bits over gRPC; no JSON.
    ValueError,
)
"""All that qdrant-client raises for a request to a server."""

_PASSING_HTTP = {429, 502, 503, 504}
_PASSING_GRPC = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
DENIED_GRPC = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


def is_passing(error: BaseException) -> bool:
    """True where the same request may succeed later."""
    if isinstance(error, ResponseHandlingException):
        return isinstance(error.source, httpx.TransportError)
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _PASSING_HTTP
    if isinstance(error, grpc.RpcError):
        return error.code() in _PASSING_GRPC
    return isinstance(error, ResourceExhaustedResponse)


def asked_pause(error: BaseException | None) -> float:
    """Seconds that the server asked to wait before the next try; 0 where it did not say."""
    if isinstance(error, ResourceExhaustedResponse):
        return float(error.retry_after_s)
    if isinstance(error, UnexpectedResponse):
        asked = error.headers.get("retry-after", "")
        return float(asked) if asked.isascii() and asked.isdecimal() else 0.0
    return 0.0


def explain(error: Exception, server: str, key_hint: str, refusal: Refusal) -> VecmigrateError:
    """Turn an error of the client into the one that the user gets."""
    if is_passing(error):
        return UnreachableError(
            f"the Qdrant server {server} does not answer ({reason(error)})",
            remedy="Check that it runs and that host and port are right, then run this again.",
        )
    if _is_denied(error):
        return refusal(f"the Qdrant server {server} denies access", remedy=key_hint)
    if isinstance(error, ResponseHandlingException | json.JSONDecodeError):
        return refusal(
            f"{server} does not answer as a Qdrant server ({reason(error)})",
            remedy="Check host and port; the REST port is 6333 by default.",
        )
    remedy = "Check the request against the server's limits and its version."
    if isinstance(error, ValueError):
        remedy = "Check the payloads; over gRPC integers have 64 bits, which ?grpc=false lifts."
    kind = RefusedError if refusal is WriteError and _is_for_its_content(error) else refusal
    return kind(f"the Qdrant server {server} refused a request ({reason(error)})", remedy=remedy)


def _is_for_its_content(error: Exception) -> bool:
    """True where other points in the request's place may be taken."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code in (400, 413, 422)
    if isinstance(error, grpc.RpcError):
        return bool(error.code() is grpc.StatusCode.INVALID_ARGUMENT)
    return isinstance(error, ValueError)


def _is_denied(error: Exception) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code in (401, 403)
    return isinstance(error, grpc.RpcError) and error.code() in DENIED_GRPC


def reason(error: BaseException | None) -> str:
    """One line without the request, whose headers may hold a key."""
    if isinstance(error, UnexpectedResponse):
        try:
            said = error.structured()["status"]["error"]
        except (ValueError, KeyError, TypeError):
            said = error.reason_phrase
        return f"HTTP {error.status_code}: {_one_line(said)}"
    if isinstance(error, ResponseHandlingException):
        return f"{type(error.source).__name__}: {_one_line(error.source)}"
    if isinstance(error, grpc.RpcError):
        return f"gRPC {error.code().name}: {_one_line(error.details())}"
    return _one_line(error)


def _one_line(said: object) -> str:
    return " ".join(str(said).split())[:300]
