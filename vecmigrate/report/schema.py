"""What a dry run found: the facts of ``report.json``, which every page and table is made from."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vecmigrate.encoders.metered import Cost
from vecmigrate.points.batch import PointId
from vecmigrate.points.collection import CollectionDescription, EncoderIdentity

SCHEMA_VERSION: Literal[2] = 2

READABLE_VERSIONS = (1, SCHEMA_VERSION)
"""Version 1 compared no routes."""


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Facts):
    """A figure and its 95 % interval, from resampling probes and anchors."""

    value: float
    low: float
    high: float


class PairedDifference(_Facts):
    """A paired difference of means over queries, its interval and two-sided p-value."""

    difference: Estimate
    p_value: float = Field(ge=0, le=1)


class Spending(_Facts):
    """What this run re-embedded, and what else it could have been.

    Attributes
    ----------
    anchors, queries, documents
        Texts embedded by kind; ``documents`` are those of probes' candidates.
    reused
        Of these, already paid for by an earlier run in the same folder or an anchor file.
    budget_texts, budget_tokens
        The bound given; None if it was not given in that unit.
    spent, everything
        This run, and re-embedding the whole corpus.
    texts_per_second
        Measured on this run; None if all vectors were ready-made.
    tokens_counted
        False if the encoder has no tokenizer here and four characters count as one token.
    """

    anchors: int
    queries: int
    documents: int
    reused: int
    budget_texts: int | None
    budget_tokens: int | None
    spent: Cost
    everything: Cost
    texts_per_second: float | None
    tokens_counted: bool
    price_per_million_tokens: float | None


class ProbeKind(StrEnum):
    """What stands for what users will ask."""

    QUERY_LOG = "query log"
    DOCUMENTS = "documents"


class ProbeSample(_Facts):
    """Which probes were used.

    Attributes
    ----------
    kind
        Logged queries, or held-out documents used as queries.
    available
        Queries in the log, or documents in the corpus.
    used
        Probes that recall is estimated on.
    labelled
        Probes that labelled metrics are computed on.
    without_text, duplicates
        Log entries left out.
    anchors_excluded
        Probes, or documents about to become one, that were left out for being anchors.
    """

    kind: ProbeKind
    available: int
    used: int
    labelled: int
    without_text: int
    duplicates: int
    anchors_excluded: int


class RecallFigures(_Facts):
    """Recall of the translated collection against full re-embedding, over the whole corpus.

    Attributes
    ----------
    at
        recall@k by k.
    ndcg_at_10
        nDCG@10 with the true ten nearest as the relevant ones.
    in_sample_at_10
        The figure that a comparison within the anchors gives, which overstates.
    documents_at_10
        recall@10 with documents as queries, if a query log was used for ``at``.
    documents_easier_by
        ``documents_at_10`` less ``at[10]``.
    """

    at: dict[int, Estimate]
    ndcg_at_10: Estimate
    in_sample_at_10: float
    documents_at_10: Estimate | None = None
    documents_easier_by: Estimate | None = None

    @property
    def rows(self) -> list[tuple[str, Estimate]]:
        """Each figure under its name: the rows of tables, and what ``min-`` gates look up."""
        rows = [(f"recall@{k}", self.at[k]) for k in sorted(self.at)]
        rows.append(("nDCG@10", self.ndcg_at_10))
        if self.documents_at_10 is not None:
            rows.append(("recall@10, documents as queries", self.documents_at_10))
        return rows


class LabelledMetric(_Facts):
    """One labelled metric of the three collections; ``old`` is None without the old encoder."""

    name: str
    old: Estimate | None
    reembedded: Estimate
    translated: Estimate
    reembedded_minus_old: PairedDifference | None
    translated_minus_old: PairedDifference | None
    translated_minus_reembedded: PairedDifference


class DocumentText(_Facts):
    """A document as a person sees it."""

    id: PointId
    text: str | None


class QueryContrast(_Facts):
    """A query on which the two encoders differ, with what each puts first."""

    id: PointId
    text: str | None
    agreement: float
    old: list[DocumentText]
    new: list[DocumentText]


class Upgrade(_Facts):
    """Whether the new encoder is better here.

    Attributes
    ----------
    labelled
        Empty without labels.
    unknown_labels, unknown_label_count
        Labelled ids that the source does not hold: the first ones, and how many.
    agreement_at_10
        Share of the old collection's ten nearest that full re-embedding returns too.
    contrasts
        Queries that the encoders differ on most.
    """

    labelled: list[LabelledMetric]
    unknown_labels: list[PointId]
    unknown_label_count: int
    agreement_at_10: Estimate | None
    contrasts: list[QueryContrast]


class CurvePoint(_Facts):
    """recall@10 once this share of the corpus is re-embedded, and what that costs."""

    share: float
    recall_at_10: Estimate
    cost: Cost


class CurveLine(_Facts):
    """One order of re-embedding: ``uncertainty``, ``traffic`` or ``random``."""

    order: str
    points: list[CurvePoint]


class CostCurve(_Facts):
    """What re-embedding buys.

    Attributes
    ----------
    chosen
        The order that ``cheapest`` is told for.
    lines
        All orders, ``chosen`` among them.
    target_recall
        What was aimed at, if anything.
    cheapest
        The least share of ``chosen`` whose interval's lower end meets it; None if none does.
    """

    chosen: str
    lines: list[CurveLine]
    target_recall: float | None
    cheapest: CurvePoint | None


class ProbeLoss(_Facts):
    """One probe: its recall@10, and where it lies on the map (None where it has no text)."""

    id: PointId
    text: str | None
    recall_at_10: float
    x: float
    y: float


class WorstProbe(_Facts):
    """A probe with the texts that translation loses and puts in their place."""

    id: PointId
    text: str | None
    recall_at_10: float
    lost: list[DocumentText]
    gained: list[DocumentText]


class CalibrationDecile(_Facts):
    """Documents of one tenth by predictive variance: its mean, and their mean true cosine."""

    variance: float
    cosine: float


class Calibration(_Facts):
    """How far translated vectors are from true ones, on documents that were no anchors.

    Attributes
    ----------
    cosines
        Cosine of translated and true vector, of a uniform sample of documents.
    score_pairs
        (translated score, true score) of probe and candidate pairs, a sample.
    deciles
        Least uncertain first; empty if the translator tells no variance.
    """

    cosines: list[float]
    score_pairs: list[tuple[float, float]]
    deciles: list[CalibrationDecile]


class Outcome(StrEnum):
    """What gates decide; ``measured`` if none was given."""

    GO = "go"
    NO_GO = "no-go"
    TOO_SMALL = "too-small"
    MEASURED = "measured"


class Gate(_Facts):
    """One condition of go.

    Attributes
    ----------
    name
        The option, as ``min-recall@10``.
    threshold
        Its value.
    figure
        What it is compared with; for ``max-`` gates a loss.
    outcome
        ``go`` if the whole interval is on the right side, ``no-go`` if none of it is, else
        ``too-small``.
    more_probes
        About how many more would tell, for ``too-small``.
    """

    name: str
    threshold: float
    figure: Estimate
    outcome: Outcome
    more_probes: int | None = None


class Verdict(_Facts):
    """The decision, and the gates it follows from."""

    outcome: Outcome
    gates: list[Gate]


class RouteKind(StrEnum):
    """How the target comes to its vectors."""

    TRANSLATE = "translate"
    TWO_STAGE = "two-stage"
    """Translated, and each query's best candidates ranked by true vectors."""
    MIXED = "mixed"
    """A share re-embedded, the rest translated."""
    REEMBED = "re-embed"


