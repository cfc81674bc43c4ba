"""Gives points the new encoder's own vectors, from their texts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from vecmigrate.encoders import BudgetSpentError, Encoder, Meter, MeteredEncoder, open_encoder
from vecmigrate.encoders.metered import FoundVectors
from vecmigrate.errors import (
    BadVectorError,
    InputError,
    MismatchError,
    TextRefusedError,
    UsageError,
)
from vecmigrate.migration.bought import PartVectors
from vecmigrate.migration.choice import Choice
from vecmigrate.migration.translate import Spent, StopAskedError, Translation
from vecmigrate.points.batch import PointId, VectorBatch, Vectors
from vecmigrate.points.collection import CollectionDescription, EncoderIdentity
from vecmigrate.points.ids import name_some
from vecmigrate.points.screening import Skipped
from vecmigrate.translators import TranslatorCard


class OnMissingText(StrEnum):
    """What to do with a point that has no text to embed, or one that the encoder does not take."""

    FAIL = "fail"
    SKIP = "skip"
    TRANSLATE = "translate"


LEFT_OUT = "points with a bad vector, or without a text that the encoder takes,"
"""What a migration or sync that embeds texts leaves out."""

_SKIP = "--on-missing-text skip"


@contextmanager
def telling_remedy(options: str) -> Iterator[None]:
    """Have errors of texts that an encoder does not take name the options that pass them over.

    Raises
    ------
    TextRefusedError, BadVectorError
    """
    try:
        yield
    except (TextRefusedError, BadVectorError) as error:
        raise type(error)(
            error.message,
            remedy=f"Shorten or mend the text, or {options}; what else was embedded is kept.",
        ) from error


@dataclass(frozen=True, slots=True)
class Reembedding:
    """Converts by embedding texts, those of similar length together; see :class:`Converter`.

    What the encoder's store has is not embedded again.

    Attributes
    ----------
    text_field
        Payload field that holds the texts.
    skipped
        Gathers the points left out.
    refused
        Gathers the points whose texts the encoder did not take: left out or translated.
    progress
        Called with the number of points just done, one call at a time.
    stop
        Asked after each few texts; True ends the run.
    translation
        What gives a vector to points without a text under that policy; else None.
    choice
        Tells which points are embedded, all others being translated; None for all.
    worker
        What workers of other processes are sent; None if they cannot have the encoder.
    """

    encoder: MeteredEncoder
    text_field: str | None
    on_missing: OnMissingText
    skipped: Skipped
    progress: Callable[[int], None] = lambda count: None
    stop: Callable[[], bool] = lambda: False
    translation: Translation | None = None
    choice: Choice | None = None
    worker: EmbeddingWorker | None = None
    refused: list[PointId] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    # While one batch's vectors are stored, another one's texts are embedded.
    at_once = 2
    tells_progress = True

    @property
    def dimension(self) -> int:
        return self.encoder.identity.dimension

    @property
    def translates(self) -> bool:
        return self.translation is not None

    def on(self, device: str | None) -> Reembedding:
        if self.translation is None:
            return self
        return replace(self, translation=self.translation.on(device))

    def for_workers(self) -> EmbeddingWorker:
        if self.worker is None:
            raise UsageError(
                "Ray workers cannot share the encoder: it is no name that they could open, or "
                "bounds requests or tokens a minute, which one process alone keeps",
                remedy="Use --engine local; for an endpoint it sends in_flight requests at once.",
            )
        return self.worker

    def convert(self, batch: VectorBatch) -> VectorBatch:
        """Return the points that get a vector.

        Raises
        ------
        BudgetSpentError
            If the budget does not reach for all; what it reached for is kept.
        InputError
            If a text is missing or is not taken and the policy is ``fail``, or the encoder's answer
            is not usable.
        StopAskedError
            If ``stop`` said so.
        UnreachableError, WriteError
            From the encoder and its store.
        """
        points = len(batch)
        batch = self._with_texts(batch)
        texts = batch.texts(self.text_field) or [None] * len(batch)
        has_vector = np.array(batch.each_count()) > 0
        native = has_vector & self.can_be_embedded(batch)
        if self.choice is not None:
            native &= self.choice.chosen(batch)
        rows = np.flatnonzero(native)
        made, taken = self._embed(batch, texts, rows)
        native[rows[~taken]] = False
        self._tell(points - len(rows))
        if self.translation is None and not taken.all():
            batch, has_vector, native = self._left_out(batch, rows[~taken], has_vector, native)
        of_row = native[has_vector]
        if self.translation is None or of_row.all():
            vectors = np.empty((len(of_row), self.dimension), np.float32)
        else:
            # All of them, since the rounding of a product depends on how many rows it has.
            vectors = self.translation.convert(batch).vectors
        vectors[of_row] = made[taken]
        return batch.with_vectors(vectors).with_native(native)

    def _left_out(
        self,
        batch: VectorBatch,
        rows: NDArray[np.intp],
        has_vector: NDArray[np.bool_],
        native: NDArray[np.bool_],
    ) -> tuple[VectorBatch, NDArray[np.bool_], NDArray[np.bool_]]:
        """Return the batch without some points, and of the others what was known of all."""
        stay = np.ones(len(batch), np.bool_)
        stay[rows] = False
        with self._lock:
            self.skipped.add(batch.take(~stay))
        return batch.take(stay), has_vector[stay], native[stay]

    def can_be_embedded(self, batch: VectorBatch) -> NDArray[np.bool_]:
        """Tell which points have what the encoder needs."""
        return embeddable(self.encoder, batch, self.text_field)

    def _with_texts(self, batch: VectorBatch) -> VectorBatch:
        """Return the points that are to have a vector and can, and those that have none."""
        if self.on_missing is OnMissingText.TRANSLATE:
            return batch
        missing = (np.array(batch.each_count()) > 0) & ~self.can_be_embedded(batch)
        if not missing.any():
            return batch
        if self.on_missing is OnMissingText.FAIL:
            raise InputError(
                f"no text for ids {name_some(batch.ids[missing].tolist())}",
                remedy="Give these points a text, name the field that holds it in the URI, as "
                f"?text=FIELD, or leave them out with {_SKIP}.",
            )
        with self._lock:
            self.skipped.add(batch.take(missing))
        return batch.take(~missing)

    def _embed(
        self, batch: VectorBatch, texts: list[str | None], rows: NDArray[np.intp]
    ) -> tuple[Vectors, NDArray[np.bool_]]:
        """Embed each text once, the longest first.

        Returns
        -------
        tuple
            ``(len(rows), d)`` vectors, and which of the texts were taken.
        """
        needs_texts = self.encoder.needs_texts
        each = [texts[row] if needs_texts else row for row in rows.tolist()]
        first: dict[str | int | None, int] = {}
        for key, row in zip(each, rows.tolist(), strict=True):
            first.setdefault(key, row)
        distinct = sorted(first, key=lambda key: -len(texts[first[key]] or ""))
        chosen = np.array([first[key] for key in distinct], np.intp)
        refused: dict[int, InputError] | None = None
        if self.on_missing is not OnMissingText.FAIL:
            refused = {}
        with telling_remedy(f"leave such points out with {_SKIP}"):
            made = self.encoder.encode(
                [texts[row] for row in chosen.tolist()] if needs_texts else None,
                ids=batch.ids[chosen],
                partly=True,
                progress=self._tell,
                refused=refused,
            )
        if len(made) < len(chosen):
            raise BudgetSpentError(
                f"the budget of {self.encoder.meter.budget} is spent",
                remedy="What was embedded is kept: the same command with a larger --budget "
                "continues.",
            )
        self._tell(len(rows) - len(chosen) + len(refused or ()))
        places = {key: place for place, key in enumerate(distinct)}
        of_each = np.array([places[key] for key in each], np.intp)
        taken = ~np.isin(of_each, list(refused or ()))
        with self._lock:
            self.refused.extend(batch.ids[rows[~taken]].tolist())
        return made[of_each], taken

    def _tell(self, count: int) -> None:
        with self._lock:
            self.progress(count)
        if self.stop():
            raise StopAskedError


def refused_line(refused: Collection[PointId], skipped: Collection[PointId]) -> str:
    """Tell a person of points whose texts an encoder did not take, at least one.

    Parameters
    ----------
    skipped
        All that were left out.
    """
    out = set(skipped)
    done = "they were left out" if out.issuperset(refused) else "they were translated"
    return (
        f"the encoder does not take the texts of {len(refused):,} points, ids "
        f"{name_some(refused)}: {done}"
    )


@dataclass(frozen=True, slots=True)
class EmbeddingWorker:
    """What workers are sent of a :class:`Reembedding`; each opens the encoder for itself.

    Attributes
    ----------
    name, identity
        The encoder's, which has to be the same to each worker.
    found
        What was bought before.
    """

    name: str
    identity: EncoderIdentity
    text_field: str | None
    on_missing: OnMissingText
    translation: Translation | None
    choice: Choice | None
    found: tuple[FoundVectors, ...]

    embeds = True

    @contextmanager
    def opened(
        self, part: Path, skipped: Skipped, stop: Callable[[], bool]
    ) -> Iterator[tuple[Reembedding, Callable[[], Spent]]]:
        encoder = _opened(self.name)
        if encoder.identity != self.identity:
            raise MismatchError(
                f"a worker has {encoder.identity}, and the driver {self.identity}",
                remedy="See that all machines have the same model.",
            )
        folder, meter = part.with_suffix(".bought"), Meter(counts_reused=False)
        store = PartVectors(folder, encoder, self.found)
        reembedding = Reembedding(
            MeteredEncoder(encoder, meter, store), self.text_field, self.on_missing, skipped,
            stop=stop, translation=self.translation, choice=self.choice,
        )  # fmt: skip
        yield (
            reembedding,
            lambda: Spent(
                part.name,
                store.earlier_texts + meter.texts,
                store.earlier_tokens + meter.tokens,
                tuple(reembedding.refused),
            ),
        )
        # The part is on the disk, with what was bought.
        shutil.rmtree(folder, ignore_errors=True)


@lru_cache(maxsize=1)
def _opened(name: str) -> Encoder:
    """Open an encoder once in a worker's life."""
    return open_encoder(name)


