"""What every encoder is, and how one is opened by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector.registry import load_plugin, plugin_names
from vecmigrate.connector.uri import parse_options
from vecmigrate.errors import BadVectorError, InputError, UsageError
from vecmigrate.evaluation.queries import Query
from vecmigrate.points.batch import IdArray, PointId, Vectors, id_array, normalize_rows, row_norms
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.points.ids import name_some, point_name

ENCODERS = "vecmigrate.encoders"
DEFAULT_KIND = "sentence-transformers"

EncoderRole: TypeAlias = Literal["document", "query"]

_Text = TypeVar("_Text", bound=str | None)


class Encoder(Protocol):
    """Turns texts into vectors.

    Attributes
    ----------
    identity
        Known once the encoder is open.
    needs_texts
        False if vectors are looked up by id and texts may be None.
    """

    @property
    def identity(self) -> EncoderIdentity: ...

    @property
    def needs_texts(self) -> bool: ...

    def encode(
        self,
        texts: Sequence[str] | None,
        *,
        ids: Sequence[PointId] | IdArray | None = None,
        role: EncoderRole = "document",
    ) -> Vectors:
        """Return ``(n, d)`` float32 C-contiguous vectors, row i for text (or id) i.

        Raises
        ------
        InputError
            If an id has no vector, or the model's answer is not usable.
        UnreachableError
            If an encoding server does not answer after retries.
        """
        ...


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """A parsed encoder name: ``kind:name?option=value``."""

    kind: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    text: str = ""


def parse_encoder(text: str) -> EncoderSpec:
    """Parse an encoder's name.

    Raises
    ------
    UsageError
        If the name is empty or an option is given twice.
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in plugin_names(ENCODERS):
        kind, rest = DEFAULT_KIND, text
    name, _, query = rest.partition("?")
    if not name:
        raise UsageError(f"{text!r} names no encoder", remedy="Write KIND:NAME, or a model's name.")
    return EncoderSpec(kind, name, parse_options(text, query), text)


def open_encoder(text: str) -> Encoder:
    """Open the encoder that ``text`` names.

    Raises
    ------
    UsageError
        If the name or an option is not understood.
    MissingDependencyError
        If the packages it needs are not installed.
    InputError, UnreachableError
        If the model, file or server is not there.
    """
    spec = parse_encoder(text)
    return cast(Encoder, load_plugin(ENCODERS, spec.kind)(spec))


CHARACTERS_PER_TOKEN = 4
"""A common rule for English text, if the encoder's tokenizer is not at hand."""

TEXTS_AT_ONCE = 256
"""Texts that a model on this machine is given in one call."""


def in_flight(encoder: Encoder) -> int:
    """Return how many calls of an encoder are of use at once."""
    return int(getattr(encoder, "in_flight", 1))


def keeps_limits(encoder: Encoder) -> bool:
    """Tell whether an encoder keeps limits that hold for one process alone."""
    return bool(getattr(encoder, "keeps_limits", False))


def texts_at_once(encoder: Encoder) -> int:
    """Return how many texts are best given in one call: an endpoint's are those of a request."""
    return int(getattr(encoder, "texts_at_once", TEXTS_AT_ONCE))


def encode_queries(encoder: Encoder, queries: Sequence[Query]) -> Vectors:
    """Return the ``(n, d)`` vectors of queries, by their texts or, if ready-made, by their ids.

    Raises
    ------
    InputError
        If the encoder needs texts and a query has none.
    UnreachableError
        From the encoder.
    """
    texts = [query.text for query in queries if query.text]
    if encoder.needs_texts and len(texts) < len(queries):
        missing = next(query.id for query in queries if not query.text)
        raise InputError(
            f"query {missing} has no text", remedy="Give it one, or ready-made query vectors."
        )
    return encoder.encode(texts, ids=id_array(query.id for query in queries), role="query")


PLAIN_TEXT = "dimension probe"
"""One that any encoder takes."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of embedding some texts.

    Attributes
    ----------
    vectors
        ``(n, d)``; the rows of refused texts hold nothing of use.
    refused
        Why a text was not taken, by its row.
    tokens
        That a server says it has counted in the texts that it took; None if it does not say.
    """

    vectors: Vectors
    refused: Mapping[int, InputError] = field(default_factory=dict)
    tokens: int | None = None


