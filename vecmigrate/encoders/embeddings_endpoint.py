"""Talks to an OpenAI-compatible embeddings endpoint: one request, its retries, its answer."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from vecmigrate.errors import InputError, UnreachableError, reason_of
from vecmigrate.points.batch import Vectors
from vecmigrate.telemetry.events import log_event

_log = logging.getLogger(__name__)

LONGEST_WAIT = 120.0
"""Seconds a server may ask us to wait before we give up at once."""

_BACKOFF = wait_random_exponential(multiplier=1, max=30)
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_TEXTS_REFUSED = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}


class TextsRefusedError(InputError):
    """The server says that it cannot embed what it was sent: one of the texts, or so many."""


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Where the endpoint is, and how it is to be treated.

    Attributes
    ----------
    url
        Of the endpoint itself, as ``http://localhost:8080/v1/embeddings``.
    dimensions
        Asked of the server where it can shorten vectors; None leaves it to the server.
    key, key_variable
        The secret, and the environment variable it came from; None where that is not set.
    timeout
        Seconds to connect, and without a byte of the answer.
    max_retries
        Attempts after the first.
    requests_per_minute
        Bound on requests, retries among them; None for none.
    """

    url: str
    model: str
    dimensions: int | None
    key: str | None = field(repr=False)
    key_variable: str
    timeout: float
    max_retries: int
    requests_per_minute: float | None


class EmbeddingsEndpoint:
    """An endpoint that embeds texts. Redirects are not followed, so the key stays with it."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        headers = {"Authorization": f"Bearer {settings.key}"} if settings.key else {}
        self._client = httpx.Client(
            headers=headers, timeout=settings.timeout, follow_redirects=False
        )
        rate = settings.requests_per_minute
        self._pace = _Pace(60 / rate if rate else 0.0)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return ``(n, d)`` float32 C-contiguous vectors of at least one text.

        Raises
        ------
        TextsRefusedError
            Where the server refuses the texts.
        InputError
            Where it refuses the key or the model, or its answer is not one vector for each text.
        UnreachableError
            Where it does not answer, or not usefully, after all retries.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(_PassingError),
            stop=self._gives_up,
            wait=_wait,
            before_sleep=self._report,
            reraise=True,
        )
        try:
            answer = retrying(self._post, texts)
        except _PassingError as error:
            attempts = retrying.statistics["attempt_number"]
            raise UnreachableError(
                f"{self._settings.url} {error} (attempts: {attempts})",
                remedy="Check that the server is up and run again, or raise max_retries, timeout "
                "or lower requests_per_minute.",
            ) from error
        try:
            return _vectors(answer, len(texts))
        except ValueError as error:
            raise InputError(
                f"the answer of {self._settings.url} is not usable: {error}",
                remedy="Check that base_url is that of an OpenAI-compatible embeddings server.",
            ) from error

    def _report(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        log_event(
            _log,
            logging.INFO,
            "vecmigrate.retry",
            f"{self._settings.url} {error}; trying again",
            {"error.type": type(error).__name__, "vecmigrate.attempt": state.attempt_number},
        )

    def _gives_up(self, state: RetryCallState) -> bool:
        asked = _retry_after(state)
        too_long = asked is not None and asked > LONGEST_WAIT
        return too_long or stop_after_attempt(1 + self._settings.max_retries)(state)

    def _post(self, texts: Sequence[str]) -> bytes:
        body: dict[str, object] = {
            "model": self._settings.model,
            "input": list(texts),
            "encoding_format": "float",
        }
        if self._settings.dimensions is not None:
            body["dimensions"] = self._settings.dimensions
        self._pace.wait()
        try:
            response = self._client.post(self._settings.url, json=body)
        except httpx.TransportError as error:
            raise _PassingError(f"does not answer: {reason_of(error)}") from error
        except httpx.RequestError as error:
            raise InputError(
                f"the answer of {self._settings.url} cannot be read: {reason_of(error)}",
                remedy="Check that base_url is that of an OpenAI-compatible embeddings server.",
            ) from error
        if response.status_code != HTTPStatus.OK:
            raise self._refusal(response)
        return response.content

    def _refusal(self, response: httpx.Response) -> Exception:
        status, url = response.status_code, self._settings.url
        answers = f"answers {status}: {self._said(response)}"
        if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return _PassingError(answers, _seconds(response.headers))
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            variable = self._settings.key_variable
            # The server's words are left out, since some of them repeat the key.
            return InputError(
                f"{url} answers {status}: it refuses the key in {variable}"
                if self._settings.key
                else f"{url} answers {status}, and {variable} is not set",
                remedy=f"Set the environment variable {variable} to a valid key, or name another "
                "with api_key_env.",
            )
        if response.is_redirect:
            return InputError(
                f"{url} answers {status}: it has moved to {response.headers.get('location')}",
                remedy="Give the new place as base_url; redirects are not followed.",
            )
        if status in _TEXTS_REFUSED:
            return TextsRefusedError(
                f"{url} {answers}",
                remedy="Check the model and its options, or shorten or leave out the text.",
            )
        return InputError(f"{url} {answers}", remedy="Check base_url and the model's name.")

    def _said(self, response: httpx.Response) -> str:
        said = response.text
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            error = answer.get("error", answer.get("message", answer.get("detail", said)))
            said = str(error.get("message", error) if isinstance(error, dict) else error)
        if self._settings.key:
            said = said.replace(self._settings.key, "***")
        return reason_of(said or response.reason_phrase)


class _PassingError(Exception):
    """A failure that may be over soon; with the seconds that the server asks us to wait."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class _Pace:
    """Lets one request start each ``interval`` seconds."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = 0.0

    def wait(self) -> None:
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._interval


def _retry_after(state: RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome else None
    return error.retry_after if isinstance(error, _PassingError) else None


def _wait(state: RetryCallState) -> float:
    asked = _retry_after(state)
    return _BACKOFF(state) if asked is None else asked


def _seconds(headers: Mapping[str, str]) -> float | None:
    """Read ``Retry-After``: seconds, or the date to wait for."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


class _Item(BaseModel):
    model_config = ConfigDict(strict=True)

    index: int
    embedding: list[float] | str


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True)

    data: list[_Item]


def _vectors(answer: bytes, count: int) -> Vectors:
    try:
        items = _Answer.model_validate_json(answer).data
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{place}: {first['msg']}") from None
    if len(items) != count:
        raise ValueError(f"{len(items)} vectors for {count} texts")
    items.sort(key=lambda item: item.index)
    if [item.index for item in items] != list(range(count)):
        raise ValueError(f"the vectors are not numbered 0 to {count - 1}")
    rows = [_row(item.embedding) for item in items]
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"vectors of {', '.join(map(str, sorted(lengths)))} dimensions")
    return np.stack(rows)


def _row(embedding: list[float] | str) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    with np.errstate(over="ignore"):  # infinity is refused later, by id
        return np.array(embedding, dtype=np.float32)
