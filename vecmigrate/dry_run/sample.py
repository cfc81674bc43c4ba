"""The uniform sample of the corpus that a dry run leans on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vecmigrate.anchors import AnchorSet, OnMissingText, draw_anchors, load_anchors
from vecmigrate.connector.source import Source
from vecmigrate.dry_run.options import DryRunOptions
from vecmigrate.encoders import Encoder
from vecmigrate.errors import MismatchError
from vecmigrate.points.batch import IdArray, VectorBatch
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.points.ids import lookup_of


@dataclass(frozen=True, slots=True)
class Sample:
    """Points in random order, none of them an anchor, with their texts.

    Attributes
    ----------
    anchors_excluded
        Points left out for being anchors.
    """

    points: VectorBatch
    texts: list[str | None]
    anchors_excluded: int = 0

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def without_anchors(
        cls, points: VectorBatch, texts: Sequence[str | None], anchors: IdArray
    ) -> Sample:
        """Leave anchors out."""
        kept = np.flatnonzero(lookup_of(anchors).rows(points.ids) < 0)
        return cls(points.take(kept), [texts[i] for i in kept.tolist()], len(points) - len(kept))

    def usable(self, *, needs_texts: bool) -> Sample:
        """Those that can be embedded."""
        return self._take([i for i, t in enumerate(self.texts) if t or not needs_texts])

    def first_usable(self, count: int, *, needs_texts: bool) -> Sample:
        """The first ``count`` of those that can be embedded."""
        usable = self.usable(needs_texts=needs_texts)
        return usable._take(range(min(count, len(usable))))

    def without(self, others: Sample) -> Sample:
        """The points that are not among ``others``."""
        taken = lookup_of(others.points.ids).rows(self.points.ids) >= 0
        return self._take(np.flatnonzero(~taken).tolist())

    def _take(self, rows: Sequence[int]) -> Sample:
        points = self.points.take(np.array(rows, np.intp))
        return Sample(points, [self.texts[i] for i in rows], self.anchors_excluded)


ANCHORS_FILE = "anchors.parquet"


def given_anchors(path: Path, source: Source, encoder: Encoder) -> AnchorSet:
    """Load an anchor file.

    Raises
    ------
    MismatchError
        Where it is of another source dimension or encoder.
    InputError
    """
    anchors = load_anchors(path)
    description = source.describe()
    _require_encoder(anchors, encoder, path)
    if anchors.source_vectors.shape[1] != description.dimension:
        raise MismatchError(
            f"{path} holds old vectors of {anchors.source_vectors.shape[1]} dimensions, and "
            f"{description.uri} of {description.dimension}",
            remedy="Give the anchors that were drawn from this collection.",
        )
    return anchors


def drawn_anchors(
    source: Source,
    encoder: Encoder,
    size: int,
    folder: Path,
    options: DryRunOptions,
    old: EncoderIdentity | None,
    reading: Callable[[int], None],
    encoding: Callable[[int], None],
) -> tuple[AnchorSet, bool]:
    """Draw ``size`` anchors into the folder, or take those drawn there by the same request.

    Returns
    -------
    tuple
        The anchors, and whether this call paid for them.

    Raises
    ------
    MismatchError
        Where the folder holds anchors of another request.
    """
    path = folder / ANCHORS_FILE
    if not path.exists():
        drawn = draw_anchors(
            source,
            encoder,
            size,
            path,
            seed=options.seed,
            strategy=options.strategy,
            source_encoder=old,
            on_bad_vector=options.on_bad_vector,
            on_missing_text=OnMissingText.SKIP,
            reading=reading,
            encoding=encoding,
        )
        return drawn, True
    anchors = load_anchors(path)
    card = anchors.card
    _require_encoder(anchors, encoder, path)
    asked = (source.describe().uri, options.seed, options.strategy)
    # Points without text are left out, so that fewer may be there than were asked for.
    if (card.source, card.seed, card.strategy) != asked or not size // 2 <= len(anchors) <= size:
        raise MismatchError(
            f"{path} was drawn with other settings",
            remedy="Name another folder with --out, or pass the file as --anchors.",
        )
    return anchors, False


def _require_encoder(anchors: AnchorSet, encoder: Encoder, path: Path) -> None:
    if not anchors.card.target_encoder.same_as(encoder.identity):
        raise MismatchError(
            f"{path} was embedded by {anchors.card.target_encoder}, not by {encoder.identity}",
            remedy="Give the anchors of the new encoder, or let them be drawn.",
        )