class RouteName(StrEnum):
    """Which route is asked for."""

    AUTO = "auto"
    """The cheapest that meets the gates."""
    TRANSLATE = RouteKind.TRANSLATE
    TWO_STAGE = RouteKind.TWO_STAGE
    MIXED = RouteKind.MIXED
    REEMBED = RouteKind.REEMBED


class RouteMetric(_Facts):
    """A labelled metric of what a route serves; ``minus_old`` is None without the old encoder."""

    name: str
    value: Estimate
    minus_old: Estimate | None


class QueryWork(_Facts):
    """What two stages embed for a query on the first day: each text once, anchors' none.

    Attributes
    ----------
    texts, tokens
        Mean over the queries of a day; of the first query alone if their number was not given.
    seconds
        Of the new encoder's time, at the speed measured; None if none was.
    """

    texts: Estimate
    tokens: float
    seconds: float | None


class Route(_Facts):
    """A way to the new encoder, and what it takes.

    Attributes
    ----------
    candidates
        How many are ranked by their true vectors, of two stages.
    share, order
        Share of the corpus that is re-embedded, anchors included, and in which order; of a mixture.
    figures
        By name: recall@10 against full re-embedding, and what gates look at besides.
    labelled
        Empty without labels.
    cost
        What is still to be embedded until readers can be switched, and how long that takes,
        translating included; anchors and what the dry run bought are there.
    over_horizon
        The same and what queries have embedded over the horizon, at most; None for two stages if
        the number of queries was not given.
    query
        None if a query embeds nothing but itself.
    runnable
        False in reports of versions that could not run it.
    outcome, gates
        As of a verdict.
    """

    kind: RouteKind
    candidates: int | None = None
    share: float | None = None
    order: str | None = None
    figures: dict[str, Estimate]
    labelled: list[RouteMetric]
    cost: Cost
    over_horizon: Cost | None
    query: QueryWork | None = None
    runnable: bool = True
    outcome: Outcome
    gates: list[Gate]


