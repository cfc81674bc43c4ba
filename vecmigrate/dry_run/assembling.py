"""Turns what was measured into the report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors import AnchorSet
from vecmigrate.dry_run import facts
from vecmigrate.dry_run.analysis import Analysis
from vecmigrate.dry_run.asking import Choice
from vecmigrate.dry_run.headline import headline
from vecmigrate.dry_run.job import Job
from vecmigrate.dry_run.known import Known
from vecmigrate.dry_run.probes import Probes, Role
from vecmigrate.dry_run.sample import Sample
from vecmigrate.dry_run.survey import Survey
from vecmigrate.dry_run.verdict import decide
from vecmigrate.points.batch import Vectors
from vecmigrate.report.schema import (
    Calibration,
    DryRunReport,
    EncoderCheck,
    Estimate,
    ProbeSample,
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


def assemble(job: Job, measured: Measured, begun: float) -> DryRunReport:
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
        job.settings.order,
        job.settings.target_recall,
    )
    verdict = decide(
        job.settings.thresholds, recall, upgrade.labelled, probes.used, probes.labelled
    )
    spending = job.spending()
    landscape = measured.translator.transform(measured.inputs_of(measured.sample))
    mean, axes = facts.map_axes(landscape)
    return DryRunReport(
        vecmigrate_version=version("vecmigrate"),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - begun, 1),
        seed=job.settings.seed,
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


def _analyse(job: Job, measured: Measured, *roles: Role) -> Analysis:
    rows = measured.probes.rows(*roles)
    return Analysis.of(
        measured.probes,
        rows,
        measured.survey,
        measured.known,
        job.description.metric,
        measured.orders[:, rows],
        job.settings.seed,
    )


def _recall(job: Job, measured: Measured, main: Analysis) -> RecallFigures:
    anchors = measured.anchors
    X = measured.translator.inputs(anchors.source_vectors, anchors.texts)
    out = held_out(measured.translator, X, anchors.target_vectors, job.settings.seed)
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
    job: Job, measured: Measured, main: Analysis, per_probe: facts.PerProbe
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


def _probe_sample(job: Job, measured: Measured) -> ProbeSample:
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


def _calibration(job: Job, measured: Measured, main: Analysis) -> Calibration:
    inputs = measured.inputs_of(measured.bought)
    known, variance = measured.known, None
    if measured.translator.tells_variance:
        translated, variance = measured.translator.transform_with_variance(inputs)
    else:
        translated = measured.translator.transform(inputs)
    true = known.vectors[known.anchors : known.anchors + len(inputs)]
    return facts.calibration(main, translated, true, variance, job.rng(5))
