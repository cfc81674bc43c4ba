"""Models behind an OpenAI-compatible HTTP endpoint: OpenAI, TEI, vLLM, Ollama and others.

``openai:MODEL[?option=value&...]``; values are percent-encoded, so that a prompt's last space is
written ``%20``.

====================  ==========================================================================
base_url              what comes before ``/embeddings``; else ``https://api.openai.com/v1``
api_key_env           environment variable that holds the key; else ``OPENAI_API_KEY``. Without a
                      key none is sent, as suits a local server
dimensions            length of vector to ask of a model that can shorten them
batch_size            texts in a request; else 64
in_flight             requests under way at once, at most; else 8
requests_per_minute   bound on requests, retries among them; else none
tokens_per_minute     bound on tokens, of four characters each; else none
timeout               seconds without an answer; else 30
max_retries           attempts after the first, on connection errors, 408, 429 and 5xx; else 6
prompt, query_prompt  set before each document, and before each query; else nothing
normalize             ``true`` scales vectors to unit length; else they stay as they come
====================  ==========================================================================
"""

from __future__ import annotations

import base64
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from threading import BoundedSemaphore, Lock
from typing import Annotated

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from vecmigrate.encoders.base import (
    CHARACTERS_PER_TOKEN,
    PLAIN_TEXT,
    Attempt,
    BaseEncoder,
    EncoderRole,
    EncoderSpec,
)
from vecmigrate.encoders.options import Count, ModelOptions, Positive
from vecmigrate.errors import (
    InputError,
    MismatchError,
    TextRefusedError,
    UnreachableError,
    UsageError,
    reason_of,
)
from vecmigrate.points.batch import IdArray, PointId, Vectors, are_unit_length
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.points.ids import point_name
from vecmigrate.telemetry.events import log_event

_log = logging.getLogger(__name__)

LONGEST_WAIT = 120.0
"""Seconds a server may ask us to wait before we give up at once."""

_BACKOFF = wait_random_exponential(multiplier=1, max=30)
_PROBE = (PLAIN_TEXT, "How long is a vector of this model, and is its length one?")
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_TEXTS_REFUSED = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}


@dataclass(frozen=True, slots=True)
class _Made:
    """What requests have brought so far: vectors, refused texts by rows, tokens of each answer."""

    vectors: Vectors
    refused: dict[int, InputError]
    tokens: list[int | None]

    def attempt(self) -> Attempt:
        told = [tokens for tokens in self.tokens if tokens is not None]
        tokens = sum(told) if len(told) == len(self.tokens) > 0 else None
        return Attempt(self.vectors, self.refused, tokens)


class RequestRefusedError(InputError):
    """The server says that it cannot embed what it was sent: one of the texts, or so many."""


class _Options(ModelOptions):
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    dimensions: Count | None = None
    batch_size: Count = 64
    in_flight: Count = 8
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    timeout: Positive = 30.0
    max_retries: Annotated[int, Field(ge=0)] = 6


def open_encoder(spec: EncoderSpec) -> EndpointEncoder:
    """Open an endpoint, asking it once for the vectors of two short texts.

    Raises
    ------
    UsageError
        If an option is not understood.
    MismatchError
        If the server does not keep to ``dimensions``.
    InputError
        If it refuses the key or the model, or its answer is not usable.
    UnreachableError
        If it does not answer after retries.
    """
    return EndpointEncoder(spec)