class BaseEncoder(ABC):
    """What our encoders share: see :class:`Encoder`.

    Parameters
    ----------
    origin
        Where vectors come from, for errors: a model, a file or a URL.
    normalize
        Scale vectors to unit length.

    Attributes
    ----------
    in_flight
        Calls that are of use at once.
    """

    needs_texts = True
    in_flight = 1

    def __init__(self, identity: EncoderIdentity, origin: str, *, normalize: bool = False) -> None:
        self.identity = identity
        self._origin = origin
        self._normalize = normalize

    def encode(
        self,
        texts: Sequence[str] | None,
        *,
        ids: Sequence[PointId] | IdArray | None = None,
        role: EncoderRole = "document",
    ) -> Vectors:
        """Return ``(n, d)`` float32 C-contiguous vectors, row i for text (or id) i.

        Where texts are needed, ids only name them in errors.

        Raises
        ------
        InputError
            If texts or ids that are needed are not given, or an id has no vector.
        TextRefusedError
            If the model or server does not take a text; names the first.
        BadVectorError
            If a vector holds NaN or infinity, or is zero; up to ten ids are named.
        UnreachableError
            If a server does not answer after retries.
        """
        made = self._attempt(texts, ids, role)
        for error in made.refused.values():
            raise error
        return made.vectors

    def attempt(
        self,
        texts: Sequence[str] | None,
        *,
        ids: Sequence[PointId] | IdArray | None = None,
        role: EncoderRole = "document",
    ) -> Attempt:
        """As :meth:`encode`, with the vectors of the texts that are taken if others are not.

        Raises
        ------
        TextRefusedError, BadVectorError
            If no text is taken, not even one that any encoder takes: then the texts are not at
            fault.
        InputError, UnreachableError
            As :meth:`encode`.
        """
        made = self._attempt(texts, ids, role)
        if self.needs_texts and len(made.refused) == len(made.vectors) > 0:
            refused = self._attempt([PLAIN_TEXT], None, role).refused
            for error in made.refused.values() if refused else ():
                raise error
        return made

    def _attempt(
        self,
        texts: Sequence[str] | None,
        ids: Sequence[PointId] | IdArray | None,
        role: EncoderRole,
    ) -> Attempt:
        if self.needs_texts:
            require_texts(texts, self.identity.name)
        made = self._made(texts or (), ids, role)
        refused = dict(made.refused)
        vectors = np.ascontiguousarray(made.vectors, dtype=np.float32)
        norms = row_norms(vectors)
        unusable = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
        bad = [row for row in unusable.tolist() if row not in refused]
        if bad:
            refused |= dict.fromkeys(bad, self._bad_vectors(bad, ids))
        if self._normalize:
            vectors[list(refused)] = 1
            normalize_rows(vectors)
        return Attempt(vectors, refused, made.tokens)

    def _made(
        self, texts: Sequence[str], ids: Sequence[PointId] | IdArray | None, role: EncoderRole
    ) -> Attempt:
        """Return vectors as they come, if some texts may be refused."""
        return Attempt(self._vectors(texts, ids, role))

    def _bad_vectors(
        self, rows: list[int], ids: Sequence[PointId] | IdArray | None
    ) -> BadVectorError:
        return BadVectorError(
            f"{self._origin} gives zero, NaN or infinite vectors for "
            f"{name_some(point_name(ids, row) for row in rows)}",
            remedy="Leave these points out, or mend their texts or vectors.",
        )

    @abstractmethod
    def _vectors(
        self, texts: Sequence[str], ids: Sequence[PointId] | IdArray | None, role: EncoderRole
    ) -> NDArray[np.floating]:
        """Return ``(n, d)`` vectors as they come."""


def require_texts(texts: Sequence[_Text] | None, encoder: str) -> Sequence[_Text]:
    """Return the texts.

    Raises
    ------
    InputError
        If there are none to encode.
    """
    if texts is None:
        raise InputError(
            f"encoder {encoder} was given no texts",
            remedy="Name the field that holds the text, or use a vectors: encoder.",
        )
    return texts
