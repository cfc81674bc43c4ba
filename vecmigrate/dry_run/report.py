"""Puts the report together: every figure, and what a person may look at."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.cost_curve import cost_curve
from vecmigrate.dry_run.estimates import Analysis, Measured
from vecmigrate.dry_run.labelled import LabelledProbes, compare_labelled
from vecmigrate.dry_run.probes import Role
from vecmigrate.dry_run.routes import Prices, RouteMeasures, choose_route
from vecmigrate.dry_run.sample import Sample
from vecmigrate.dry_run.session import Session
from vecmigrate.dry_run.verdict import headline
from vecmigrate.encoders.metered import Cost, TokenCounter
from vecmigrate.evaluation.search import greatest
from vecmigrate.points.batch import PointId, Vectors, id_array, row_norms
from vecmigrate.report.schema import (
    Calibration,
    CalibrationDecile,
    DocumentText,
    DryRunReport,
    Estimate,
    ProbeLoss,
    ProbeSample,
    QueryContrast,
    RecallFigures,
    Spending,
    TranslatorChoice,
    Upgrade,
    WorstProbe,
)
from vecmigrate.translators.fit import held_out

TRANSLATOR_FILE = "translator.safetensors"
NAMED_LABELS = 20
WORST = 20
CONTRASTS = 10
SHOWN_DOCUMENTS = 5
SCORE_PAIRS = 400
DECILES_FROM = 100
LONGEST_TEXT = 500

PerProbe = NDArray[np.float64]
"""``(probes,)``: a mean over the draws."""


def assemble(session: Session, measured: Measured, begun: float) -> DryRunReport:
    """Estimate every figure and put the report together.

    Parameters
    ----------
    begun
        When the run began, by ``time.perf_counter``.

    Raises
    ------
    UsageError
        If a gate cannot be judged.
    """
    options, translator = session.options, measured.translator
    main = _analyse(session, measured, Role.MAIN)
    per_probe = main.truth.recall(10).mean(axis=0)
    recall = _recall(session, main)
    labelled = LabelledProbes.of(_analyse(session, measured, Role.MAIN, Role.LABELLED))
    upgrade = _upgrade(session, main, labelled)
    probes = _probe_sample(measured)
    spending = _spending(session, measured)
    curve = cost_curve(
        main, session.description.metric, lambda share: _cost(session, measured, share), options
    )
    routes, verdict = choose_route(
        RouteMeasures(
            main=main,
            labelled=labelled,
            recall=recall,
            metrics=upgrade.labelled,
            metric=session.description.metric,
            options=options,
            probes=probes.used,
            labelled_probes=probes.labelled,
            prices=_prices(session, measured),
        ).rows(curve),
        options,
    )
    landscape = translator.transform(_inputs(measured, measured.sample))
    mean, axes = map_axes(landscape)
    return DryRunReport(
        vecmigrate_version=version("vecmigrate"),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - begun, 1),
        seed=options.seed,
        source=session.description,
        old_encoder=None if session.old_encoder is None else session.old_encoder.identity,
        new_encoder=session.encoder.identity,
        headline=headline(
            measured.survey.population, probes, recall, upgrade, curve, spending, verdict, routes
        ),
        verdict=verdict,
        routes=routes,
        probes=probes,
        recall=recall,
        upgrade=upgrade,
        curve=curve,
        spending=spending,
        translator=TranslatorChoice(
            method=translator.method,
            anchors=len(measured.anchors),
            strategy=measured.anchors.card.strategy,
            candidates=[(score.name, score.held_out_recall) for score in measured.candidates],
            file=TRANSLATOR_FILE,
            reads_texts=translator.text_dim_ > 0,
        ),
        encoder_check=measured.check,
        calibration=_calibration(session, main),
        probe_losses=probe_losses(main, per_probe, mean, axes),
        worst=worst_probes(session, main, per_probe),
        corpus_points=[
            (round(float(x), 4), round(float(y), 4)) for x, y in (landscape - mean) @ axes
        ],
    )


def _analyse(session: Session, measured: Measured, *roles: Role) -> Analysis:
    return Analysis.of(measured, session.description.metric, session.options.seed, *roles)


def _inputs(measured: Measured, sample: Sample) -> Vectors:
    """What the translator takes for the points of a sample."""
    return measured.translator.inputs(sample.points.vectors, sample.texts)


def _recall(session: Session, main: Analysis) -> RecallFigures:
    measured, anchors = main.measured, main.measured.anchors
    X = measured.translator.inputs(anchors.source_vectors, anchors.texts)
    out = held_out(measured.translator, X, anchors.target_vectors, session.options.seed)
    at = main.recall_at()
    documents = easier = None
    if len(measured.probes.rows(Role.DOCUMENT)) > 1:
        documents = _analyse(session, measured, Role.DOCUMENT).recall_at()[10]
        easier = _difference(documents, at[10])
    return RecallFigures(
        at=at,
        ndcg_at_10=main.estimate(lambda order: main.truth.ndcg(10, order)),
        in_sample_at_10=in_sample_recall(
            measured.probes.queries[main.rows], out, anchors.target_vectors, session.rng(4)
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


def _upgrade(session: Session, main: Analysis, labelled: LabelledProbes | None) -> Upgrade:
    agreement = main.old_agreement()
    unknown = sorted(main.measured.survey.unknown_labels, key=str)
    return Upgrade(
        labelled=[] if labelled is None else compare_labelled(labelled),
        unknown_labels=unknown[:NAMED_LABELS],
        unknown_label_count=len(unknown),
        agreement_at_10=None if agreement is None else main.resampler.estimate(agreement),
        contrasts=[] if agreement is None else contrasts(session, main, agreement.mean(axis=0)),
    )


def _probe_sample(measured: Measured) -> ProbeSample:
    choice, asked = measured.choice, measured.probes.asked
    return ProbeSample(
        kind=choice.kind,
        available=choice.available,
        used=len(measured.probes.rows(Role.MAIN)),
        labelled=sum(bool(probe.relevant) for probe in asked if probe.role is not Role.DOCUMENT),
        without_text=choice.left_out["without_text"],
        duplicates=choice.left_out["duplicates"],
        anchors_excluded=choice.left_out["anchors_excluded"],
    )


def _cost(session: Session, measured: Measured, share: float) -> Cost:
    """Price re-embedding a share of the corpus."""
    return _cost_of_texts(session, measured, round(share * session.population))


def _cost_of_texts(session: Session, measured: Measured, texts: int) -> Cost:
    return session.encoder.cost(texts, round(texts * measured.tokens_per_text))


def _prices(session: Session, measured: Measured) -> Prices:
    return Prices(
        embedding=lambda texts: _cost_of_texts(session, measured, texts),
        population=measured.survey.population,
        bought=len(measured.known.ids),
        tokens_per_text=measured.tokens_per_text,
        texts_per_second=session.encoder.texts_per_second,
        translating_hours=measured.translating_seconds / 3600,
    )


def _spending(session: Session, measured: Measured) -> Spending:
    encoder, meter = session.encoder, session.encoder.meter
    anchors = len(measured.anchors) if session.drawn else 0
    queries = len(measured.choice.asked)
    return Spending(
        anchors=anchors,
        queries=queries,
        documents=meter.texts - anchors - queries,
        reused=meter.reused,
        budget_texts=meter.budget.texts,
        budget_tokens=meter.budget.tokens,
        spent=encoder.cost(meter.texts, meter.tokens),
        everything=_cost(session, measured, 1.0),
        texts_per_second=encoder.texts_per_second,
        tokens_counted=isinstance(encoder.encoder, TokenCounter),
        price_per_million_tokens=meter.price_per_million_tokens,
    )


def _cut(text: str | None) -> str | None:
    """Shorten a text to what a report needs."""
    if text is None or len(text) <= LONGEST_TEXT:
        return text
    return text[: LONGEST_TEXT - 1] + "…"


def _with_texts(
    session: Session, analysis: Analysis, rows: Sequence[tuple[int, list[PointId], list[PointId]]]
) -> Iterator[tuple[int, dict[str, Any], list[DocumentText], list[DocumentText]]]:
    """Yield each row's probe, as it was asked, and its documents with their texts, if any."""
    ids = list(dict.fromkeys(i for _, first, second in rows for i in [*first, *second]))
    texts: list[str | None] = [None] * len(ids)
    if session.description.text_field is not None and ids:
        texts = session.texts(id_array(ids))
    shown = {i: DocumentText(id=i, text=_cut(text)) for i, text in zip(ids, texts, strict=True)}
    for p, *documents in rows:
        asked = {"id": analysis.asked[p].id, "text": _cut(analysis.asked[p].text)}
        first, second = ([shown[i] for i in each] for each in documents)
        yield p, asked, first, second


