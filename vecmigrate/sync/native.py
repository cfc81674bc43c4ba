"""Gives points that arrived or changed the new encoder's own vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vecmigrate.encoders import BudgetSpentError, MeteredEncoder
from vecmigrate.errors import InputError
from vecmigrate.migration.reembed import OnMissingText, embeddable, telling_remedy
from vecmigrate.points.batch import Payload, PointId, VectorBatch, Vectors
from vecmigrate.points.collection import ENCODED, ORIGIN_FIELD
from vecmigrate.points.ids import name_some
from vecmigrate.points.screening import Skipped
from vecmigrate.state.ledger import Origin
from vecmigrate.sync.reconcile import Judged


class Embedding:
    """Embeds the texts of points that are about to be written.

    Parameters
    ----------
    encoder
        On the account of the run.
    translated
        True if points get a translation where nothing can be embedded. Else they are left out, or
        refused.
    marks
        True if points say where their vectors come from.
    skipped
        Gathers the points left out.
    refused
        Gathers the points whose texts the encoder did not take.
    """

    def __init__(
        self,
        encoder: MeteredEncoder,
        text_field: str | None,
        on_missing: OnMissingText,
        skipped: Skipped,
        refused: list[PointId],
        *,
        translated: bool,
        marks: bool,
    ) -> None:
        self._encoder = encoder
        self._text_field = text_field
        self._on_missing = on_missing
        self._skipped, self._refused = skipped, refused
        self._translated = translated
        self._marks = marks

    def embedded(self, judged: Judged) -> Judged:
        """Return what is to be written, with the encoder's vectors where there is a text.

        Raises
        ------
        InputError
            If a text is missing or is not taken, there is no translation, and the policy is
            ``fail``.
        BudgetSpentError
            If the budget does not reach for all, and there is no translation.
        UnreachableError
            From the encoder.
        """
        if not self._translated:
            judged = self._with_texts(judged)
        writes = judged.writes
        if writes is None:
            return judged
        texts = writes.texts(self._text_field) or [None] * len(writes)
        rows = np.flatnonzero(judged.fresh & self._can_be_embedded(writes))
        longest_first = rows[np.argsort([-len(texts[row] or "") for row in rows], kind="stable")]
        made, taken = self._make(writes, texts, longest_first)
        done = longest_first[: len(made)]
        refused, done, made = done[~taken], done[taken], made[taken]
        if len(refused) and not self._translated:
            stay = np.ones(len(writes), np.bool_)
            stay[refused] = False
            judged = self._left_out(judged, ~stay)
            places = np.cumsum(stay) - 1
            done = places[done]
        if not len(done):
            return judged
        writes = judged.writes
        assert writes is not None
        vectors = writes.vectors.copy()
        vectors[done] = made
        for row in done.tolist():
            judged.intended[row].origin = Origin.ENCODED
        writes = writes.with_vectors(vectors)
        if self._marks:
            payloads: list[Payload] = list(writes.each_payload())
            for row in done.tolist():
                payloads[row] = {**payloads[row], ORIGIN_FIELD: ENCODED}
            writes = writes.with_payloads(payloads)
        return replace(judged, writes=writes, native=len(done))

    def _can_be_embedded(self, batch: VectorBatch) -> NDArray[np.bool_]:
        return embeddable(self._encoder, batch, self._text_field)

    def _make(
        self, batch: VectorBatch, texts: list[str | None], rows: NDArray[np.intp]
    ) -> tuple[Vectors, NDArray[np.bool_]]:
        """Return vectors of the first rows that the budget allows, and which texts were taken."""
        if not len(rows):
            return np.empty((0, self._encoder.identity.dimension), np.float32), np.ones(0, np.bool_)
        refused: dict[int, InputError] | None = None
        if self._translated or self._on_missing is OnMissingText.SKIP:
            refused = {}
        with telling_remedy(_LEAVE_OUT):
            made = self._encoder.encode(
                [texts[row] for row in rows], ids=batch.ids[rows], partly=True, refused=refused
            )
        if len(made) < len(rows) and not self._translated:
            raise BudgetSpentError(
                f"the budget of {self._encoder.meter.budget} is spent, and points are left to be "
                "brought",
                remedy="What was embedded is kept: the same command with a larger budget "
                "continues.",
            )
        taken = np.ones(len(made), np.bool_)
        taken[list(refused or ())] = False
        self._refused.extend(batch.ids[rows[: len(made)][~taken]].tolist())
        return made, taken

    def _with_texts(self, judged: Judged) -> Judged:
        """Return the same without points to be embedded that have no text."""
        if judged.writes is None:
            return judged
        missing = judged.fresh & ~self._can_be_embedded(judged.writes)
        if not missing.any():
            return judged
        if self._on_missing is not OnMissingText.SKIP:
            raise InputError(
                f"no text for ids {name_some(judged.writes.ids[missing].tolist())}",
                remedy=f"Give these points a text, or {_LEAVE_OUT}.",
            )
        return self._left_out(judged, missing)

    def _left_out(self, judged: Judged, rows: NDArray[np.bool_]) -> Judged:
        """Return the same without some of the points to be written."""
        for row, goes in zip(judged.intended, rows.tolist(), strict=True):
            if goes and row.vector is not None:
                self._skipped.ids.append(row.id)
                self._skipped.as_read[row.id] = row.vector, row.payload
        return judged.without(rows)


_LEAVE_OUT = "leave such points out with --on-missing-text skip"
