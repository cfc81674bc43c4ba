"""The dry run: sample, fit, translate without writing, buy a little truth, estimate the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from vecmigrate.anchors import AnchorSet
from vecmigrate.anchors.keeper import used_scale
from vecmigrate.connector.registry import open_source
from vecmigrate.connector.source import Source
from vecmigrate.dry_run.estimates import Measured
from vecmigrate.dry_run.options import DryRunOptions, Stage, bounds, silent
from vecmigrate.dry_run.probes import choose_probes, encode_probes
from vecmigrate.dry_run.purchases import buy_for_probes, check_encoder
from vecmigrate.dry_run.report import TRANSLATOR_FILE, assemble
from vecmigrate.dry_run.resampling import refit_orders
from vecmigrate.dry_run.sample import anchors_of, uniform_sample
from vecmigrate.dry_run.session import Session
from vecmigrate.dry_run.shares import lay_out
from vecmigrate.dry_run.survey import TRAFFIC, VARIANCE, survey
from vecmigrate.dry_run.truth import Known
from vecmigrate.dry_run.verdict import check_gates
from vecmigrate.encoders import EmbeddingStore, Encoder, Meter, MeteredEncoder, open_encoder
from vecmigrate.encoders.base import texts_at_once
from vecmigrate.encoders.metered import EMBEDDINGS_FOLDER
from vecmigrate.errors import MismatchError, UsageError
from vecmigrate.evaluation import Query, read_log
from vecmigrate.io.atomic import new_folder
from vecmigrate.report.schema import DryRunReport
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


def dry_run(
    source: str | Source,
    encoder: str | Encoder,
    out: str | Path,
    options: DryRunOptions | None = None,
    *,
    old_encoder: str | Encoder | None = None,
    query_encoder: str | Encoder | None = None,
    queries: Sequence[Query] | None = None,
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
        The new encoder; if it has a token table and ``options.texts`` is True, the points' texts
        are read with that.
    out
        A folder for the anchors, the translator and the embeddings bought, which the same call uses
        again instead of paying twice.
    old_encoder
        Encodes queries for the old collection; without it nothing is said about that one.
    query_encoder
        Encodes queries in the new space if ``encoder`` cannot: ready-made query vectors.
    queries
        A log, with labels if there are any, instead of the files that the options name; without
        any, held-out documents serve as queries.
    stage, announce
        Called for progress, and with lines for a person before money is spent.

    Raises
    ------
    UsageError
        If the budget is too small for any estimate, or a gate cannot be judged.
    InputError
        If the corpus is smaller than the budget, no query has text, or the encoder answers
        differently when asked again.
    MismatchError
        If dimensions or encoders do not belong together.
    UnreachableError, WriteError
        From stores, encoders and the disk; what was bought stays for the next call.
    """
    begun = time.perf_counter()
    options = options or DryRunOptions()
    if queries is None:
        queries = read_log(options.queries, options.labels, announce)
    new = open_encoder(encoder) if isinstance(encoder, str) else encoder
    asking = open_encoder(query_encoder) if isinstance(query_encoder, str) else query_encoder
    old = open_encoder(old_encoder) if isinstance(old_encoder, str) else old_encoder
    if queries is not None and asking is None and not new.needs_texts:
        raise UsageError(
            f"{new.identity.name} is a file of documents' vectors and cannot encode queries",
            remedy="Name the queries' file with --query-encoder.",
        )
    comparable = old is not None and any(query.relevant for query in queries or ())
    check_gates(options.gates, comparable=comparable)
    if options.order == TRAFFIC and queries is None:
        raise UsageError("an order by traffic needs a query log", remedy="Give one with --queries.")
    with ExitStack() as stack:
        opened = stack.enter_context(open_source(source)) if isinstance(source, str) else source
        description = opened.describe()
        _check_dimensions(description.dimension, new, asking, old)
        folder = stack.enter_context(new_folder(Path(out)))
        drawn, budget = bounds(options, description.count)
        meter = Meter(budget, options.price_per_million_tokens)
        bought = folder / EMBEDDINGS_FOLDER
        asking = asking or new
        documents = EmbeddingStore(bought, new.identity, "document", texts_at_once(new))
        asked = EmbeddingStore(bought, asking.identity, "query", texts_at_once(asking))
        session = Session(
            source=opened,
            description=description,
            encoder=MeteredEncoder(new, meter, documents),
            query_encoder=MeteredEncoder(asking, meter, asked),
            old_encoder=old,
            folder=folder,
            options=options,
            drawn=drawn,
            stage=stage,
            announce=announce,
        )
        return assemble(session, _measure(session, queries), begun)