def worst_probes(session: Session, analysis: Analysis, recall: PerProbe) -> list[WorstProbe]:
    """The probes with the least recall: documents lost, and those put in their place.

    Lost are known documents that are likelier than not among the true ten nearest.
    """
    hits = analysis.truth.hits(10).mean(axis=0)
    thresholds = analysis.truth.thresholds[10]
    rows = []
    for p in np.argsort(recall, kind="stable")[:WORST].tolist():
        first = analysis.candidates.ids[p, :10].tolist()
        scores = analysis.true.all[p]
        likely = (scores >= thresholds[:, p, None]).mean(axis=0) > 0.5
        order = np.flatnonzero(likely)[np.argsort(-scores[likely], kind="stable")]
        known = analysis.measured.known.ids[order].tolist()
        lost = [i for i in known if i not in first][:10]
        gained = [i for i, share in zip(first, hits[p].tolist(), strict=True) if share < 0.5]
        rows.append((p, lost, gained))
    return [
        WorstProbe(**asked, recall_at_10=float(recall[p]), lost=lost, gained=gained)
        for p, asked, lost, gained in _with_texts(session, analysis, rows)
    ]


def contrasts(session: Session, analysis: Analysis, agreement: PerProbe) -> list[QueryContrast]:
    """The probes that the encoders agree on least, with what each puts first.

    Of the new encoder's, those known.
    """
    old, known = analysis.old, analysis.measured.known
    assert old is not None
    rows = []
    for p in np.argsort(agreement, kind="stable")[:CONTRASTS].tolist():
        best = np.argsort(-analysis.true.all[p], kind="stable")[:SHOWN_DOCUMENTS]
        rows.append((p, old[p, :SHOWN_DOCUMENTS].tolist(), known.ids[best].tolist()))
    return [
        QueryContrast(**asked, agreement=float(agreement[p]), old=before, new=after)
        for p, asked, before, after in _with_texts(session, analysis, rows)
    ]


