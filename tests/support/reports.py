"""Reports of dry runs as tests need them: of everything, of the least, of hostile texts."""

from __future__ import annotations

import numpy as np

from vecmigrate.connector import CollectionDescription, EncoderIdentity, IdKind, Metric
from vecmigrate.report.schema import (
    Calibration,
    CalibrationDecile,
    Cost,
    CostCurve,
    CurveLine,
    CurvePoint,
    DocumentText,
    DryRunReport,
    EncoderCheck,
    Estimate,
    Gate,
    LabelledMetric,
    Outcome,
    PairedDifference,
    ProbeKind,
    ProbeLoss,
    ProbeSample,
    QueryContrast,
    QueryWork,
    RecallFigures,
    Route,
    RouteComparison,
    RouteKind,
    RouteMetric,
    RouteName,
    Spending,
    TranslatorChoice,
    Upgrade,
    Verdict,
    WorstProbe,
)

DOCUMENTS = 30_000
TOKENS_A_TEXT = 11.4
WORDS = (
    "a small boat that carries one person across shallow water the act of measuring light "
    "someone who repairs clocks in a narrow street any of several plants of the nettle family"
)
HOSTILE = [
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(2)>",
    '" onmouseover="alert(3)" x="',
    "{{ 7 * 7 }} {% for %} ${x} $\\frac{1}{2}$ [red]bold[/red]",
    "Donaudampfschifffahrtsgesellschaft" * 12,
    "مرحبا بالعالم \u202e evil \u202d و שלום",
    "emoji 🧭👩‍🔬🏳️‍🌈 日本語のとても長い文章です",
    "nul\x00 bell\x07 escape\x1b[31m line\nbreak\ttab",
    "&lt;already&gt; &amp; escaped ]]> --> <!--",
]


def estimate(value: float, half: float = 0.025) -> Estimate:
    return Estimate(value=value, low=max(0.0, value - half), high=min(1.0, value + half))


def difference(value: float, half: float, p: float) -> PairedDifference:
    return PairedDifference(
        difference=Estimate(value=value, low=value - half, high=value + half), p_value=p
    )


def cost(texts: int, *, priced: bool) -> Cost:
    # What has no price here has ready-made vectors too, so that no speed is known.
    tokens = round(texts * TOKENS_A_TEXT)
    return Cost(
        texts=texts,
        tokens=tokens,
        hours=texts / 42 / 3600 if priced else None,
        money=tokens * 0.13e-6 if priced else None,
    )