def _measure(session: Session, queries: Sequence[Query] | None) -> Measured:
    """Go through the stages; each takes what it needs by name and returns what it found."""
    encoder = session.encoder
    uniform = uniform_sample(session)
    tokens_per_text = encoder.tokens_per_text(uniform.texts)
    shares = lay_out(session, tokens_per_text, queries)
    anchors = anchors_of(session)
    sample = uniform.without(anchors.ids)
    translator, table, scale = _fit(session, anchors)

    usable = sample.usable(needs_texts=encoder.needs_texts)
    bought = usable.take(range(min(shares.uniform, len(usable))))
    first = session.embed(bought.points.ids, bought.texts)
    known = Known(anchors.ids, anchors.target_vectors, len(anchors)).plus(bought.points.ids, first)
    check = check_encoder(session, bought, first)

    anchor_texts = session.texts(anchors.ids) if queries is not None else []
    rest, excluded = sample.without(bought.points.ids), len(uniform) - len(sample)
    choice = choose_probes(session, shares, queries, anchor_texts, rest, excluded)
    probes = encode_probes(session, choice.asked, sample.points)
    with session.reading("translating", payloads=translator.text_dim_ > 0) as batches:
        begun = time.perf_counter()
        found = survey(session, translator, probes, batches, anchors.ids)
        took = time.perf_counter() - begun
    purchases = buy_for_probes(session, probes, found, known)
    return Measured(
        tokens_per_text=tokens_per_text,
        anchors=anchors,
        sample=sample,
        translator=translator,
        mixing_scale=scale,
        candidates=table,
        check=check,
        bought=bought,
        choice=choice,
        probes=purchases.probes,
        survey=purchases.survey,
        known=purchases.known,
        drawn=purchases.drawn,
        translating_seconds=took,
        orders=refit_orders(session, translator, anchors, purchases),
    )


def _fit(session: Session, anchors: AnchorSet) -> tuple[Translator, list[CandidateScore], float]:
    """Fit the translator and leave its file in the folder; its score table and mixing scale."""
    X, Y, options = anchors.source_vectors, anchors.target_vectors, session.options
    texts = _texts(session, anchors)
    asked = FitOptions(method=options.method, seed=options.seed, metric=session.description.metric)
    total = asked.fits(with_texts=texts is not None)
    with session.stage("comparing", total, unit="fit") as advance:
        translator, table = fit_translator(X, Y, asked, texts=texts, progress=advance)
    X = translator.inputs(X, anchors.texts)
    scale = fair_scale(translator, X, Y, anchors.card.population, options.seed)
    save_translator(
        translator,
        session.folder / TRANSLATOR_FILE,
        seed=anchors.card.seed,
        source_encoder=anchors.card.source_encoder,
        target_encoder=anchors.card.target_encoder,
        mixing_scale=scale,
        overwrite=True,
    )
    check_translator(session.description, translator, None)
    if options.order == VARIANCE and not translator.tells_variance:
        raise UsageError(
            f"the method {translator.method} tells no uncertainty to order by",
            remedy="Choose another --order, or --method kernel-ridge.",
        )
    return translator, table, used_scale(scale)


def _texts(session: Session, anchors: AnchorSet) -> AnchorTexts | None:
    """What a translator may read the points' texts with, if there are any."""
    encoder, options = session.encoder.encoder, session.options
    if not options.texts or not isinstance(encoder, HasTokenTable) or anchors.texts is None:
        return None
    if session.description.text_field is None:
        return None
    if options.method != AUTO and not registered()[options.method].reads_texts:
        return None
    return AnchorTexts(anchors.texts, encoder.token_table())


def _check_dimensions(
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