class RouteComparison(_Facts):
    """All routes side by side, and which one the verdict is about.

    Attributes
    ----------
    horizon_days, queries_per_day
        What the costs of two stages are reckoned over; None if the number was not given.
    chosen
        Place in ``rows`` of the cheapest that may be taken; None if none meets the gates.
    trifling
        True if re-embedding everything is too cheap for anything else to be worth a thought.
    """

    asked: RouteName
    horizon_days: float
    queries_per_day: int | None
    rows: list[Route]
    chosen: int | None
    trifling: bool

    @property
    def choice(self) -> Route | None:
        """The chosen route."""
        return None if self.chosen is None else self.rows[self.chosen]


class TranslatorChoice(_Facts):
    """The map that was measured; ``file`` is beside the report.

    ``reads_texts`` is True if it reads the points' texts beside their vectors.
    """

    method: str
    anchors: int
    strategy: str
    candidates: list[tuple[str, float]]
    file: str
    reads_texts: bool = False


class EncoderCheck(_Facts):
    """The new encoder asked twice for the same texts: the lowest cosine of the two answers."""

    texts: int
    lowest_cosine: float


class DryRunReport(_Facts):
    """All facts of a dry run.

    Attributes
    ----------
    headline
        Sentences for a person, the most important first.
    verdict
        On the route asked for.
    routes
        None in reports of version 1.
    corpus_points
        (x, y) of a uniform sample of documents, on the same axes as the probes.
    """

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    vecmigrate_version: str
    created_at: str
    seconds: float
    seed: int
    source: CollectionDescription
    old_encoder: EncoderIdentity | None
    new_encoder: EncoderIdentity
    headline: list[str]
    verdict: Verdict
    routes: RouteComparison | None = None
    probes: ProbeSample
    recall: RecallFigures
    upgrade: Upgrade
    curve: CostCurve
    spending: Spending
    translator: TranslatorChoice
    encoder_check: EncoderCheck | None
    calibration: Calibration
    probe_losses: list[ProbeLoss]
    worst: list[WorstProbe]
    corpus_points: list[tuple[float, float]]
