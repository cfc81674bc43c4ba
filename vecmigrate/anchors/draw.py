"""Draws anchors from a source and re-embeds them, batch by durable batch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from vecmigrate.anchors.file import AnchorCard, AnchorSet, save_anchors
from vecmigrate.anchors.strategy import Strategy, choose_anchors
from vecmigrate.connector.source import Source, fetch_existing, texts_by_id
from vecmigrate.encoders import Encoder
from vecmigrate.encoders.base import texts_at_once
from vecmigrate.encoders.metered import BATCH, EmbeddingStore, MeteredEncoder
from vecmigrate.errors import InputError, MismatchError, UsageError
from vecmigrate.io.atomic import Rewriting, made_folder, require_absent
from vecmigrate.io.vector_table import read_table, write_table
from vecmigrate.points.batch import IdArray, VectorBatch, Vectors
from vecmigrate.points.collection import CollectionDescription, EncoderIdentity
from vecmigrate.points.ids import lookup_of, name_some
from vecmigrate.points.screening import OnBadVector, Skipped, screen
from vecmigrate.runtime.options import Options, Seed

READ_BATCH = 8192
SAMPLE = "sample.parquet"


class OnMissingText(StrEnum):
    """What to do with a drawn point that has no text."""

    FAIL = "fail"
    SKIP = "skip"


class _Request(BaseModel, frozen=True):
    """What a draw was asked for; a resumed one must be asked for the same."""

    source: str
    size: int
    seed: int
    strategy: Strategy
    batch_size: int
    source_encoder: EncoderIdentity | None
    target_encoder: EncoderIdentity
    on_bad_vector: OnBadVector


class _SampleCard(BaseModel):
    """Header of the stored sample."""

    request: _Request
    population: int


class AnchorOptions(Options):
    """Options of :func:`draw_anchors`."""

    size: Annotated[int, Field(ge=2)] = Field(
        default=2000, description="Anchors to draw and re-embed."
    )
    seed: Seed = 0
    strategy: Strategy = Field(
        default=Strategy.KMEANS,
        description="kmeans covers the corpus; queries leans to what logged queries ask.",
    )
    on_bad_vector: OnBadVector = Field(
        default=OnBadVector.FAIL,
        description="NaN, infinite or zero vectors: refuse, or draw among the others.",
    )
    on_missing_text: OnMissingText = Field(
        default=OnMissingText.FAIL, description="Drawn points without text: refuse, or leave out."
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(
        default=BATCH,
        description="Texts encoded, and made durable, at a time; an endpoint gets no more than a "
        "request holds.",
    )
    source_encoder: str | EncoderIdentity | None = Field(
        default=None,
        description="Name of the encoder that made the collection; checked by `migrate`.",
    )

    def identity(self, dimension: int) -> EncoderIdentity | None:
        """Return the encoder that made a collection of this dimension, if it is known."""
        if isinstance(self.source_encoder, str):
            return EncoderIdentity(name=self.source_encoder, dimension=dimension)
        return self.source_encoder


def draw_anchors(
    source: Source,
    encoder: Encoder,
    out: str | Path,
    options: AnchorOptions | None = None,
    *,
    queries: Vectors | None = None,
    reading: Callable[[int], None] = lambda count: None,
    encoding: Callable[[int], None] = lambda count: None,
    **given: Any,
) -> AnchorSet:
    """Choose anchors, re-embed them and write the anchor file ``out``.

    The choice, then each encoded batch, is kept in ``OUT.partial/`` until the file is whole; the
    same call continues there. The choice depends on the seed and the source's order alone.

    Parameters
    ----------
    options, given
        :class:`AnchorOptions`, or fields of it by name.
    queries
        ``(n, d)`` vectors of the old encoder, for the strategy of that name; see
        :func:`choose_anchors`.
    reading, encoding
        Called with the number of points just read, and just encoded.

    Raises
    ------
    TargetExistsError
        If ``out`` exists.
    MismatchError
        If ``OUT.partial`` belongs to another request, or the source encoder's dimension is not
        the source's.
    InputError
        If the source holds fewer usable points than ``size`` of the options, or a text is missing.
    UnreachableError, WriteError
        From the encoder, store or disk; what is done stays for the next call.
    """
    out, asked = Path(out), AnchorOptions.given(options, given)
    require_absent(out)
    description = source.describe()
    source_encoder = asked.identity(description.dimension)
    _check(description, asked.strategy, queries, source_encoder)
    request = _Request(
        source=description.uri,
        source_encoder=source_encoder,
        target_encoder=encoder.identity,
        **asked.model_dump(exclude={"on_missing_text", "source_encoder"}),
    )
    partial = out.with_name(f"{out.name}.partial")
    if (partial / SAMPLE).exists():
        sample, population = _stored_sample(partial, request)
    else:
        sample, population = _draw_sample(source, request, queries, reading)
        header = _SampleCard(request=request, population=population)
        columns = {"id": sample.ids, "source_vector": sample.vectors}
        write_table(made_folder(partial, parents=False) / SAMPLE, columns, header)
    rows, texts = _with_texts(source, encoder, sample, asked.on_missing_text)
    # Texts that a call which did not end has paid for are not paid for again.
    metered = MeteredEncoder.of(encoder)
    batch = min(asked.batch_size, texts_at_once(metered.encoder))
    metered = metered.storing(EmbeddingStore(partial, encoder.identity, "document", batch))
    vectors = metered.encode(texts, ids=rows.ids, progress=encoding)
    card = AnchorCard(
        source=description.uri,
        population=population,
        seed=asked.seed,
        strategy=asked.strategy,
        source_encoder=source_encoder,
        target_encoder=encoder.identity,
        metric=description.metric,
    )
    kept_texts = None if texts is None else [text or "" for text in texts]
    anchors = AnchorSet(rows.ids, rows.vectors, vectors, card, kept_texts)
    save_anchors(anchors, out)
    shutil.rmtree(partial)
    return anchors


def without_drawn(path: Path, ids: IdArray) -> Rewriting | None:
    """Return the sample of an unfinished draw without some points; None if it has none of them.

    Raises
    ------
    InputError
        If it is no such file.
    """
    columns, header = read_table(path, "a stored sample")
    gone = lookup_of(ids).rows(columns["id"]) >= 0
    if not gone.any():
        return None
    kept = {name: values[~gone] for name, values in columns.items()}
    return Rewriting(
        frozenset(columns["id"][gone].tolist()),
        lambda to: write_table(to, kept, _SampleCard.model_validate(header)),
    )


def _check(
    source: CollectionDescription,
    strategy: Strategy,
    queries: Vectors | None,
    source_encoder: EncoderIdentity | None,
) -> None:
    if source_encoder is not None and source_encoder.dimension != source.dimension:
        raise MismatchError(
            f"{source.uri} holds {source.dimension} dimensions, which {source_encoder} does not "
            "make",
            remedy="Name the encoder that made the collection.",
        )
    if (strategy is Strategy.QUERIES) != (queries is not None):
        raise UsageError(
            "the strategy 'queries' and query vectors belong together",
            remedy="Give both: queries encoded by the old encoder; or neither.",
        )
    if queries is not None and queries.shape[1] != source.dimension:
        raise MismatchError(
            f"query vectors of {queries.shape[1]} dimensions for {source.uri}, which holds "
            f"{source.dimension}",
            remedy="Encode the queries with the old encoder.",
        )


def _draw_sample(
    source: Source, request: _Request, queries: Vectors | None, reading: Callable[[int], None]
) -> tuple[VectorBatch, int]:
    population = 0
    skipped = Skipped()

    def counted() -> Iterator[VectorBatch]:
        nonlocal population
        batches = source.batches(READ_BATCH, payloads=False)
        for batch in screen(batches, request.source, request.on_bad_vector, skipped):
            population += len(batch)
            reading(len(batch))
            yield batch

    sample = choose_anchors(counted(), request.size, request.strategy, request.seed, queries)
    if sample is None or len(sample) < request.size:
        raise InputError(
            f"{request.source} holds {population} usable points, fewer than the "
            f"{request.size} anchors asked for",
            remedy="Ask for fewer with --size.",
        )
    return sample, population


def _stored_sample(partial: Path, request: _Request) -> tuple[VectorBatch, int]:
    columns, header = read_table(partial / SAMPLE, "a stored sample")
    stored = _SampleCard.model_validate(header)
    if stored.request != request:
        asked, before = request.model_dump(), stored.request.model_dump()
        changed = ", ".join(name for name in asked if asked[name] != before[name])
        raise MismatchError(
            f"{partial} was begun with other settings ({changed})",
            remedy="Repeat the earlier command to continue, or delete that folder to start anew.",
        )
    return VectorBatch(columns["id"], columns["source_vector"]), stored.population


def _with_texts(
    source: Source, encoder: Encoder, sample: VectorBatch, on_missing: OnMissingText
) -> tuple[VectorBatch, list[str | None] | None]:
    """Return the points that can be embedded, and their texts; None if there are none to read.

    Raises
    ------
    InputError
        If it is not known which field holds the text, or texts are missing.
    """
    described = source.describe()
    if not encoder.needs_texts and described.text_field is None:
        return sample, None
    if described.text_field is None:
        source.texts(sample.ids[:0])  # Says so.
    found = texts_by_id(fetch_existing(source, sample.ids), described.text_field)
    # Others may have deleted points since these were drawn.
    left = np.array([i in found for i in sample.ids.tolist()], np.bool_)
    sample = sample.take(left)
    texts = [found[i] for i in sample.ids.tolist()]
    if not encoder.needs_texts:
        return sample, texts
    there = np.array([text is not None for text in texts], np.bool_)
    missing = sample.ids[~there].tolist()
    if missing and on_missing is OnMissingText.FAIL:
        raise InputError(
            f"{described.uri}: no text for ids {name_some(missing)}",
            remedy="Give them text, or leave them out with --on-missing-text skip.",
        )
    if not there.any():
        raise InputError(
            f"none of the points drawn from {described.uri} has text",
            remedy="Name the field that holds it in the URI, as ?text=FIELD.",
        )
    return sample.take(there), [text for text in texts if text is not None]
