"""``vecmigrate dry-run``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from vecmigrate.cli.options import SourceArgument, StateOption
from vecmigrate.cli.output import Output
from vecmigrate.dry_run.options import DryRunOptions
from vecmigrate.dry_run.sample import ANCHORS_FILE
from vecmigrate.encoders.options import ENCODER_HELP
from vecmigrate.report.formatting import (
    LEFT_ROUTE_COLUMNS,
    OUTCOME_NAMES,
    counted,
    estimate,
    paired,
    route_table,
    trimmed,
)
from vecmigrate.report.plots.quality import cheapest_finding
from vecmigrate.report.schema import DryRunReport, Gate, Outcome, Route, RouteComparison, RouteKind

EXAMPLES = """
**Examples**

    vecmigrate dry-run faiss:old.faiss --encoder all-MiniLM-L6-v2 \\
        --queries log.jsonl --out report
    vecmigrate dry-run qdrant://localhost:6333/articles \\
        --encoder openai:text-embedding-3-small \\
        --old-encoder all-mpnet-base-v2 --queries log.jsonl \\
        --labels clicks.jsonl --price-per-million-tokens 0.02 \\
        --target-recall 0.9 --out report
    # for CI and cron
    vecmigrate dry-run faiss:old.faiss --encoder all-MiniLM-L6-v2 \\
        --queries log.jsonl --min-recall@10 0.9 --budget "3000 texts" \\
        --json --out report
    # Is translation alone enough?
    vecmigrate dry-run faiss:old.faiss --encoder all-MiniLM-L6-v2 \\
        --min-recall@10 0.9 --route translate --out report

