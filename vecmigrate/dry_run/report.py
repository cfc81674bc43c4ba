"""Turns what was measured into the report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors import AnchorSet
from vecmigrate.connector.source import Source
from vecmigrate.dry_run import report as facts
from vecmigrate.dry_run.estimates import Analysis
from vecmigrate.dry_run.probes import Probes, Role
from vecmigrate.dry_run.purchases import Choice
from vecmigrate.dry_run.sample import Sample
from vecmigrate.dry_run.session import Session
from vecmigrate.dry_run.survey import Survey
from vecmigrate.dry_run.truth import Known
from vecmigrate.dry_run.verdict import decide, headline
from vecmigrate.points.batch import PointId, Vectors, id_array, row_norms
from vecmigrate.report.schema import (
    Calibration,
    CalibrationDecile,
    DocumentText,
    DryRunReport,
    EncoderCheck,
    Estimate,
    ProbeLoss,
    ProbeSample,
    QueryContrast,
    RecallFigures,
    TranslatorChoice,
    Upgrade,
    WorstProbe,
)
from vecmigrate.translators import Translator
from vecmigrate.translators.fit import CandidateScore, held_out

TRANSLATOR_FILE = "translator.safetensors"
NAMED_LABELS = 20


@dataclass(frozen=True)
class Measured:
    """All that the steps of a dry run brought.

    Attributes
    ----------
    candidates
        The table that the translator was chosen from.
    bought
        The part of ``sample`` that was re-embedded for its own sake.
    orders
        See :func:`refit_orders`; of all probes.
    """

    anchors: AnchorSet
    translator: Translator
    candidates: list[CandidateScore]
    check: EncoderCheck | None
    sample: Sample
    bought: Sample
    choice: Choice
    probes: Probes
    survey: Survey
    known: Known
    orders: NDArray[np.intp]

    def inputs_of(self, sample: Sample) -> Vectors:
        """What the translator takes for the points of a sample."""
        return self.translator.inputs(sample.points.vectors, sample.texts)


def assemble(job: Session, measured: Measured, begun: float) -> DryRunReport:
    """Estimate every figure and put the report together.

    Raises
    ------
    UsageError
        Where a gate cannot be judged.
    """
    main = _analyse(job, measured, Role.MAIN)
    per_probe = main.truth.recall(10).mean(axis=0)
    recall = _recall(job, measured, main)
    upgrade, worst = _upgrade_and_worst(job, measured, main, per_probe)
    probes = _probe_sample(job, measured)
    curve = main.curve(
        job.description.metric,
        job.cost_of_share,
        job.options.curve_order,
        job.options.target_recall,
    )
    verdict = decide(job.options.gates, recall, upgrade.labelled, probes.used, probes.labelled)
    spending = job.spending()
    landscape = measured.translator.transform(measured.inputs_of(measured.sample))
    mean, axes = facts.map_axes(landscape)
    return DryRunReport(
        vecmigrate_version=version("vecmigrate"),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - begun, 1),
        seed=job.options.seed,
        source=job.description,
        old_encoder=None if job.old_encoder is None else job.old_encoder.identity,
        new_encoder=job.encoder.identity,
        headline=headline(
            measured.survey.population, probes, recall, upgrade, curve, spending, verdict
        ),
        verdict=verdict,
        probes=probes,
        recall=recall,
        upgrade=upgrade,
        curve=curve,
        spending=spending,
        translator=TranslatorChoice(
            method=measured.translator.method,
            anchors=len(measured.anchors),
            strategy=measured.anchors.card.strategy,
            candidates=[(score.name, score.held_out_recall) for score in measured.candidates],
            file=TRANSLATOR_FILE,
            reads_texts=measured.translator.text_dim_ > 0,
        ),
        encoder_check=measured.check,
        calibration=_calibration(job, measured, main),
        probe_losses=facts.probe_losses(main, per_probe, mean, axes),
        worst=worst,
        corpus_points=[
            (round(float(x), 4), round(float(y), 4)) for x, y in (landscape - mean) @ axes
        ],
    )


def _analyse(job: Session, measured: Measured, *roles: Role) -> Analysis:
    rows = measured.probes.rows(*roles)
    return Analysis.of(
        measured.probes,
        rows,
        measured.survey,
        measured.known,
        job.description.metric,
        measured.orders[:, rows],
        job.options.seed,
    )


def _recall(job: Session, measured: Measured, main: Analysis) -> RecallFigures:
    anchors = measured.anchors
    X = measured.translator.inputs(anchors.source_vectors, anchors.texts)
    out = held_out(measured.translator, X, anchors.target_vectors, job.options.seed)
    at = main.recall_at()
    documents = easier = None
    if len(measured.probes.rows(Role.DOCUMENT)) > 1:
        documents = _analyse(job, measured, Role.DOCUMENT).recall_at()[10]
        easier = _difference(documents, at[10])
    return RecallFigures(
        at=at,
        ndcg_at_10=main.ndcg(),
        in_sample_at_10=facts.in_sample_recall(
            measured.probes.queries[main.rows], out, anchors.target_vectors, job.rng(4)
        ),
        documents_at_10=documents,
        documents_easier_by=easier,
    )


def _difference(a: Estimate, b: Estimate) -> Estimate:
    """The difference of independent estimates; half-widths add in squares."""
    value = a.value - b.value
    return Estimate(
        value=value,
        low=value - float(np.hypot(a.value - a.low, b.high - b.value)),
        high=value + float(np.hypot(a.high - a.value, b.value - b.low)),
    )


def _upgrade_and_worst(
    job: Session, measured: Measured, main: Analysis, per_probe: facts.PerProbe
) -> tuple[Upgrade, list[WorstProbe]]:
    """What shows texts, together, so that they are read once."""
    drawn = main.old_agreement()
    agreement = None if drawn is None else drawn.mean(axis=0)
    worst = facts.worst_ids(main, per_probe)
    contrasts = [] if agreement is None else facts.contrast_ids(main, agreement)
    texts = facts.texts_of(job.source, facts.ids_in(worst + contrasts))
    unknown = sorted(measured.survey.unknown_labels, key=str)
    upgrade = Upgrade(
        labelled=_analyse(job, measured, Role.MAIN, Role.LABELLED).labelled(),
        unknown_labels=unknown[:NAMED_LABELS],
        unknown_label_count=len(unknown),
        agreement_at_10=None if drawn is None else main.resampler.estimate(drawn),
        contrasts=[] if agreement is None else facts.contrasts(main, agreement, contrasts, texts),
    )
    return upgrade, facts.worst_probes(main, per_probe, worst, texts)


def _probe_sample(job: Session, measured: Measured) -> ProbeSample:
    log = measured.choice.log
    asked = measured.probes.asked
    return ProbeSample(
        kind=measured.choice.kind,
        available=job.population if log is None else log.available,
        used=len(measured.probes.rows(Role.MAIN)),
        labelled=sum(bool(probe.relevant) for probe in asked if probe.role is not Role.DOCUMENT),
        without_text=0 if log is None else log.without_text,
        duplicates=0 if log is None else log.duplicates,
        anchors_excluded=measured.sample.anchors_excluded if log is None else log.anchors_excluded,
    )


def _calibration(job: Session, measured: Measured, main: Analysis) -> Calibration:
    inputs = measured.inputs_of(measured.bought)
    known, variance = measured.known, None
    if measured.translator.tells_variance:
        translated, variance = measured.translator.transform_with_variance(inputs)
    else:
        translated = measured.translator.transform(inputs)
    true = known.vectors[known.anchors : known.anchors + len(inputs)]
    return facts.calibration(main, translated, true, variance, job.rng(5))


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
