"""Source to target: stream, translate, write, verify."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from vecmigrate.anchors import AnchorSet, load_anchors
from vecmigrate.batches import PointId, VectorBatch
from vecmigrate.description import CollectionDescription, EncoderIdentity, Provenance, TargetSpec
from vecmigrate.errors import MismatchError, UsageError, VerificationError
from vecmigrate.id_fingerprint import IdFingerprint
from vecmigrate.keeping import AnchorKeeper
from vecmigrate.prefetch import prefetch
from vecmigrate.registry import open_sink, open_source
from vecmigrate.screening import OnBadVector, Skipped, screen
from vecmigrate.source import Source
from vecmigrate.translators import (
    Direction,
    Translator,
    TranslatorCard,
    load_translator,
    read_card,
)
from vecmigrate.translators import translator_sha256 as file_sha256

BATCH_SIZE = 4096

Progress = Callable[[int], None]
"""Called with the number of points just done."""


class MigrationResult(BaseModel):
    """What a migration did.

    Attributes
    ----------
    read, written
        Points; they differ by the ones skipped.
    kept_anchors
        Points whose vector is the new encoder's own.
    skipped_ids
        Points left out for a bad vector.
    seconds, vectors_per_second
        From the first read to the publication; verification not counted.
    target
        The new collection, as found when opened again.
    """

    source: CollectionDescription
    target: CollectionDescription
    read: int
    written: int
    kept_anchors: int
    skipped_ids: list[PointId]
    seconds: float
    vectors_per_second: float


def migrate(
    source: str | Source,
    target: str,
    translator: Translator | str | Path,
    *,
    keep_anchors: AnchorSet | str | Path | None = None,
    source_encoder: EncoderIdentity | str | None = None,
    batch_size: int = BATCH_SIZE,
    on_bad_vector: OnBadVector | str = OnBadVector.FAIL,
    restart: bool = False,
    progress: Progress | None = None,
) -> MigrationResult:
    """Write ``source``'s points, translated, to a new collection at ``target`` and verify it.

    Reading, translating and writing run in three threads, a few batches apart; memory is bounded
    by ``batch_size``, beyond what the target's store itself must hold.

    Parameters
    ----------
    source
        A URI, or an open source (left open).
    target
        A URI where nothing is yet.
    translator
        A fitted one, or a file that :func:`save_translator` wrote.
    keep_anchors
        Anchors whose true vectors are to be kept instead of their translations; each point's
        payload then tells its origin, see :class:`AnchorKeeper`. Needs a translator file.
    source_encoder
        The encoder that made the source's vectors (its identity, or its name), checked against the
        translator's.
    on_bad_vector
        ``fail`` stops at NaN, infinite or zero vectors; ``skip`` leaves them out and lists them.
    restart
        Throw away what an earlier, unfinished run left at the target.

    Raises
    ------
    MismatchError
        Where the translator was fitted for another dimension or encoder; nothing is written.
    TargetExistsError
        Where the target is there.
    BadVectorError
        Where a vector is not usable; nothing is published.
    VerificationError
        Where the new collection's ids are not the source's.
    InputError, UsageError, UnreachableError, WriteError
        From the stores.
    """
    policy = OnBadVector(on_bad_vector)
    card: TranslatorCard | None = None
    sha256 = None
    if not isinstance(translator, Translator):
        card, sha256 = read_card(translator), file_sha256(translator)
        translator = load_translator(translator)
    with ExitStack() as stack:
        reader = stack.enter_context(open_source(source)) if isinstance(source, str) else source
        description = reader.describe()
        check_translator(description, translator, card, source_encoder)
        keeper = _keeper(keep_anchors, card)
        spec = TargetSpec.like(
            description,
            dimension=translator.target_dim_,
            provenance=Provenance(
                vecmigrate_version=version("vecmigrate"),
                source=description.uri,
                encoder=card.target_encoder if card else None,
                translator_sha256=sha256,
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
        )
        sink = stack.enter_context(open_sink(target, spec, restart=restart))
        skipped, written = Skipped(), IdFingerprint()
        begun = time.perf_counter()
        usable = screen(reader.batches(batch_size), description.uri, policy, skipped)
        done = translated(prefetch(usable), translator, description.text_field)
        for batch in prefetch(keeper.apply(done) if keeper else done):
            sink.write(batch)
            written.add(batch.ids)
            if progress is not None:
                progress(len(batch))
        sink.finish()
        seconds = time.perf_counter() - begun
    return MigrationResult(
        source=description,
        target=verify_ids(target, written, batch_size),
        read=written.count + len(skipped),
        written=written.count,
        kept_anchors=keeper.kept if keeper else 0,
        skipped_ids=skipped.ids,
        seconds=seconds,
        vectors_per_second=written.count / seconds if seconds else 0.0,
    )


def _keeper(
    anchors: AnchorSet | str | Path | None, card: TranslatorCard | None
) -> AnchorKeeper | None:
    if anchors is None:
        return None
    if card is None:
        raise UsageError(
            "anchors are kept beside the translations of a translator file only, which knows the "
            "scale of their scores",
            remedy="Save the translator, and give its file.",
        )
    return AnchorKeeper(anchors if isinstance(anchors, AnchorSet) else load_anchors(anchors), card)


def translated(
    batches: Iterable[VectorBatch], translator: Translator, text_field: str | None
) -> Iterator[VectorBatch]:
    """Yield the same points with translated vectors; a translator may read their texts too."""
    for batch in batches:
        inputs = translator.inputs(batch.vectors, batch.texts(text_field))
        yield batch.with_vectors(translator.transform(inputs))


def check_translator(
    source: CollectionDescription,
    translator: Translator,
    card: TranslatorCard | None,
    source_encoder: EncoderIdentity | str | None = None,
) -> None:
    """Raise :class:`MismatchError` unless the translator is for this collection.

    Compared are the dimension and, where both sides are known, the encoder: that given as
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


def verify_ids(target: str, written: IdFingerprint, batch_size: int) -> CollectionDescription:
    """Open ``target`` again and compare its ids with those written.

    Raises
    ------
    VerificationError
    """
    found = IdFingerprint()
    with open_source(target) as reader:
        for ids in reader.ids(batch_size):
            found.add(ids)
        description = reader.describe()
    if found != written:
        what = (
            f"{found.count} points instead of {written.count}"
            if found.count != written.count
            else f"{found.count} points with other ids than the source's"
        )
        raise VerificationError(
            f"{target} holds {what}",
            remedy="Do not use it. Look for ids that occur twice in the source or for another "
            "writer of the target, delete the target and migrate again.",
        )
    return description