class EndpointEncoder(BaseEncoder):
    """Embeds texts over HTTP. Redirects are not followed, so the key stays with the endpoint.

    Several threads may use it at once; ``requests_per_minute``, ``tokens_per_minute`` and
    ``in_flight`` bound all of them together.

    Attributes
    ----------
    in_flight, texts_at_once
        Calls that are of use at once, and texts that are best given in one: those of a request.
    keeps_limits
        True if requests or tokens a minute are bounded.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        if "api_key" in spec.options:
            raise UsageError(
                f"the options of {spec.kind}:{spec.name} hold a key",
                remedy="Put it in an environment variable and name that with api_key_env.",
            )
        self._origin = _endpoint_url(spec)
        self._options = options = _Options.read(spec)
        self._model = spec.name
        self._key = _key(options.api_key_env)
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=options.timeout,
            follow_redirects=False,
        )
        self.in_flight, self.texts_at_once = options.in_flight, options.batch_size
        bounds = options.requests_per_minute, options.tokens_per_minute
        self.keeps_limits = bounds != (None, None)
        self._turns = BoundedSemaphore(options.in_flight)
        self._requests = _Pace(options.requests_per_minute)
        self._tokens = _Pace(options.tokens_per_minute)
        probe, _ = self._embed([options.prompt + text for text in _PROBE])
        if options.dimensions not in (None, probe.shape[1]):
            raise MismatchError(
                f"{self._origin} answers with {probe.shape[1]} dimensions, though "
                f"{options.dimensions} were asked for",
                remedy="Leave dimensions out, or choose a model that can shorten its vectors.",
            )
        normalize = options.normalize == "true"
        identity = EncoderIdentity(
            name=spec.name,
            dimension=probe.shape[1],
            prompt=options.prompt or None,
            normalized=normalize or are_unit_length(probe),
        )
        super().__init__(identity, self._origin, normalize=normalize)

    def _vectors(
        self, texts: Sequence[str], ids: Sequence[PointId] | IdArray | None, role: EncoderRole
    ) -> Vectors:
        return self._made(texts, ids, role).vectors

    def _made(
        self, texts: Sequence[str], ids: Sequence[PointId] | IdArray | None, role: EncoderRole
    ) -> Attempt:
        prompted = [self._options.prompt_of(role) + text for text in texts]
        made = _Made(np.full((len(prompted), self.identity.dimension), np.nan, np.float32), {}, [])
        for start in range(0, len(prompted), self._options.batch_size):
            stop = min(start + self._options.batch_size, len(prompted))
            self._fill(made, prompted, start, stop, ids)
        return made.attempt()

    def _fill(
        self,
        made: _Made,
        texts: list[str],
        start: int,
        stop: int,
        ids: Sequence[PointId] | IdArray | None,
    ) -> None:
        """Embed rows ``start`` to ``stop``, halving what the server refuses down to one text."""
        try:
            embedded, tokens = self._embed(texts[start:stop])
        except RequestRefusedError as error:
            if stop - start == 1:
                made.refused[start] = TextRefusedError(
                    f"{point_name(ids, start)}: {error.message}", remedy=error.remedy
                )
                if len(made.refused) == 1 and start == 0:
                    self._check_takes_any(made.refused[start])
                return
            middle = (start + stop) // 2
            self._fill(made, texts, start, middle, ids)
            self._fill(made, texts, middle, stop, ids)
            return
        if embedded.shape[1] != made.vectors.shape[1]:
            raise InputError(
                f"{self._origin} answers with {embedded.shape[1]} dimensions, after "
                f"{made.vectors.shape[1]} before",
                remedy="Check that one model serves all requests.",
            )
        made.vectors[start:stop] = embedded
        made.tokens.append(tokens)

    def _check_takes_any(self, error: InputError) -> None:
        """Raise the error of a first text if it is not that text which the server refuses."""
        try:
            self._embed([self._options.prompt + PLAIN_TEXT])
        except RequestRefusedError:
            raise error from None

    def _embed(self, texts: Sequence[str]) -> tuple[Vectors, int | None]:
        """Return ``(n, d)`` float32 C-contiguous vectors of at least one text, and its tokens.

        Raises
        ------
        RequestRefusedError
            If the server refuses the texts.
        InputError
            If it refuses the key or the model, or its answer is not one vector for each text.
        UnreachableError
            If it does not answer, or not usefully, after all retries.
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
                f"{self._origin} {error} (attempts: {attempts})",
                remedy="Check that the server is up and run again, or raise max_retries, timeout "
                "or lower requests_per_minute.",
            ) from error
        try:
            return _read(answer, len(texts))
        except ValueError as error:
            raise InputError(
                f"the answer of {self._origin} is not usable: {error}",
                remedy="Check that base_url is that of an OpenAI-compatible embeddings server.",
            ) from error

    def _report(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        log_event(
            _log,
            logging.INFO,
            "vecmigrate.retry",
            f"{self._origin} {error}; trying again",
            {"error.type": type(error).__name__, "vecmigrate.attempt": state.attempt_number},
        )

    def _gives_up(self, state: RetryCallState) -> bool:
        asked = _retry_after(state)
        too_long = asked is not None and asked > LONGEST_WAIT
        return too_long or stop_after_attempt(1 + self._options.max_retries)(state)

    def _post(self, texts: Sequence[str]) -> bytes:
        body: dict[str, object] = {
            "model": self._model,
            "input": list(texts),
            "encoding_format": "float",
        }
        if self._options.dimensions is not None:
            body["dimensions"] = self._options.dimensions
        try:
            with self._turns:
                self._tokens.wait(sum(map(len, texts)) / CHARACTERS_PER_TOKEN)
                self._requests.wait(1)
                response = self._client.post(self._origin, json=body)
        except httpx.TransportError as error:
            raise _PassingError(f"does not answer: {reason_of(error)}") from error
        except httpx.RequestError as error:
            raise InputError(
                f"the answer of {self._origin} cannot be read: {reason_of(error)}",
                remedy="Check that base_url is that of an OpenAI-compatible embeddings server.",
            ) from error
        if response.status_code != HTTPStatus.OK:
            raise self._refusal(response)
        return response.content

    def _refusal(self, response: httpx.Response) -> Exception:
        status, url = response.status_code, self._origin
        answers = f"answers {status}: {self._said(response)}"
        if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return _PassingError(answers, _seconds(response.headers))
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            variable = self._options.api_key_env
            # The server's words are left out, since some of them repeat the key.
            return InputError(
                f"{url} answers {status}: it refuses the key in {variable}"
                if self._key
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
            return RequestRefusedError(
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
        if self._key:
            said = said.replace(self._key, "***")
        return reason_of(said or response.reason_phrase)


class _PassingError(Exception):
    """A failure that may be over soon; with the seconds that the server asks us to wait."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class _Pace:
    """Lets so much begin a minute, on average; None for no bound."""

    def __init__(self, per_minute: float | None) -> None:
        self._seconds_each = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = Lock()

    def wait(self, amount: float) -> None:
        """Wait until ``amount`` may begin."""
        with self._lock:
            turn = max(time.monotonic(), self._next)
            self._next = turn + amount * self._seconds_each
        time.sleep(max(0.0, turn - time.monotonic()))


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


class _Item(BaseModel, strict=True):
    index: int
    embedding: list[float] | str


class _Usage(BaseModel):
    total_tokens: int | None = None


class _Answer(BaseModel, strict=True):
    data: list[_Item]
    usage: _Usage | None = None


def _read(answer: bytes, count: int) -> tuple[Vectors, int | None]:
    try:
        read = _Answer.model_validate_json(answer)
        items, usage = read.data, read.usage
    except ValidationError as error:
        raise ValueError(reason_of(error)) from None
    if len(items) != count:
        raise ValueError(f"{len(items)} vectors for {count} texts")
    items.sort(key=lambda item: item.index)
    if [item.index for item in items] != list(range(count)):
        raise ValueError(f"the vectors are not numbered 0 to {count - 1}")
    rows = [_row(item.embedding) for item in items]
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"vectors of {', '.join(map(str, sorted(lengths)))} dimensions")
    # A server that counts no tokens may say 0.
    return np.stack(rows), (usage and usage.total_tokens) or None


def _row(embedding: list[float] | str) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    with np.errstate(over="ignore"):  # infinity is refused later, by id
        return np.array(embedding, dtype=np.float32)


def _endpoint_url(spec: EncoderSpec) -> str:
    """Return the endpoint's URL; what is refused is not repeated, since it may hold a secret."""
    text = spec.options.get("base_url", _Options.model_fields["base_url"].default)
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query:
        raise UsageError(
            f"base_url of {spec.kind}:{spec.name} is not http(s)://HOST[:PORT]/PATH",
            remedy="Write it so, without a user, a password or a query; the key comes from the "
            "environment variable named by api_key_env.",
        )
    return f"{str(url).rstrip('/')}/embeddings"


def _key(variable: str) -> str | None:
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise UsageError(
            f"the environment variable {variable} does not hold a key",
            remedy="Set it to one line of plain characters.",
        )
    return key or None
