"""``vecmigrate dry-run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vecmigrate.anchors import Strategy
from vecmigrate.cli.options import JsonFlag, QuietFlag, SeedOption, SourceArgument
from vecmigrate.cli.output import Output
from vecmigrate.encoders.options import ENCODER_HELP
from vecmigrate.errors import UsageError
from vecmigrate.evaluation import read_queries
from vecmigrate.evaluation.queries import read_labels
from vecmigrate.points.screening import OnBadVector
from vecmigrate.report.schema import DryRunReport, Outcome
from vecmigrate.translators.fit import Method

EXAMPLES = """
**Examples**

    vecmigrate dry-run faiss:old.faiss --encoder all-MiniLM-L6-v2 --queries log.jsonl --out report
    vecmigrate dry-run qdrant://localhost:6333/articles --encoder openai:text-embedding-3-small \\
        --old-encoder all-mpnet-base-v2 --queries log.jsonl --labels clicks.jsonl \\
        --price-per-million-tokens 0.02 --target-recall 0.9 --out report
    vecmigrate dry-run faiss:old.faiss --encoder all-MiniLM-L6-v2 --queries log.jsonl \\
        --min-recall@10 0.9 --budget "3000 texts" --json --out report   # for CI and cron

Exit codes: 0 go (or no gate given), 10 no-go, 11 the sample is too small to tell. The same command
again pays for nothing twice: anchors and embeddings stay in the folder.
"""


def _gate(name: str, help_: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        f"--{name}", min=0, max=1, show_default=False, help=help_, rich_help_panel="Gates"
    )
    return option


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("dry-run", epilog=EXAMPLES)(run)


def run(
    source: SourceArgument,
    encoder: Annotated[str, typer.Option(help=f"New encoder: {ENCODER_HELP}")],
    out_path: Annotated[
        Path, typer.Option("--out", help="Folder for report.html, report.json and what was bought.")
    ],
    old_encoder: Annotated[
        str | None, typer.Option(help="Old encoder: compares with the collection as it is now.")
    ] = None,
    query_encoder: Annotated[
        str | None,
        typer.Option(help="Encodes queries where --encoder is a file of documents' vectors."),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="JSONL query log; without one, held-out documents are the queries."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Relevant documents by query: JSONL, or TREC's qrels."),
    ] = None,
    anchors: Annotated[
        str | None,
        typer.Option(
            metavar="N|FILE", help="How many to draw (4000), or a file that `anchors` wrote."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="N [texts|tokens]",
            help="Bound on all that is re-embedded; the anchors and 4,500 texts if not given.",
        ),
    ] = None,
    method: Annotated[
        Method, typer.Option(help="auto chooses by recall on held-out anchors.")
    ] = Method.AUTO,
    texts: Annotated[
        bool,
        typer.Option(
            "--texts/--vectors-only",
            help="Translate by the points' texts too, where the new encoder's token table is here.",
        ),
    ] = True,
    strategy: Annotated[
        Literal["kmeans", "uniform"], typer.Option(help="How anchors are chosen.")
    ] = "kmeans",
    price_per_million_tokens: Annotated[
        float | None, typer.Option(min=0, help="Puts money to re-embedding, in any currency.")
    ] = None,
    target_recall: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Names the cheapest re-embedding with this recall@10."),
    ] = None,
    order: Annotated[
        Literal["best", "uncertainty", "traffic", "random"],
        typer.Option(help="In which order more of the corpus would be re-embedded."),
    ] = "best",
    min_recall_1: Annotated[
        float | None, _gate("min-recall@1", "recall@1 against full re-embedding, at least.")
    ] = None,
    min_recall_5: Annotated[float | None, _gate("min-recall@5", "Likewise.")] = None,
    min_recall_10: Annotated[float | None, _gate("min-recall@10", "Likewise.")] = None,
    min_recall_50: Annotated[float | None, _gate("min-recall@50", "Likewise.")] = None,
    min_recall_100: Annotated[float | None, _gate("min-recall@100", "Likewise.")] = None,
    min_ndcg_10: Annotated[
        float | None, _gate("min-ndcg@10", "nDCG@10 against full re-embedding, at least.")
    ] = None,
    max_loss_recall_10: Annotated[
        float | None,
        _gate("max-loss-recall@10", "Labelled recall@10 lost against the old collection, at most."),
    ] = None,
    max_loss_mrr_10: Annotated[float | None, _gate("max-loss-mrr@10", "Likewise, MRR@10.")] = None,
    max_loss_ndcg_10: Annotated[
        float | None, _gate("max-loss-ndcg@10", "Likewise, nDCG@10.")
    ] = None,
    seed: SeedOption = 0,
    on_bad_vector: Annotated[
        OnBadVector, typer.Option(help="NaN, infinite or zero vectors: refuse, or leave out.")
    ] = OnBadVector.FAIL,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Measure what a move would cost over the whole corpus, before anything is written."""
    from vecmigrate.cli.dry_run_summary import show
    from vecmigrate.dry_run import Budget, Settings, dry_run
    from vecmigrate.dry_run.verdict import EXIT_CODES
    from vecmigrate.report.file import save_report
    from vecmigrate.report.html import write_html

    gates = {
        "min-recall@1": min_recall_1,
        "min-recall@5": min_recall_5,
        "min-recall@10": min_recall_10,
        "min-recall@50": min_recall_50,
        "min-recall@100": min_recall_100,
        "min-ndcg@10": min_ndcg_10,
        "max-loss-recall@10": max_loss_recall_10,
        "max-loss-mrr@10": max_loss_mrr_10,
        "max-loss-ndcg@10": max_loss_ndcg_10,
    }
    with Output(as_json=json_, quiet=quiet) as out:
        if labels is not None and queries is None:
            raise UsageError("--labels needs --queries", remedy="Give the queries they label.")
        report = dry_run(
            source,
            encoder,
            out_path,
            old_encoder=old_encoder,
            query_encoder=query_encoder,
            queries=None if queries is None else read_queries(queries),
            labels=None if labels is None else read_labels(labels),
            settings=Settings(
                anchors=_anchors(anchors),
                strategy=Strategy(strategy),
                method=method,
                budget=None if budget is None else Budget.parse(budget),
                thresholds={name: value for name, value in gates.items() if value is not None},
                target_recall=target_recall,
                order=None if order == "best" else order,
                price=price_per_million_tokens,
                read_texts=texts,
                seed=seed,
                on_bad_vector=on_bad_vector,
            ),
            stage=out.progress,
            announce=out.say,
        )
        save_report(report, out_path)
        page = write_html(report, out_path)
        show(report, out)
        out.say(_next_step(report, page, source))
        out.result(report.model_dump(mode="json"))
        code = EXIT_CODES[report.verdict.outcome]
        if code:
            raise typer.Exit(int(code))


def _anchors(given: str | None) -> int | Path | None:
    if given is None:
        return None
    if not given.isdecimal():
        return Path(given)
    if int(given) < 2:
        raise UsageError("--anchors takes at least 2", remedy="Ask for some thousands.")
    return int(given)


def _next_step(report: DryRunReport, page: Path, source: str) -> str:
    if report.verdict.outcome in (Outcome.GO, Outcome.MEASURED):
        translator = page.with_name(report.translator.file)
        step = f"vecmigrate migrate {source} TARGET --translator {translator}"
    elif report.verdict.outcome is Outcome.TOO_SMALL:
        step = "the same command with a larger --budget, and more --queries if all were used"
    else:
        step = "more anchors, or re-embed by the cost curve; see the page"
    return f"The page is {page}. Next: {step}"
