"""What a server's failures mean: which pass by themselves, and what the user is to hear."""

from __future__ import annotations

import json

import grpc  # type: ignore[import-untyped]
import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from vecmigrate.connector import RefusedError, UnreachableError, VecmigrateError, WriteError
from vecmigrate_qdrant.access.base import Refusal
from vecmigrate_qdrant.limits import limit_behind

CLIENT_ERRORS: tuple[type[Exception], ...] = (
    # A Retry-After that is a date, beside what a rate limit is told by.
    QdrantException,
    ResponseHandlingException,
    UnexpectedResponse,
    grpc.RpcError,
    # What a request cannot express, such as an integer beyond 64 bits over gRPC; no JSON.
    ValueError,
    # An answer that is JSON, and not Qdrant's.
    AssertionError,
)
"""All that qdrant-client raises for a request to a server."""

RATE_LIMIT_PAUSE = 5.0
"""Seconds to wait for a rate limit that does not say how long."""

_FOR_CONTENT_HTTP = {400, 413, 422}
_PASSING_HTTP = {408, 429, 502, 503, 504}
_PASSING_GRPC = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
# A cluster tells that a node or a replica is away by the statuses of any fault of its own.
_OWN_FAULT_GRPC = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
_PASSING_TEXTS = (
    "please retry",
    "active replica",
    "consensus",
    "timed out",
    "timeout",
    "deadline exceeded",
    "temporarily unavailable",
    "currently unavailable",
    # Between two nodes, or between us and a node that ends.
    "tcp connect error",
    "error trying to connect",
    "transport error",
    "connection refused",
    "connection reset",
    "connection closed",
    "broken pipe",
    "rst_stream",
    "goaway",
    "stream removed",
    "h2 protocol error",
    "cancelled",
    "channel closed",
    "channel dropped",
    "reach one of the workers",
)
# By both sides' libraries; gRPC ends what it says of any failed handshake with "certificate".
_CERTIFICATE_TEXTS = (
    "certificate verify failed",
    "verification check failed",
    "peer name",
    "bad certificate",
    "certificate required",
    "certificate unknown",
    "certificate expired",
    "unknown ca",
)
_HANDSHAKE_TEXTS = ("handshake", "ssl", "verification check failed", "peer name")
_NOT_TLS_TEXTS = ("wrong version number", "record layer failure")
_TOO_LARGE_GRPC = "larger than max"
DENIED_GRPC = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


def is_passing(error: BaseException) -> bool:
    """True if the same request may succeed later."""
    if is_tls_fault(error) or limit_behind(reason(error)) is not None:
        return False
    if isinstance(error, ResponseHandlingException):
        return isinstance(error.source, httpx.TransportError)
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _PASSING_HTTP or (error.status_code == 500 and _passes(error))
    if isinstance(error, grpc.RpcError):
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return _TOO_LARGE_GRPC not in str(error.details())
        return error.code() in _PASSING_GRPC or (error.code() in _OWN_FAULT_GRPC and _passes(error))
    return isinstance(error, QdrantException)


def _passes(error: Exception) -> bool:
    said = reason(error).lower()
    return any(text in said for text in _PASSING_TEXTS)


def is_rate_limit(error: BaseException) -> bool:
    """True if a server that answers asks to be asked again later.

    A busy proxy that does not say when is a fault that passes, or does not.
    """
    if isinstance(error, QdrantException):
        return True
    limited = "rate limit exceeded" in reason(error).lower()
    return limited and is_passing(error)


def is_tls_fault(error: BaseException) -> bool:
    """True if no secure connection can be made, however often it is tried."""
    said = _said_of_connecting(error)
    return any(text in said for text in (*_CERTIFICATE_TEXTS, *_NOT_TLS_TEXTS))


def is_certificate_fault(error: BaseException) -> bool:
    """True if one side does not accept the other's certificate."""
    return any(text in _said_of_connecting(error) for text in _CERTIFICATE_TEXTS)


def _said_of_connecting(error: BaseException) -> str:
    """Return in lower case what is said of a failed TLS handshake; "" of any other fault."""
    if isinstance(error, ResponseHandlingException):
        said = str(error.source) if isinstance(error.source, httpx.ConnectError) else ""
    elif isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.UNAVAILABLE:
        said = str(error.details())
    else:
        said = ""
    said = said.lower().replace("_", " ")
    return said if any(text in said for text in _HANDSHAKE_TEXTS) else ""


