"""The uniform sample of the corpus that a dry run leans on, and the anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vecmigrate.anchors import AnchorSet, OnMissingText, draw_anchors, load_anchors
from vecmigrate.connector.addresses import canonical_uri
from vecmigrate.dry_run.session import Session
from vecmigrate.encoders import MeteredEncoder
from vecmigrate.errors import InputError, MismatchError
from vecmigrate.points.batch import IdArray, VectorBatch
from vecmigrate.points.ids import lookup_of
from vecmigrate.points.sampling import sample_uniform

SAMPLE = 3000
"""Points of the uniform sample: the map, tokens of a text, documents as probes."""

MIN_PROBES = 20
"""Below, no interval is worth printing."""

ANCHORS_FILE = "anchors.parquet"


@dataclass(frozen=True, slots=True)
class Sample:
    """Points in random order, with their texts."""

    points: VectorBatch
    texts: list[str | None]

    def __len__(self) -> int:
        return len(self.points)

    def usable(self, *, needs_texts: bool) -> Sample:
        """Those that can be embedded."""
        return self.take([i for i, t in enumerate(self.texts) if t or not needs_texts])

    def without(self, ids: IdArray) -> Sample:
        """The points whose id is not among these."""
        return self.take(np.flatnonzero(lookup_of(ids).rows(self.points.ids) < 0).tolist())

    def take(self, rows: Sequence[int]) -> Sample:
        """The points at these rows."""
        return Sample(self.points.take(np.array(rows, np.intp)), [self.texts[i] for i in rows])


def uniform_sample(session: Session) -> Sample:
    """Draw a uniform sample in random order.

    Raises
    ------
    InputError
        If the source is too small to measure on.
    """
    with session.reading("sampling") as batches:
        points = sample_uniform(batches, SAMPLE, session.options.seed)
    if points is None or len(points) < MIN_PROBES:
        raise InputError(
            f"{session.description.uri} holds too few points to measure on",
            remedy="Re-embed a corpus this small whole.",
        )
    points = points.take(session.rng(0).permutation(len(points)))
    return Sample(points, session.texts(points.ids))


def anchors_of(session: Session) -> AnchorSet:
    """Load the file of anchors given, or the one drawn by an earlier run, or draw anchors.

    Raises
    ------
    MismatchError
        If a file is of another source dimension or encoder, or was drawn by another request.
    InputError, UnreachableError, WriteError
    """
    given = session.options.anchors
    if isinstance(given, Path):
        anchors = _load(given, session.encoder)
        description = session.description
        if anchors.source_vectors.shape[1] != description.dimension:
            raise MismatchError(
                f"{given} holds old vectors of {anchors.source_vectors.shape[1]} dimensions, and "
                f"{description.uri} of {description.dimension}",
                remedy="Give the anchors that were drawn from this collection.",
            )
        return anchors
    path = session.folder / ANCHORS_FILE
    return _drawn_before(session, path) if path.exists() else _drawn_now(session, path)


def _drawn_before(session: Session, path: Path) -> AnchorSet:
    options, most = session.options, session.drawn
    anchors = _load(path, session.encoder)
    card = anchors.card
    asked = (canonical_uri(session.description.uri), options.seed, options.strategy)
    drawn = (canonical_uri(card.source), card.seed, card.strategy)
    # Points without text are left out, so that fewer may be there than were asked for.
    if drawn != asked or not most // 2 <= len(anchors) <= most:
        raise MismatchError(
            f"{path} was drawn with other settings",
            remedy="Name another folder with --out, or pass the file as --anchors.",
        )
    session.encoder.reuse(session.texts(anchors.ids))
    return anchors


def _drawn_now(session: Session, path: Path) -> AnchorSet:
    options, old = session.options, session.old_encoder
    with (
        session.stage("reading", session.population) as reading,
        session.stage("encoding anchors", session.drawn, unit="text") as encoding,
    ):
        return draw_anchors(
            session.source,
            session.encoder,
            path,
            size=session.drawn,
            seed=options.seed,
            strategy=options.strategy,
            source_encoder=None if old is None else old.identity,
            on_bad_vector=options.on_bad_vector,
            on_missing_text=OnMissingText.SKIP,
            reading=reading,
            encoding=encoding,
        )


def _load(path: Path, encoder: MeteredEncoder) -> AnchorSet:
    anchors = load_anchors(path)
    if not anchors.card.target_encoder.same_as(encoder.identity):
        raise MismatchError(
            f"{path} was embedded by {anchors.card.target_encoder}, not by {encoder.identity}",
            remedy="Give the anchors of the new encoder, or let them be drawn.",
        )
    return anchors
