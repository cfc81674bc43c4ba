"""Models behind an OpenAI-compatible HTTP endpoint: OpenAI, TEI, vLLM, Ollama and others.

``openai:MODEL[?option=value&...]``; values are percent-encoded, so that a prompt's last space is
written ``%20``.

====================  ==========================================================================
base_url              what comes before ``/embeddings``; else ``https://api.openai.com/v1``
api_key_env           environment variable that holds the key; else ``OPENAI_API_KEY``. Without a
                      key none is sent, as suits a local server
dimensions            length of vector to ask of a model that can shorten them
batch_size            texts in a request; else 64
requests_per_minute   bound on requests, retries among them; else none
timeout               seconds without an answer; else 30
max_retries           attempts after the first, on connection errors, 408, 429 and 5xx; else 6
prompt, query_prompt  set before each document, and before each query; else nothing
normalize             ``true`` scales vectors to unit length; else they stay as they come
====================  ==========================================================================
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import httpx
import numpy as np

from vecmigrate.encoders.base import EncoderRole, EncoderSpec
from vecmigrate.encoders.checks import require_texts, require_usable
from vecmigrate.encoders.embeddings_endpoint import (
    EmbeddingsEndpoint,
    EndpointSettings,
    TextsRefusedError,
)
from vecmigrate.encoders.options import Prompts, read_count, read_flag, read_number
from vecmigrate.errors import InputError, MismatchError, UsageError
from vecmigrate.points.batch import IdArray, PointId, Vectors, are_unit_length, normalize_rows
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.points.ids import point_name

_OPTIONS = (
    "api_key_env",
    "base_url",
    "batch_size",
    "dimensions",
    "max_retries",
    "normalize",
    "prompt",
    "query_prompt",
    "requests_per_minute",
    "timeout",
)
_OPENAI = "https://api.openai.com/v1"
_PROBE = ("dimension probe", "How long is a vector of this model, and is its length one?")


def open_encoder(spec: EncoderSpec) -> EndpointEncoder:
    """Open an endpoint, asking it once for the vectors of two short texts.

    Raises
    ------
    UsageError
        Where an option is not understood.
    MismatchError
        Where the server does not keep to ``dimensions``.
    InputError
        Where it refuses the key or the model, or its answer is not usable.
    UnreachableError
        Where it does not answer after retries.
    """
    if "api_key" in spec.options:
        raise UsageError(
            f"the options of {spec.kind}:{spec.name} hold a key",
            remedy="Put it in an environment variable and name that with api_key_env.",
        )
    url = _endpoint_url(spec)
    spec.check_options(_OPTIONS)
    dimensions = read_count(spec, "dimensions", None)
    key_variable = spec.options.get("api_key_env", "OPENAI_API_KEY")
    endpoint = EmbeddingsEndpoint(
        EndpointSettings(
            url=url,
            model=spec.name,
            dimensions=dimensions,
            key=_key(key_variable),
            key_variable=key_variable,
            timeout=read_number(spec, "timeout", 30.0),
            max_retries=read_count(spec, "max_retries", 6, minimum=0),
            requests_per_minute=read_number(spec, "requests_per_minute", None),
        )
    )
    prompts = Prompts.read(spec)
    normalize = read_flag(spec, "normalize", False)
    batch_size = read_count(spec, "batch_size", 64)

    probe = endpoint.embed([prompts.document + text for text in _PROBE])
    if dimensions is not None and probe.shape[1] != dimensions:
        raise MismatchError(
            f"{url} answers with {probe.shape[1]} dimensions, though {dimensions} were asked for",
            remedy="Leave dimensions out, or choose a model that can shorten its vectors.",
        )
    identity = EncoderIdentity(
        name=spec.name,
        dimension=probe.shape[1],
        prompt=prompts.document or None,
        normalized=normalize or are_unit_length(probe),
    )
    return EndpointEncoder(endpoint, url, identity, prompts, normalize, batch_size)


class EndpointEncoder:
    """Embeds texts over HTTP; see :class:`vecmigrate.encoders.Encoder`."""

    needs_texts = True

    def __init__(
        self,
        endpoint: EmbeddingsEndpoint,
        url: str,
        identity: EncoderIdentity,
        prompts: Prompts,
        normalize: bool,
        batch_size: int,
    ) -> None:
        self.identity = identity
        self._endpoint = endpoint
        self._url = url
        self._prompts = prompts
        self._normalize = normalize
        self._batch_size = batch_size

    def encode(
        self,
        texts: Sequence[str] | None,
        *,
        ids: Sequence[PointId] | IdArray | None = None,
        role: EncoderRole = "document",
    ) -> Vectors:
        """Return ``(n, d)`` float32 vectors of ``texts``; ``ids`` only name them in errors.

        Raises
        ------
        InputError
            Where the server refuses a text, named by id or position, or its answer is not usable.
        UnreachableError
            Where the server does not answer after retries.
        """
        prompt = self._prompts.of(role)
        prompted = [prompt + text for text in require_texts(texts, self.identity.name)]
        vectors = np.empty((len(prompted), self.identity.dimension), np.float32)
        for start in range(0, len(prompted), self._batch_size):
            stop = min(start + self._batch_size, len(prompted))
            self._fill(vectors, prompted, start, stop, ids)
        require_usable(vectors, ids, origin=self._url)
        if self._normalize:
            normalize_rows(vectors)
        return vectors

    def _fill(
        self,
        vectors: Vectors,
        texts: list[str],
        start: int,
        stop: int,
        ids: Sequence[PointId] | IdArray | None,
    ) -> None:
        """Embed rows ``start`` to ``stop``, halving what the server refuses down to one text."""
        try:
            embedded = self._endpoint.embed(texts[start:stop])
        except TextsRefusedError as error:
            if stop - start == 1:
                raise InputError(
                    f"{point_name(ids, start)}: {error.message}", remedy=error.remedy
                ) from error
            middle = (start + stop) // 2
            self._fill(vectors, texts, start, middle, ids)
            self._fill(vectors, texts, middle, stop, ids)
            return
        if embedded.shape[1] != vectors.shape[1]:
            raise InputError(
                f"{self._url} answers with {embedded.shape[1]} dimensions, after "
                f"{vectors.shape[1]} before",
                remedy="Check that one model serves all requests.",
            )
        vectors[start:stop] = embedded


def _endpoint_url(spec: EncoderSpec) -> str:
    """Return the endpoint's URL; what is refused is not repeated, since it may hold a secret."""
    text = spec.options.get("base_url", _OPENAI)
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
