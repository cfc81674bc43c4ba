"""What every encoder is, and how one is opened by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, TypeVar, cast

import numpy as np

from vecmigrate.connector.registry import load_plugin, plugin_names
from vecmigrate.connector.uri import check_options, parse_options
from vecmigrate.errors import BadVectorError, InputError, UsageError
from vecmigrate.points.batch import IdArray, PointId, Vectors, row_norms
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
        False where vectors are looked up by id and texts may be None.
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
            Where an id has no vector, or the model's answer is not usable.
        UnreachableError
            Where an encoding server does not answer after retries.
        """
        ...


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """A parsed encoder name: ``kind:name?option=value``."""

    kind: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    def check_options(self, known: Iterable[str]) -> None:
        """Raise :class:`UsageError` where an option is not among ``known``."""
        check_options(self.text, self.options, known)


def parse_encoder(text: str) -> EncoderSpec:
    """Parse an encoder's name.

    Raises
    ------
    UsageError
        Where the name is empty or an option is given twice.
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
        Where the name or an option is not understood.
    MissingDependencyError
        Where the packages it needs are not installed.
    InputError, UnreachableError
        Where the model, file or server is not there.
    """
    spec = parse_encoder(text)
    return cast(Encoder, load_plugin(ENCODERS, spec.kind)(spec))


def require_texts(texts: Sequence[_Text] | None, encoder: str) -> Sequence[_Text]:
    """Return the texts.

    Raises
    ------
    InputError
        Where there are none to encode.
    """
    if texts is None:
        raise InputError(
            f"encoder {encoder} was given no texts",
            remedy="Name the field that holds the text, or use a vectors: encoder.",
        )
    return texts


def require_usable(
    vectors: Vectors, ids: Sequence[PointId] | IdArray | None, *, origin: str
) -> None:
    """Refuse ``(n, d)`` vectors that no index can compare.

    Raises
    ------
    BadVectorError
        Names up to ten points whose vectors hold NaN or infinity, or have no length.
    """
    norms = row_norms(vectors)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        named = name_some(point_name(ids, int(row)) for row in bad)
        raise BadVectorError(
            f"{origin} gives zero, NaN or infinite vectors for {named}",
            remedy="Leave these points out, or mend their texts or vectors.",
        )
