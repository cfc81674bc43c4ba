"""Translator files: safetensors with a JSON card, refused if they do not add up."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vecmigrate.errors import InputError, MismatchError, reason_of
from vecmigrate.io.atomic import published, require_absent
from vecmigrate.points.collection import CollectionDescription, EncoderIdentity
from vecmigrate.translators.base import Translator, registered
from vecmigrate.translators.token_features import TokenFeatures

FORMAT_VERSION = 2
"""The newest that is read; a file has the oldest that can tell what it holds."""

_HEADER = "vecmigrate"
_OF_TEXTS = "texts."


class Direction(StrEnum):
    """What a translator is applied to."""

    DOCUMENT = "document"
    QUERY = "query"


class TranslatorCard(BaseModel, frozen=True, extra="forbid"):
    """What a translator file says of itself; no date or host, so that equal fits are equal files.

    Attributes
    ----------
    direction
        ``document`` maps the old collection's vectors into the new space, ``query`` new queries
        into the old one.
    anchors, seed
        Pairs fitted on, and the seed that drew them (None if the arrays were given).
    source_encoder, target_encoder
        Whose spaces these are, None if not told.
    parameters
        The method's own, beside the tensors.
    mixing_scale
        See :func:`mixing_scale`; None if the population is not known.
    versions
        Of vecmigrate and numpy, when fitted.
    """

    format_version: int = 1
    method: str
    direction: Direction = Direction.DOCUMENT
    source_dimension: int
    target_dimension: int
    anchors: int
    seed: int | None = None
    source_encoder: EncoderIdentity | None = None
    target_encoder: EncoderIdentity | None = None
    parameters: dict[str, Any]
    versions: dict[str, str]
    mixing_scale: float | None = None


def save_translator(
    translator: Translator,
    path: str | Path,
    *,
    direction: Direction = Direction.DOCUMENT,
    seed: int | None = None,
    source_encoder: EncoderIdentity | None = None,
    target_encoder: EncoderIdentity | None = None,
    mixing_scale: float | None = None,
    overwrite: bool = False,
) -> TranslatorCard:
    """Write a fitted translator to ``path`` in one step.

    Raises
    ------
    TargetExistsError
        If ``path`` exists and ``overwrite`` is not given.
    MismatchError
        If an encoder's dimension is not the translator's.
    WriteError
        If the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    if not overwrite:
        require_absent(path)
    for side, encoder, dimension in (
        ("source", source_encoder, translator.source_dim_),
        ("target", target_encoder, translator.target_dim_),
    ):
        if encoder is not None and encoder.dimension != dimension:
            raise MismatchError(
                f"the {side} encoder {encoder} does not make vectors of {dimension} dimensions",
                remedy="Name the encoder that made them.",
            )
    tensors, parameters = translator.state()
    if translator.text_features_ is not None:
        of_texts = translator.text_features_.state().items()
        tensors.update({f"{_OF_TEXTS}{name}": tensor for name, tensor in of_texts})
    card = TranslatorCard(
        format_version=translator.file_format,
        method=translator.method,
        direction=direction,
        source_dimension=translator.source_dim_,
        target_dimension=translator.target_dim_,
        anchors=translator.n_anchors_,
        seed=seed,
        source_encoder=source_encoder,
        target_encoder=target_encoder,
        parameters=parameters,
        mixing_scale=mixing_scale,
        versions={name: version(name) for name in ("vecmigrate", "numpy")},
    )
    with published(path) as partial:
        # A file that the library itself writes can be read by nobody else.
        partial.write_bytes(save(tensors, metadata={_HEADER: card.model_dump_json()}))
    return card


def read_card(path: str | Path) -> TranslatorCard:
    """Read a translator file's card.

    Raises
    ------
    InputError
        If the file is missing or is no translator.
    MismatchError
        If its format is newer than this version knows.
    """
    if Path(path).is_dir():
        raise InputError(
            f"{path} is a folder, not a translator file",
            remedy="Give a file that vecmigrate fit wrote.",
        )
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
        if header.get("format_version") not in range(1, FORMAT_VERSION + 1):
            raise MismatchError(
                f"{path} has translator format {header.get('format_version')}, "
                f"this vecmigrate reads up to {FORMAT_VERSION}",
                remedy="Use the version of vecmigrate that wrote it, or fit it again.",
            )
        return TranslatorCard.model_validate(header)
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist", remedy="Make it with: vecmigrate fit."
        ) from error
    except (OSError, SafetensorError, KeyError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path} is not a translator file ({reason_of(error)})",
            remedy="Give a file that vecmigrate fit wrote.",
        ) from error


def load_translator(path: str | Path) -> Translator:
    """Load a translator that :func:`save_translator` wrote; errors as :func:`read_card`.

    A file whose tensors do not have the dimensions of its card is refused with
    :class:`MismatchError`.
    """
    card = read_card(path)
    method = registered().get(card.method)
    if method is None:
        raise MismatchError(
            f"{path} holds a translator of method {card.method!r}, which this vecmigrate lacks",
            remedy="Use the version of vecmigrate that wrote it, or fit it again.",
        )
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        translator = method.from_state(tensors, card.parameters)
        if translator.text_dim_:
            translator.text_features_ = TokenFeatures.from_state(
                {name.removeprefix(_OF_TEXTS): tensor for name, tensor in tensors.items()}
            )
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is damaged ({reason_of(error)})", remedy="Fit the translator again."
        ) from error
    fitted = (translator.source_dim_, translator.target_dim_)
    if fitted != (card.source_dimension, card.target_dimension):
        raise MismatchError(
            f"{path} maps {fitted[0]} to {fitted[1]} dimensions, while its card says "
            f"{card.source_dimension} to {card.target_dimension}",
            remedy="Fit the translator again.",
        )
    return translator


def translator_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a translator file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_translator(
    source: CollectionDescription,
    translator: Translator,
    card: TranslatorCard | None,
    source_encoder: EncoderIdentity | str | None = None,
) -> None:
    """Raise :class:`MismatchError` unless the translator is for this collection.

    Compared are the dimension and, if both sides are known, the encoder: that given as
    ``source_encoder``, or that which vecmigrate recorded when it wrote the collection.
    """
    if translator.source_dim_ != source.dimension:
        raise MismatchError(
            f"the translator takes vectors of {translator.source_dim_} dimensions and "
            f"{source.uri} holds {source.dimension}",
            remedy="Use the translator that was fitted on this collection's anchors.",
        )
    if translator.text_dim_ and source.text_field is None:
        raise MismatchError(
            f"the translator reads the points' texts, and {source.uri} has no payload field that "
            "holds them",
            remedy="Name it in the URI, as ?text=FIELD, or fit a translator without --texts.",
        )
    if card and card.direction is Direction.QUERY:
        raise MismatchError(
            "the translator maps queries into the old space, not documents into the new one",
            remedy="Fit one without --direction query.",
        )
    fitted = card.source_encoder if card else None
    recorded = source.provenance.encoder if source.provenance else None
    for encoder in (source_encoder, recorded):
        if encoder is None or fitted is None:
            continue
        same = encoder == fitted.name if isinstance(encoder, str) else encoder.same_as(fitted)
        if not same:
            raise MismatchError(
                f"the translator was fitted for {fitted}, and {source.uri} was made by {encoder}",
                remedy="Draw anchors from this collection and fit again.",
            )
