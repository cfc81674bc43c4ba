"""``vecmigrate evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.cli.output import Output
from vecmigrate.connector.registry import open_source
from vecmigrate.encoders import encode_queries, open_encoder
from vecmigrate.encoders.options import ENCODER_HELP
from vecmigrate.errors import MismatchError, UsageError
from vecmigrate.evaluation import EvaluateOptions, Evaluation, Metrics, evaluate, read_queries
from vecmigrate.points.ids import name_some

EXAMPLES = """
**Examples**

    vecmigrate evaluate --source faiss:old.faiss \\
        --target faiss:new.faiss --queries queries.jsonl \\
        --source-encoder all-mpnet-base-v2 \\
        --target-encoder all-MiniLM-L6-v2
    vecmigrate evaluate --target qdrant:./storage/new \\
        --reference qdrant:./storage/re-embedded --queries queries.jsonl \\
        --target-encoder "vectors:queries.npy?name=my-model" --k 10 \\
        --k 100

A query file has one object a line: `{"id": 1, "text": "...", "relevant": [12, 80]}`; relevant may
also be `{"12": 3, "80": 1}` with gains, or absent.
"""


def run(
    out: Output,
    target: Annotated[str, typer.Option(help="The translated collection.")],
    queries: Annotated[
        Path, typer.Option(help="JSONL of queries, with relevance labels if known.")
    ],
    target_encoder: Annotated[str, typer.Option(help=f"New encoder: {ENCODER_HELP}")],
    options: EvaluateOptions,
    source: Annotated[str | None, typer.Option(help="The old collection.")] = None,
    source_encoder: Annotated[str | None, typer.Option(help="Old encoder, for the source.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="The corpus fully re-embedded; recall is against it.")
    ] = None,
) -> None:
    """Compare the old, the translated and the fully re-embedded collection by exact search."""
    if (source is None) != (source_encoder is None):
        raise UsageError(
            "--source and --source-encoder belong together", remedy="Give both, or neither."
        )
    asked = read_queries(queries)
    model = open_encoder(target_encoder)
    total = 0
    for uri in filter(None, (source, target, reference)):
        with open_source(uri) as opened:
            description = opened.describe()
        total += description.count
        recorded = description.provenance.encoder if description.provenance else None
        if uri == target and recorded and not recorded.same_as(model.identity):
            raise MismatchError(
                f"{target} is in the space of {recorded}, not of {model.identity}",
                remedy="Name that encoder with --target-encoder.",
            )
    with out.progress("searching", total) as advance:
        evaluation = evaluate(
            target=target,
            target_queries=encode_queries(model, asked),
            source=source,
            source_queries=encode_queries(open_encoder(source_encoder), asked)
            if source_encoder
            else None,
            reference=reference,
            labels=[query.relevant for query in asked],
            options=options,
            progress=advance,
        )
    _show(out, evaluation)
    out.result(evaluation.model_dump(mode="json"))


def _show(out: Output, evaluation: Evaluation) -> None:
    for cutoff in evaluation.rows[0].at:
        shown = [
            name
            for name in Metrics.model_fields
            if any(getattr(row.at[cutoff], name) is not None for row in evaluation.rows)
        ]
        heads = {
            "recall": f"recall@{cutoff}",
            "agreement": f"agreement@{cutoff}",
            "labelled_recall": f"labelled recall@{cutoff}",
            "mrr": f"MRR@{cutoff}",
            "ndcg": f"nDCG@{cutoff}",
        }
        rows = []
        for row in evaluation.rows:
            values = [getattr(row.at[cutoff], name) for name in shown]
            rows.append([row.role, *("-" if v is None else f"{v:.3f}" for v in values)])
        out.table(["collection", *(heads[name] for name in shown)], rows)
    out.say(f"{evaluation.queries:,} queries, {evaluation.labelled_queries:,} of them labelled")
    if evaluation.unknown_labels:
        names = name_some(evaluation.unknown_labels)
        out.say(f"{len(evaluation.unknown_labels):,} relevant ids are not in the target: {names}")
    roles = {row.role for row in evaluation.rows}
    if "source" in roles:
        out.say("agreement: the share of the source's own top results that a collection returns")
    if "reference" in roles:
        out.say("recall: the share of the reference's top results, which is the corpus re-embedded")
    else:
        out.say(
            "Next: recall against full re-embedding needs --reference; labels and the agreement "
            "with the source are all that can be told without."
        )