def embeddable(encoder: Encoder, batch: VectorBatch, text_field: str | None) -> NDArray[np.bool_]:
    """Tell which points of a batch have what an encoder needs."""
    if not encoder.needs_texts:
        return np.ones(len(batch), np.bool_)
    texts = batch.texts(text_field) or [None] * len(batch)
    return np.array([text is not None for text in texts], np.bool_)


def check_encoder(encoder: EncoderIdentity, card: TranslatorCard | None, dimension: int) -> None:
    """Raise :class:`MismatchError` unless an encoder makes vectors of a translator's space.

    Parameters
    ----------
    dimension
        That the translator leads to.
    """
    wanted = card.target_encoder if card else None
    if encoder.dimension != dimension or (wanted is not None and not wanted.same_as(encoder)):
        raise MismatchError(
            f"the translator leads to {wanted or f'{dimension} dimensions'}, and the encoder is "
            f"{encoder}",
            remedy="Give the encoder that the anchors were embedded by.",
        )


def check_texts(source: CollectionDescription, encoder: MeteredEncoder) -> None:
    """Raise unless a collection's points can be embedded one vector each.

    Raises
    ------
    MismatchError
        If its points have several vectors each.
    InputError
        If nothing tells where their texts are.
    """
    if source.multivector:
        raise MismatchError(
            f"the points of {source.uri} have several vectors each, and an encoder makes one",
            remedy="Name another vector by ?vector=NAME.",
        )
    if encoder.needs_texts and source.text_field is None:
        raise InputError(
            f"{source.uri} has no payload field that holds texts",
            remedy="Name it in the URI, as ?text=FIELD; a FAISS index has its texts in a file "
            "beside, see docs/reference/faiss.md.",
        )