def line(order: str, power: float, *, priced: bool) -> CurveLine:
    points = []
    for share in (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        value = 0.507 + 0.493 * share**power
        points.append(
            CurvePoint(
                share=share,
                recall_at_10=estimate(value, 0.024 * (1 - share)),
                cost=cost(round(share * DOCUMENTS), priced=priced),
            )
        )
    return CurveLine(order=order, points=points)


def sentence(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(WORDS.split(), words))


def documents(rng: np.random.Generator, number: int) -> list[DocumentText]:
    return [
        DocumentText(id=int(rng.integers(DOCUMENTS)), text=sentence(rng, int(rng.integers(5, 22))))
        for _ in range(number)
    ]


def routes() -> RouteComparison:
    """Every kind of route; a mixture is the cheapest that meets the gate of :func:`full_report`."""
    found = []
    for kind, recall, texts, more in (
        (RouteKind.TRANSLATE, 0.507, 0, {}),
        (RouteKind.TWO_STAGE, 0.87, 0, {"candidates": 50, "over_horizon": cost(9000, priced=True)}),
        (RouteKind.MIXED, 0.838, 16_000, {"share": 0.6, "order": "uncertainty"}),
        (RouteKind.REEMBED, 1.0, 21_280, {}),
    ):
        serves = estimate(recall)
        query = QueryWork(texts=estimate(33.0, 2.5), tokens=376.2, seconds=0.79)
        facts = {"over_horizon": cost(texts, priced=True), **more}
        outcome = Outcome.NO_GO if recall < 0.8 else Outcome.GO
        found.append(
            Route(
                kind=kind,
                figures={"recall@10": serves},
                labelled=[RouteMetric(name="nDCG@10", value=serves, minus_old=None)],
                cost=cost(texts, priced=True),
                query=query if kind is RouteKind.TWO_STAGE else None,
                runnable=kind is not RouteKind.TWO_STAGE,
                outcome=outcome,
                gates=[Gate(name="min-recall@10", threshold=0.8, figure=serves, outcome=outcome)],
                **facts,
            )
        )
    return RouteComparison(
        asked=RouteName.AUTO, horizon_days=30, queries_per_day=200, rows=found, chosen=2,
        trifling=False,
    )  # fmt: skip


def full_report(*, seed: int = 0, source: str = "faiss:/data/wordnet/old.faiss") -> DryRunReport:
    """Labels, old encoder, variance, price: everything there can be."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 4, (6, 2))
    corpus = centres[rng.integers(6, size=3000)] + rng.normal(0, 1, (3000, 2))
    of = rng.integers(6, size=420)
    places = centres[of] + rng.normal(0, 1, (420, 2))
    hard = np.array([0.75, 0.62, 0.55, 0.5, 0.4, 0.22])[of]
    recalls = rng.binomial(10, hard) / 10
    true = rng.normal(0.35, 0.16, 900).clip(-0.1, 0.95)
    translated = 0.9 * true + 0.02 + rng.normal(0, 0.05, 900)
    lines = [
        line(order, power, priced=True)
        for order, power in (("uncertainty", 0.78), ("traffic", 0.85), ("random", 1.0))
    ]
    return DryRunReport(
        vecmigrate_version="0.1.0",
        created_at="2026-11-25T01:20:11+00:00",
        seconds=412.6,
        seed=seed,
        source=description(source),
        old_encoder=EncoderIdentity(name="all-MiniLM-L6-v2", dimension=384, normalized=True),
        new_encoder=EncoderIdentity(
            name="all-mpnet-base-v2",
            revision="e8c3b32edf5434bc2275fc9bab85f82640a19130",
            dimension=768,
            normalized=True,
        ),
        headline=[
            "Translated without re-embedding, the collection returns half of what a full "
            "re-embedding would: recall@10 0.507 [0.482, 0.532].",
            "Re-embedding the 60 % that the translator is least sure of reaches 0.838.",
            "By labels the new encoder is no better here than the old one (nDCG@10 +0.009, "
            "p = 0.241), so there is no loss in waiting.",
        ],
        verdict=Verdict(
            outcome=Outcome.NO_GO,
            gates=[
                Gate(name="min-recall@10", threshold=0.8, figure=estimate(0.507),
                     outcome=Outcome.NO_GO),
                Gate(name="max-loss-ndcg@10", threshold=0.05, figure=estimate(0.061, 0.02),
                     outcome=Outcome.TOO_SMALL, more_probes=640),
            ],
        ),
        routes=routes(),
        probes=ProbeSample(
            kind=ProbeKind.QUERY_LOG, available=5210, used=420, labelled=400, without_text=3,
            duplicates=118, anchors_excluded=7,
        ),
        recall=RecallFigures(
            at={k: estimate(v) for k, v in
                ((1, 0.552), (5, 0.521), (10, 0.507), (50, 0.538), (100, 0.561))},
            ndcg_at_10=estimate(0.566),
            in_sample_at_10=0.871,
            documents_at_10=estimate(0.582, 0.02),
            documents_easier_by=Estimate(value=0.075, low=0.044, high=0.107),
        ),
        upgrade=Upgrade(
            labelled=[
                LabelledMetric(
                    name=name, old=estimate(old), reembedded=estimate(new),
                    translated=estimate(moved),
                    reembedded_minus_old=difference(new - old, 0.015, 0.241),
                    translated_minus_old=difference(moved - old, 0.018, 0.0004),
                    translated_minus_reembedded=difference(moved - new, 0.017, 0.0),
                )
                for name, old, new, moved in (
                    ("recall@10", 0.69, 0.695, 0.605), ("MRR@10", 0.459, 0.471, 0.399),
                    ("nDCG@10", 0.515, 0.524, 0.449),
                )
            ],
            unknown_labels=["missing-1", 90210],
            unknown_label_count=2,
            agreement_at_10=estimate(0.435),
            contrasts=[
                QueryContrast(id=f"q{i}", text=sentence(rng, 7), agreement=i / 10,
                              old=(shared := documents(rng, 5)),
                              new=shared[:i] + documents(rng, 5 - i))
                for i in range(5)
            ],
        ),
        curve=CostCurve(
            chosen="uncertainty", lines=lines, target_recall=0.8, cheapest=lines[0].points[7]
        ),
        spending=Spending(
            anchors=2000, queries=420, documents=6300, reused=2000, budget_texts=10_000,
            budget_tokens=None, spent=cost(8720, priced=True),
            everything=cost(DOCUMENTS, priced=True), texts_per_second=42.0, tokens_counted=True,
            price_per_million_tokens=0.13,
        ),
        translator=TranslatorChoice(
            method="kernel-ridge", anchors=2000, strategy="k-means",
            candidates=[("kernel-ridge", 0.871), ("ridge", 0.842), ("procrustes", 0.77)],
            file="translator.safetensors",
        ),
        encoder_check=EncoderCheck(texts=32, lowest_cosine=0.999998),
        calibration=Calibration(
            cosines=(1 - rng.gamma(4, 0.05, 600)).clip(-1, 1).tolist(),
            score_pairs=list(zip(translated.tolist(), true.tolist(), strict=True)),
            deciles=[
                CalibrationDecile(variance=0.08 + 0.03 * i, cosine=0.88 - 0.021 * i)
                for i in range(10)
            ],
        ),
        probe_losses=[
            ProbeLoss(id=i, text=sentence(rng, 6), recall_at_10=float(r), x=float(x), y=float(y))
            for i, (r, (x, y)) in enumerate(zip(recalls, places, strict=True))
        ],
        worst=[
            WorstProbe(id=i, text=sentence(rng, 7), recall_at_10=(i // 8) / 10,
                       lost=documents(rng, 10 - i // 8), gained=documents(rng, 10 - i // 8))
            for i in range(20)
        ],
        corpus_points=[(float(x), float(y)) for x, y in corpus],
    )  # fmt: skip


def description(uri: str) -> CollectionDescription:
    return CollectionDescription(
        uri=uri, store="faiss", index_type="HNSW(m=32)", count=DOCUMENTS, dimension=384,
        metric=Metric.COSINE, id_kind=IdKind.INTEGER, payload_fields=("text",), text_field="text",
    )  # fmt: skip


def minimal_report() -> DryRunReport:
    """No labels, old encoder, variance, price, gate, or probe that can be drawn."""
    full = full_report()
    return full.model_copy(
        update={
            "old_encoder": None,
            "headline": ["recall@10 is 0.507 [0.482, 0.532]."],
            "verdict": Verdict(outcome=Outcome.MEASURED, gates=[]),
            "routes": None,
            "probes": ProbeSample(
                kind=ProbeKind.DOCUMENTS, available=DOCUMENTS, used=420, labelled=0,
                without_text=0, duplicates=0, anchors_excluded=0,
            ),
            "recall": RecallFigures(
                at={1: estimate(0.552), 10: estimate(0.507)}, ndcg_at_10=estimate(0.566),
                in_sample_at_10=0.871,
            ),
            "upgrade": Upgrade(
                labelled=[], unknown_labels=[], unknown_label_count=0, agreement_at_10=None,
                contrasts=[],
            ),
            "curve": CostCurve(
                chosen="random", lines=[line("random", 1.0, priced=False)], target_recall=None,
                cheapest=None,
            ),
            "spending": full.spending.model_copy(
                update={
                    "spent": cost(8720, priced=False),
                    "everything": cost(DOCUMENTS, priced=False),
                    "budget_texts": None,
                    "texts_per_second": None,
                    "tokens_counted": False,
                    "price_per_million_tokens": None,
                }
            ),
            "translator": full.translator.model_copy(update={"candidates": []}),
            "encoder_check": None,
            "calibration": Calibration(cosines=[], score_pairs=[], deciles=[]),
            "probe_losses": [],
            "worst": [],
            "corpus_points": [],
        }
    )  # fmt: skip


def hostile_report() -> DryRunReport:
    """Every text that a user's data can bring is one of :data:`HOSTILE`."""
    full = full_report(seed=1, source=f"faiss:/data/{HOSTILE[0]}/{HOSTILE[4]}.faiss")
    texts = [DocumentText(id=f"{i}-{text}", text=text) for i, text in enumerate(HOSTILE)]
    texts.append(DocumentText(id=7, text=None))
    return full.model_copy(
        update={
            "new_encoder": EncoderIdentity(name=HOSTILE[0] + HOSTILE[4], dimension=768),
            "old_encoder": EncoderIdentity(name=HOSTILE[2], dimension=384, prompt=HOSTILE[1]),
            "headline": HOSTILE[:5],
            "upgrade": full.upgrade.model_copy(
                update={
                    "unknown_labels": HOSTILE,
                    "unknown_label_count": len(HOSTILE),
                    "labelled": [
                        full.upgrade.labelled[0].model_copy(update={"name": HOSTILE[0]})
                    ],
                    "contrasts": [
                        QueryContrast(id=text, text=text, agreement=0.1, old=texts, new=texts[::-1])
                        for text in HOSTILE
                    ],
                }
            ),
            "translator": TranslatorChoice(
                method="ridge", anchors=10, strategy=HOSTILE[3],
                candidates=[(text, 0.5) for text in HOSTILE], file=HOSTILE[4],
            ),
            "worst": [
                WorstProbe(id=text, text=None if i == 0 else text, recall_at_10=0.0, lost=texts,
                           gained=texts)
                for i, text in enumerate(HOSTILE)
            ],
        }
    )  # fmt: skip