Exit codes: 0 go (or no gate given), 10 no-go, 11 the sample is too small to tell: of the route
asked for, by default of any. Anchors and embeddings stay in the folder: the
same command again pays for the 32 texts alone by which it checks the encoder.
"""


def run(
    out: Output,
    source: SourceArgument,
    encoder: Annotated[str, typer.Option(help=f"New encoder: {ENCODER_HELP}")],
    out_path: Annotated[
        Path, typer.Option("--out", help="Folder for report.html, report.json and what was bought.")
    ],
    options: DryRunOptions,
    old_encoder: Annotated[
        str | None, typer.Option(help="Old encoder: compares with the collection as it is now.")
    ] = None,
    query_encoder: Annotated[
        str | None,
        typer.Option(help="Encodes queries where --encoder is a file of documents' vectors."),
    ] = None,
    state: StateOption = None,
) -> None:
    """Measure what a move would cost over the whole corpus, before anything is written."""
    from vecmigrate.cli.recording import recorded
    from vecmigrate.dry_run import dry_run
    from vecmigrate.dry_run.verdict import EXIT_CODES
    from vecmigrate.report.file import save_report
    from vecmigrate.report.html import write_html
    from vecmigrate.state import state_path
    from vecmigrate.state.files import note_files

    with recorded(None, "dry-run", source, str(out_path), history=False):
        # What is bought is found again where these points are embedded, or forgotten.
        note_files(state_path(state), source, out_path)
        report = dry_run(
            source,
            encoder,
            out_path,
            old_encoder=old_encoder,
            query_encoder=query_encoder,
            options=options,
            stage=out.progress,
            announce=out.say,
        )
        save_report(report, out_path)
        page = write_html(report, out_path)
        show(report, out)
        given = options.anchors if isinstance(options.anchors, Path) else None
        out.say(_next_step(report, page, source, encoder, given or out_path / ANCHORS_FILE))
        out.result(report.model_dump(mode="json"))
        if code := EXIT_CODES[report.verdict.outcome]:
            raise typer.Exit(int(code))


def _next_step(report: DryRunReport, page: Path, source: str, encoder: str, anchors: Path) -> str:
    route = None if report.routes is None else report.routes.choice
    if route is not None:
        step = _command(route, report, page, source, encoder, anchors)
    elif report.verdict.outcome is Outcome.TOO_SMALL:
        step = "the same command with a larger --budget, and more --queries if all were used"
    else:
        step = "more anchors, or other gates; see the routes on the page"
    return f"The page is {page}. Next: {step}"


def _command(
    route: Route, report: DryRunReport, page: Path, source: str, encoder: str, anchors: Path
) -> str:
    """Return the command that goes this way; what was bought is not bought again."""
    step = f"vecmigrate migrate {quote(source)} TARGET"
    if route.kind is not RouteKind.REEMBED:
        step += f" --translator {quote(str(page.with_name(report.translator.file)))}"
    if route.kind is RouteKind.MIXED:
        share = f"{100 * (route.share or 0.0):g}%"
        step += f" --keep-anchors {quote(str(anchors))} --reembed {share} --order {route.order}"
    if route.kind is RouteKind.TWO_STAGE:
        step += (
            f"; then vecmigrate prewarm TARGET --encoder {quote(encoder)} --queries LOG "
            f"--candidates {route.candidates}, and search it by vecmigrate.open_searcher"
        )
    if route.kind in (RouteKind.MIXED, RouteKind.REEMBED):
        step += f" --encoder {quote(encoder)} --reuse {quote(str(page.parent))}"
    return step


def show(report: DryRunReport, out: Output) -> None:
    """Print routes, headline, verdict, recall, labelled metrics and the cheapest budget."""
    if report.routes is not None:
        _routes(report.routes, out)
    for sentence in report.headline:
        out.say(trimmed(sentence, 600))
    out.say(f"verdict: {OUTCOME_NAMES[report.verdict.outcome]}")
    _gates(report.verdict.gates, out)
    _recall(report, out)
    _labelled(report, out)
    out.say(cheapest_finding(report.curve))


def _routes(routes: RouteComparison, out: Output) -> None:
    columns, rows = route_table(routes)
    every = range(len(columns))
    parts = [list(every)]
    if not out.fits(columns, rows):
        # What each serves, and below, what each takes.
        serves = [at for at in every if columns[at] in LEFT_ROUTE_COLUMNS or "@" in columns[at]]
        parts = [serves, [0, *(at for at in every if at not in serves)]]
    for part in parts:
        named = [columns[at] for at in part]
        texts = [place for place, name in enumerate(named) if name in LEFT_ROUTE_COLUMNS]
        out.table(named, [[row[at] for at in part] for row in rows], texts=texts)


def _gates(gates: list[Gate], out: Output) -> None:
    if not gates:
        return
    rows = [
        [
            gate.name,
            OUTCOME_NAMES[gate.outcome],
            estimate(gate.figure),
            f"{gate.threshold:g}",
            "-" if gate.more_probes is None else counted(gate.more_probes, "probe"),
        ]
        for gate in gates
    ]
    out.table(["gate", "outcome", "measured", "threshold", "would tell: about, more"], rows)


def _recall(report: DryRunReport, out: Output) -> None:
    recall = report.recall
    rows = [[name, estimate(figure)] for name, figure in recall.rows]
    out.table(["translated against re-embedded", "estimate and 95 % interval"], rows)
    out.say(
        f"{recall.in_sample_at_10:.3f} is recall@10 within the anchors: "
        "what others would have reported"
    )


def _labelled(report: DryRunReport, out: Output) -> None:
    metrics = report.upgrade.labelled
    if not metrics:
        out.say("No labels were given, so it cannot be told which encoder is better here.")
        return
    out.table(
        ["labelled metric", "old", "translated", "re-embedded"],
        [[m.name, *map(estimate, (m.old, m.translated, m.reembedded))] for m in metrics],
    )
    differences = [
        [m.name, *map(paired, (m.reembedded_minus_old, m.translated_minus_reembedded))]
        for m in metrics
    ]
    out.table(["paired difference", "re-embedded - old", "translated - re-embedded"], differences)
