"""What a person looks at in the report: the worst probes, contrasts, calibration, the map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector.source import Source
from vecmigrate.dry_run.analysis import Analysis
from vecmigrate.points.batch import PointId, Vectors, id_array, row_norms
from vecmigrate.report.schema import (
    Calibration,
    CalibrationDecile,
    DocumentText,
    ProbeLoss,
    QueryContrast,
    WorstProbe,
)

WORST = 20
CONTRASTS = 10
SHOWN_DOCUMENTS = 5
SCORE_PAIRS = 400
DECILES_FROM = 100
LONGEST_TEXT = 500

PerProbe = NDArray[np.float64]
"""``(probes,)``: a mean over the draws."""

Texts = Mapping[PointId, str | None]


def cut(text: str | None) -> str | None:
    """Shorten a text to what a report needs."""
    if text is None or len(text) <= LONGEST_TEXT:
        return text
    return text[: LONGEST_TEXT - 1] + "…"


def texts_of(source: Source, ids: Sequence[PointId]) -> Texts:
    """Read texts for showing; all None where the source has no text field."""
    if source.describe().text_field is None or not ids:
        return dict.fromkeys(ids)
    return dict(zip(ids, map(cut, source.texts(id_array(ids))), strict=True))


def worst_ids(
    analysis: Analysis, recall: PerProbe
) -> list[tuple[int, list[PointId], list[PointId]]]:
    """The probes with the least recall: position, documents lost, documents put in their place.

    Lost are known documents that are likelier than not among the true ten nearest.
    """
    hits = analysis.truth.hits(10).mean(axis=0)
    thresholds = analysis.truth.thresholds[10]
    candidates = analysis.survey.candidates.of(analysis.rows)
    rows = []
    for p in np.argsort(recall, kind="stable")[:WORST].tolist():
        first = candidates.ids[p, :10].tolist()
        scores = analysis.true.all[p]
        likely = (scores >= thresholds[:, p, None]).mean(axis=0) > 0.5
        order = np.flatnonzero(likely)[np.argsort(-scores[likely], kind="stable")]
        lost = [i for i in analysis.known.ids[order].tolist() if i not in first]
        gained = [i for i, share in zip(first, hits[p].tolist(), strict=True) if share < 0.5]
        rows.append((p, lost[:10], gained))
    return rows


def worst_probes(
    analysis: Analysis,
    recall: PerProbe,
    worst: list[tuple[int, list[PointId], list[PointId]]],
    texts: Texts,
) -> list[WorstProbe]:
    """Put the texts to what :func:`worst_ids` found."""
    return [
        WorstProbe(
            id=asked.id,
            text=cut(asked.text),
            recall_at_10=float(recall[p]),
            lost=_documents(lost, texts),
            gained=_documents(gained, texts),
        )
        for p, lost, gained in worst
        for asked in [analysis.probes.asked[analysis.rows[p]]]
    ]


def contrast_ids(
    analysis: Analysis, agreement: PerProbe
) -> list[tuple[int, list[PointId], list[PointId]]]:
    """The probes that the encoders agree on least, with what each puts first.

    Of the new encoder's, those known.
    """
    old = analysis.survey.old
    assert old is not None
    rows = []
    for p in np.argsort(agreement, kind="stable")[:CONTRASTS].tolist():
        scores = analysis.true.all[p]
        best = np.argsort(-scores, kind="stable")[:SHOWN_DOCUMENTS]
        before = old.ids[analysis.rows[p], :SHOWN_DOCUMENTS].tolist()
        rows.append((p, before, analysis.known.ids[best].tolist()))
    return rows


def contrasts(
    analysis: Analysis,
    agreement: PerProbe,
    found: list[tuple[int, list[PointId], list[PointId]]],
    texts: Texts,
) -> list[QueryContrast]:
    """Put the texts to what :func:`contrast_ids` found."""
    return [
        QueryContrast(
            id=asked.id,
            text=cut(asked.text),
            agreement=float(agreement[p]),
            old=_documents(before, texts),
            new=_documents(after, texts),
        )
        for p, before, after in found
        for asked in [analysis.probes.asked[analysis.rows[p]]]
    ]


def _documents(ids: Sequence[PointId], texts: Texts) -> list[DocumentText]:
    return [DocumentText(id=i, text=texts.get(i)) for i in ids]


def calibration(
    analysis: Analysis,
    translated: Vectors,
    true: Vectors,
    variance: NDArray[np.float32] | None,
    rng: np.random.Generator,
) -> Calibration:
    """Compare a uniform sample's translated vectors with its true ones.

    Parameters
    ----------
    translated, true
        ``(n, d)`` of the same documents, none of them an anchor.
    variance
        ``(n,)``, where the translator tells it.
    """
    cosines = np.einsum("ij,ij->i", translated, true) / np.maximum(
        row_norms(translated) * row_norms(true), 1e-12
    )
    scores = analysis.survey.candidates.scores[analysis.rows]
    seen = np.argwhere(np.isfinite(analysis.true.candidates) & ~analysis.true.anchors)
    chosen = seen[rng.permutation(len(seen))[:SCORE_PAIRS]]
    deciles: list[CalibrationDecile] = []
    if variance is not None and len(cosines) >= DECILES_FROM:
        deciles = [
            CalibrationDecile(
                variance=float(variance[part].mean()), cosine=float(cosines[part].mean())
            )
            for part in np.array_split(np.argsort(variance, kind="stable"), 10)
        ]
    return Calibration(
        cosines=[round(float(c), 4) for c in cosines],
        score_pairs=[
            (round(float(scores[p, c]), 4), round(float(analysis.true.candidates[p, c]), 4))
            for p, c in chosen
        ],
        deciles=deciles,
    )


def map_axes(documents: Vectors) -> tuple[Vectors, Vectors]:
    """The mean and the ``(d, 2)`` first principal axes of documents (Pearson 1901)."""
    mean = documents.mean(axis=0)
    centred = documents - mean
    _, axes = np.linalg.eigh(centred.T @ centred)
    flat = np.zeros((documents.shape[1], 2), np.float32)
    flat[:, : min(2, len(axes))] = axes[:, :-3:-1]
    return mean, flat


def probe_losses(
    analysis: Analysis, recall: PerProbe, mean: Vectors, axes: Vectors
) -> list[ProbeLoss]:
    """Each probe's recall, and its place on the map."""
    places = (analysis.probes.queries[analysis.rows] - mean) @ axes
    return [
        ProbeLoss(
            id=asked.id,
            text=cut(asked.text),
            recall_at_10=round(float(share), 4),
            x=round(float(x), 4),
            y=round(float(y), 4),
        )
        for row, share, (x, y) in zip(analysis.rows, recall, places, strict=True)
        for asked in [analysis.probes.asked[row]]
    ]


def in_sample_recall(
    queries: Vectors, held_out: Vectors, true: Vectors, rng: np.random.Generator
) -> float:
    """recall@10 among a thousand anchors alone, as translated by maps without them.

    What a comparison inside the sample reports; a thousand documents are easier to rank than a
    corpus, so it overstates.
    """
    rows = rng.permutation(len(true))[:1000]
    k = min(10, len(rows))
    best = [
        np.argpartition(-(queries @ vectors[rows].T), k - 1, axis=1)[:, :k]
        for vectors in (held_out, true)
    ]
    shares = [len(set(a) & set(b)) / k for a, b in zip(*map(np.ndarray.tolist, best), strict=True)]
    return float(np.mean(shares))


def ids_in(rows: list[tuple[int, list[PointId], list[PointId]]]) -> list[PointId]:
    """All documents that such rows name."""
    return list(dict.fromkeys(i for _, first, second in rows for i in [*first, *second]))
