"""What every stage of a dry run works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vecmigrate.connector.source import Source, fetch_there, texts_by_id
from vecmigrate.dry_run.options import DryRunOptions, Stage
from vecmigrate.encoders import Encoder, MeteredEncoder
from vecmigrate.errors import MissingIdsError
from vecmigrate.points.batch import IdArray, VectorBatch, Vectors
from vecmigrate.points.collection import CollectionDescription
from vecmigrate.points.screening import Skipped, screen
from vecmigrate.runtime.threads import prefetch

READ_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Session:
    """An open source, the encoders and the options.

    Attributes
    ----------
    encoder, query_encoder
        The new encoder, and what encodes queries with it, on one account.
    old_encoder
        Encodes queries for the old collection; None if it was not given.
    drawn
        Anchors to draw; 0 if a file of them was given.
    """

    source: Source
    description: CollectionDescription
    encoder: MeteredEncoder
    query_encoder: MeteredEncoder
    old_encoder: Encoder | None
    folder: Path
    options: DryRunOptions
    drawn: int
    stage: Stage
    announce: Callable[[str], None]

    @property
    def population(self) -> int:
        """Points in the source."""
        return self.description.count

    def rng(self, purpose: int) -> np.random.Generator:
        """A generator of its own for each purpose, so that one step's draws leave others alone."""
        return np.random.default_rng([self.options.seed, purpose])

    @contextmanager
    def reading(self, what: str, *, payloads: bool = False) -> Iterator[Iterator[VectorBatch]]:
        """Yield the source's usable batches, read ahead, with progress."""
        with self.stage(what, self.population) as advance:
            raw = self.source.batches(READ_BATCH, payloads=payloads)
            usable = screen(raw, self.description.uri, self.options.on_bad_vector, Skipped())

            def counted() -> Iterator[VectorBatch]:
                for batch in prefetch(usable):
                    yield batch
                    advance(len(batch))

            yield counted()

    def texts(self, ids: IdArray) -> list[str | None]:
        """Texts of documents; None for one that has none, or that is gone since it was drawn.

        All None if the encoder looks vectors up and there are none.
        """
        field = self.description.text_field
        if not self.encoder.needs_texts and field is None:
            return [None] * len(ids)
        try:
            return self.source.texts(ids)
        except MissingIdsError:
            found = texts_by_id(fetch_there(self.source, ids), field)
            return [found.get(i) for i in ids.tolist()]

    def embed(self, ids: IdArray, texts: Sequence[str | None]) -> Vectors:
        """Embed documents with the new encoder."""
        with self.stage("encoding documents", len(ids), unit="text") as advance:
            return self.encoder.encode(texts, ids=ids, progress=advance)