def asked_pause(error: BaseException | None) -> float:
    """Seconds that the server asked to wait before the next try; 0 if it did not say."""
    if isinstance(error, ResourceExhaustedResponse):
        return float(error.retry_after_s)
    if isinstance(error, UnexpectedResponse):
        asked = error.headers.get("retry-after", "")
        return float(asked) if asked.isascii() and asked.isdecimal() else 0.0
    return 0.0


def explain(error: Exception, server: str, key_hint: str, refusal: Refusal) -> VecmigrateError:
    """Turn an error of the client into the one that the user gets."""
    if is_tls_fault(error):
        return _explain_tls(error, server)
    if is_passing(error):
        return UnreachableError(
            f"the Qdrant server {server} does not answer ({reason(error)})",
            remedy="Check that it runs and that host and port are right, then run this again.",
        )
    if _is_denied(error):
        return refusal(f"the Qdrant server {server} denies access", remedy=key_hint)
    if _is_foreign(error):
        return refusal(
            f"{server} does not answer as a Qdrant server ({reason(error)})",
            remedy="Check host, port (REST: 6333 by default), path, and the server's version.",
        )
    if (limit := limit_behind(reason(error))) is not None:
        # No point is at fault: the same ones are taken once the limit is another.
        return refusal(
            f"{limit.whose} of the Qdrant server {server} is reached ({reason(error)})",
            remedy=limit.remedy,
        )
    remedy = "Check the request against the server's limits and its version."
    if isinstance(error, ValueError):
        remedy = "Check the payloads; over gRPC integers have 64 bits, which ?grpc=false lifts."
    kind = RefusedError if refusal is WriteError and _is_for_its_content(error) else refusal
    return kind(f"the Qdrant server {server} refused a request ({reason(error)})", remedy=remedy)


def _is_foreign(error: Exception) -> bool:
    """True if the answer is none that Qdrant gives, as a page of a web server.

    What a proxy refuses for its content, as too large, is Qdrant's all the same.
    """
    if isinstance(error, grpc.RpcError):
        return "http2 header with status" in str(error.details())
    if isinstance(error, UnexpectedResponse):
        return error.status_code not in _FOR_CONTENT_HTTP and _said_by_qdrant(error) is None
    foreign = ResponseHandlingException | json.JSONDecodeError | AssertionError
    return isinstance(error, foreign)


def _explain_tls(error: Exception, server: str) -> UnreachableError:
    by_grpc = isinstance(error, grpc.RpcError)
    if is_certificate_fault(error):
        variable = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" if by_grpc else "SSL_CERT_FILE"
        how = "gRPC" if by_grpc else "REST"
        return UnreachableError(
            f"the certificate of the Qdrant server {server} is not accepted ({reason(error)})",
            remedy=f"Name the server as its certificate does; if an authority of your own issued "
            f"it, set {variable} ({how}) to the PEM file of that authority.",
        )
    port = "its gRPC port" if by_grpc else "its port"
    return UnreachableError(
        f"the Qdrant server {server} does not speak TLS on {port} ({reason(error)})",
        remedy="Check the port; write qdrant://... for a server without TLS.",
    )


def _is_for_its_content(error: Exception) -> bool:
    """True if other points in the request's place may be taken."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _FOR_CONTENT_HTTP
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
        said = _said_by_qdrant(error) or error.reason_phrase
        return f"HTTP {error.status_code}: {_one_line(said)}"
    if isinstance(error, ResponseHandlingException):
        return f"{type(error.source).__name__}: {_one_line(error.source)}"
    if isinstance(error, grpc.RpcError):
        return f"gRPC {error.code().name}: {_one_line(error.details())}"
    return _one_line(error)


def _said_by_qdrant(error: UnexpectedResponse) -> object:
    """Return what Qdrant says of a request that failed; None if another server answered."""
    try:
        return error.structured()["status"]["error"]
    except (ValueError, KeyError, TypeError):
        return None


def _one_line(said: object) -> str:
    return " ".join(str(said).split())[:300]