def _calibration(session: Session, analysis: Analysis) -> Calibration:
    """Compare a uniform sample's translated vectors with its true ones; none is an anchor."""
    measured, translator = analysis.measured, analysis.measured.translator
    inputs, variance = _inputs(measured, measured.bought), None
    if translator.tells_variance:
        translated, variance = translator.transform_with_variance(inputs)
    else:
        translated = translator.transform(inputs)
    known = measured.known
    true = known.vectors[known.anchors : known.anchors + len(inputs)]
    cosines = np.einsum("ij,ij->i", translated, true) / np.maximum(
        row_norms(translated) * row_norms(true), 1e-12
    )
    scores, candidates = analysis.candidates.scores, analysis.true.candidates
    seen = np.argwhere(np.isfinite(candidates) & ~analysis.true.anchors)
    chosen = seen[session.rng(5).permutation(len(seen))[:SCORE_PAIRS]]
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
            (round(float(scores[p, c]), 4), round(float(candidates[p, c]), 4)) for p, c in chosen
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
    places = (analysis.measured.probes.queries[analysis.rows] - mean) @ axes
    return [
        ProbeLoss(
            id=asked.id,
            text=_cut(asked.text),
            recall_at_10=round(float(share), 4),
            x=round(float(x), 4),
            y=round(float(y), 4),
        )
        for asked, share, (x, y) in zip(analysis.asked, recall, places, strict=True)
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
    best = [greatest(queries @ vectors[rows].T, k) for vectors in (held_out, true)]
    shares = [len(set(a) & set(b)) / k for a, b in zip(*map(np.ndarray.tolist, best), strict=True)]
    return float(np.mean(shares))
