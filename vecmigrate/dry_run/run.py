"""The dry run: sample, fit, translate without writing, buy a little truth, estimate the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from vecmigrate.anchors import AnchorSet
from vecmigrate.connector.registry import open_source
from vecmigrate.connector.source import Source
from vecmigrate.dry_run.options import DryRunOptions, Stage, anchor_count, budget_of, silent
from vecmigrate.dry_run.purchases import (
    CHECKED_TEXTS,
    MIN_PROBES,
    Shares,
    anchors_as_known,
    buy_for_probes,
    check_encoder,
    choose_probes,
    embed_documents,
    encode_probes,
    texts_for,
    too_small,
    with_labels,
)
from vecmigrate.dry_run.report import TRANSLATOR_FILE, Measured, assemble
from vecmigrate.dry_run.resampling import GROUPS, refit_orders
from vecmigrate.dry_run.sample import Sample, drawn_anchors, given_anchors
from vecmigrate.dry_run.session import Session
from vecmigrate.dry_run.survey import TRAFFIC, VARIANCE, survey
from vecmigrate.dry_run.verdict import check_gates
from vecmigrate.encoders import Encoder, open_encoder
from vecmigrate.encoders.metered import count_tokens
from vecmigrate.errors import InputError, MismatchError, UsageError, WriteError
from vecmigrate.evaluation import Query
from vecmigrate.points.batch import PointId, VectorBatch
from vecmigrate.points.ids import name_some
from vecmigrate.points.sampling import sample_uniform
from vecmigrate.report.formatting import money
from vecmigrate.report.schema import (
    DryRunReport,
)
from vecmigrate.translators import Translator, save_translator
from vecmigrate.translators.base import registered
from vecmigrate.translators.file import check_translator
from vecmigrate.translators.fit import (
    AUTO,
    AnchorTexts,
    CandidateScore,
    FitOptions,
    fair_scale,
    fit_translator,
)
from vecmigrate.translators.token_features import HasTokenTable

SAMPLE = 3000
"""Points of the uniform sample: the map, tokens of a text, documents as probes."""


def dry_run(
    source: str | Source,
    encoder: str | Encoder,
    out: str | Path,
    *,
    old_encoder: str | Encoder | None = None,
    query_encoder: str | Encoder | None = None,
    text_encoder: HasTokenTable | None = None,
    queries: Sequence[Query] | None = None,
    labels: Mapping[PointId, Mapping[PointId, float]] | None = None,
    options: DryRunOptions | None = None,
    stage: Stage = silent,
    announce: Callable[[str], None] = lambda line: None,
) -> DryRunReport:
    """Estimate what moving ``source`` to a new encoder costs, writing no collection.

    Anchors are drawn and re-embedded, a translator is fitted, and the whole corpus is translated in
    one streaming pass that keeps each probe's candidates. Some of these are re-embedded, within the
    budget; the true scores of the others are imputed (see :mod:`vecmigrate.dry_run.truth`),
    and every figure is estimated on the completed lists, with an interval from resampling probes
    and anchors.

    Parameters
    ----------
    source
        A URI, or an open source (left open).
    encoder
        The new encoder.
    out
        A folder for the anchors, the translator and the embeddings bought, which the same call uses
        again instead of paying twice.
    old_encoder
        Encodes queries for the old collection; without it nothing is said about that one.
    query_encoder
        Encodes queries in the new space where ``encoder`` cannot: ready-made query vectors.
    text_encoder
        Whose token table the points' texts are read with; ``encoder`` itself where it has one and
        ``options.texts`` is True.
    queries
        A log; without one, held-out documents serve as queries.
    labels
        Relevant documents by query id, instead of those that ``queries`` carry.
    options
        See :class:`DryRunOptions`.
    stage, announce
        Called for progress, and with lines for a person before money is spent.

    Raises
    ------
    UsageError
        Where the budget is too small for any estimate, or a gate cannot be judged.
    InputError
        Where the corpus is smaller than the budget, no query has text, or the encoder answers
        differently when asked again.
    MismatchError
        Where dimensions or encoders do not belong together.
    UnreachableError, WriteError
        From stores, encoders and the disk; what was bought stays for the next call.
    """
    begun = time.perf_counter()
    options = options or DryRunOptions()
    folder = Path(out)
    new = open_encoder(encoder) if isinstance(encoder, str) else encoder
    asking = open_encoder(query_encoder) if isinstance(query_encoder, str) else query_encoder
    old = open_encoder(old_encoder) if isinstance(old_encoder, str) else old_encoder
    _require_query_encoder(new, asking, queries)
    asked = None if queries is None else with_labels(queries, labels)
    strangers = sorted((labels or {}).keys() - {query.id for query in queries or ()}, key=str)
    if strangers:
        announce(f"{len(strangers):,} labelled queries are not in the log: {name_some(strangers)}")
    comparable = old is not None and any(query.relevant for query in asked or ())
    check_gates(options.gates, comparable=comparable)
    if options.order == TRAFFIC and queries is None:
        raise UsageError("an order by traffic needs a query log", remedy="Give one with --queries.")
    with ExitStack() as stack:
        opened = stack.enter_context(open_source(source)) if isinstance(source, str) else source
        description = opened.describe()
        _require_dimensions(description.dimension, new, asking, old)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(
                f"{folder} cannot be made: {error.strerror}", remedy="Name another --out."
            ) from error
        job = Session(
            opened, description, new, asking or new, old, folder, options, stage, announce
        )
        if options.texts:
            job.text_encoder = text_encoder or (new if isinstance(new, HasTokenTable) else None)
        measured = _measure(job, asked)
        return assemble(job, measured, begun)


def _measure(job: Session, queries: Sequence[Query] | None) -> Measured:
    points = _uniform_sample(job)
    texts = texts_for(job, points.ids)
    job.tokens_per_text = float(np.mean(count_tokens(job.encoder, [t for t in texts if t] or [""])))
    given = job.options.anchors if isinstance(job.options.anchors, Path) else None
    drawn = 0 if given else anchor_count(job.options, job.population)
    job.budget = budget_of(job.options, drawn, job.population)
    shares = _shares(job, drawn, queries)
    anchors = _anchors(job, given, drawn)
    sample = Sample.without_anchors(points, texts, anchors.ids)

    translator, candidates = _fit(job, anchors)
    bought = sample.first_usable(shares.uniform, needs_texts=job.encoder.needs_texts)
    known = embed_documents(job, bought.points.ids, bought.texts, anchors_as_known(anchors))
    first = known.vectors[known.anchors :]
    check = check_encoder(job, bought.points.ids, bought.texts, first)
    anchor_texts = texts_for(job, anchors.ids) if queries is not None else []
    choice = choose_probes(job, shares, queries, anchor_texts, sample.without(bought))
    probes = encode_probes(job, choice.asked, sample.points)
    with job.reading("translating", payloads=translator.text_dim_ > 0) as batches:
        found = survey(
            batches,
            job.population,
            translator,
            probes,
            job.description.metric,
            job.description.text_field,
            job.rng(3),
        )
    probes, found, known = buy_for_probes(job, probes, found, known)
    with job.stage("refitting", GROUPS, unit="fit") as advance:
        orders = refit_orders(
            job.source,
            translator,
            anchors,
            probes.queries,
            found.candidates,
            job.description.metric,
            job.options.seed,
            advance,
        )
    return Measured(
        anchors=anchors,
        translator=translator,
        candidates=candidates,
        check=check,
        sample=sample,
        bought=bought,
        choice=choice,
        probes=probes,
        survey=found,
        known=known,
        orders=orders,
    )


def _uniform_sample(job: Session) -> VectorBatch:
    """A uniform sample in random order."""
    with job.reading("sampling") as batches:
        points = sample_uniform(batches, SAMPLE, job.options.seed)
    if points is None or len(points) < MIN_PROBES:
        raise InputError(
            f"{job.description.uri} holds too few points to measure on",
            remedy="Re-embed a corpus this small whole.",
        )
    return points.take(job.rng(0).permutation(len(points)))


def _shares(job: Session, drawn: int, queries: Sequence[Query] | None) -> Shares:
    """Lay out the budget and say so, before anything is paid for."""
    if job.budget.texts is not None:
        texts = job.budget.texts - drawn
    else:
        assert job.budget.tokens is not None
        texts = int(job.budget.tokens / max(job.tokens_per_text, 1)) - drawn
    shares = Shares.of(
        texts - CHECKED_TEXTS,
        with_log=queries is not None,
        with_old=job.old_encoder is not None,
        labelled=sum(bool(query.relevant) for query in queries or ()),
    )
    if shares.sure < MIN_PROBES:
        raise too_small(job, max(shares.sure, 0))
    cost = job.cost(drawn + texts, round((drawn + texts) * job.tokens_per_text))
    price = "" if cost.money is None else f", {money(cost.money)} of money"
    job.announce(
        f"Will embed at most {job.budget} with {job.encoder.identity.name}: {drawn:,} anchors, "
        f"{texts:,} texts to measure (about {cost.tokens:,} tokens{price}), of {job.population:,} "
        "points"
    )
    return shares


def _anchors(job: Session, given: Path | None, drawn: int) -> AnchorSet:
    if given is not None:
        return given_anchors(given, job.source, job.encoder)
    with (
        job.stage("reading", job.population) as reading,
        job.stage("encoding anchors", drawn, unit="text") as encoding,
    ):
        anchors, paid = drawn_anchors(
            job.source,
            job.encoder,
            drawn,
            job.folder,
            job.options,
            None if job.old_encoder is None else job.old_encoder.identity,
            reading,
            encoding,
        )
    job.spent.anchors = len(anchors)
    job.spent.reused += 0 if paid else len(anchors)
    job.spent.tokens += sum(count_tokens(job.encoder, texts_for(job, anchors.ids)))
    return anchors


def _fit(job: Session, anchors: AnchorSet) -> tuple[Translator, list[CandidateScore]]:
    """Fit the translator and leave its file in the folder."""
    X, Y, options = anchors.source_vectors, anchors.target_vectors, job.options
    texts = _texts(job, anchors)
    asked = FitOptions(method=options.method, seed=options.seed, metric=job.description.metric)
    total = asked.fits(with_texts=texts is not None)
    with job.stage("comparing", total, unit="fit") as advance:
        translator, table = fit_translator(X, Y, asked, texts=texts, progress=advance)
    X = translator.inputs(X, anchors.texts)
    save_translator(
        translator,
        job.folder / TRANSLATOR_FILE,
        seed=anchors.card.seed,
        source_encoder=anchors.card.source_encoder,
        target_encoder=anchors.card.target_encoder,
        mixing_scale=fair_scale(translator, X, Y, anchors.card.population, options.seed),
        overwrite=True,
    )
    check_translator(job.description, translator, None)
    if options.order == VARIANCE and not translator.tells_variance:
        raise UsageError(
            f"the method {translator.method} tells no uncertainty to order by",
            remedy="Choose another --order, or --method kernel-ridge.",
        )
    return translator, table


def _texts(job: Session, anchors: AnchorSet) -> AnchorTexts | None:
    """What a translator may read the points' texts with, where there are any."""
    encoder, method = job.text_encoder, job.options.method
    if encoder is None or job.description.text_field is None or anchors.texts is None:
        return None
    if method != AUTO and not registered()[method].reads_texts:
        return None
    return AnchorTexts(anchors.texts, encoder.token_table())


def _require_query_encoder(
    new: Encoder, asking: Encoder | None, queries: Sequence[Query] | None
) -> None:
    if queries is not None and asking is None and not new.needs_texts:
        raise UsageError(
            f"{new.identity.name} is a file of documents' vectors and cannot encode queries",
            remedy="Name the queries' file with --query-encoder.",
        )


def _require_dimensions(
    dimension: int, new: Encoder, asking: Encoder | None, old: Encoder | None
) -> None:
    if asking is not None and asking.identity.dimension != new.identity.dimension:
        raise MismatchError(
            f"queries of {asking.identity} for documents of {new.identity}",
            remedy="Encode both with the new encoder.",
        )
    if old is not None and old.identity.dimension != dimension:
        raise MismatchError(
            f"the collection holds {dimension} dimensions, which {old.identity} does not make",
            remedy="Name the encoder that made the collection with --old-encoder.",
        )
