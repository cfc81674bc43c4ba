"""What the loopback server answers if it does not do what is asked."""

from __future__ import annotations

import grpc

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ALREADY_EXISTS,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}
"""The gRPC code that a server gives where it answers with an HTTP status by REST."""


class RefusedError(Exception):
    """An answer other than success.

    Attributes
    ----------
    status
        The HTTP status.
    retry_after
        Whole seconds to wait before the next try, if the server says so.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class LostError(Exception):
    """A request was carried out, and its answer never arrives."""
