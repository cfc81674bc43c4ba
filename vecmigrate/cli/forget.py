"""``vecmigrate forget``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.cli.options import StateOption
from vecmigrate.cli.output import Output
from vecmigrate.forget.options import ForgetOptions, Receipt
from vecmigrate.points.ids import name_some
from vecmigrate.state import state_path

EXAMPLES = """
**Examples**

    vecmigrate forget 17 42
    vecmigrate forget --ids-file deleted.txt \\
        --target qdrant://localhost:6333/articles-minilm
    vecmigrate forget doc-17 --in dry-run --in anchors.parquet \\
        --still-at-source
    vecmigrate forget 17 42 --dry-run --json

A number is an id that is a number; '"17"' is the text 17. Interrupted, the same command completes
what was begun.
"""


def run(
    out: Output,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of the points.")
    ] = None,
    ids_file: Annotated[
        Path | None,
        typer.Option("--ids-file", help="File of ids, one a line, or one JSON array."),
    ] = None,
    *,
    options: ForgetOptions,
    state: StateOption = None,
) -> None:
    """Remove points from targets, ledgers, caches, anchors, dry runs, dead letters and logs."""
    from vecmigrate.cli.recording import recorded
    from vecmigrate.forget.ids import read_ids
    from vecmigrate.forget.run import forget

    points = read_ids(ids or (), ids_file)
    where = ", ".join(options.targets) or "all targets"
    with recorded(state, "forget", where, where, rehearsal=options.dry_run) as counts:
        receipt = forget(points, state_path(state), options)
        counts.update(receipt.counts())
    _show(receipt, out)
    out.result(receipt.model_dump(mode="json"))
    if options.dry_run:
        out.say("Nothing was changed. Next: the same command without --dry-run")
    elif receipt.left:
        out.say("Next: what is said of each place that was not reached; then the same command")
    else:
        out.say(f"Nothing is left of them. Next: keep this receipt ({receipt.finished_at})")


def _show(receipt: Receipt, out: Output) -> None:
    named = name_some(receipt.ids)
    out.say(f"{'To be forgotten' if receipt.dry_run else 'Forgotten'}: {named}")
    if receipt.removed:
        columns = ["what", "points", "place"]
        rows = [[each.what, f"{each.points:,}", each.place] for each in receipt.removed]
        out.table(columns, rows, texts=(0, 2), folded=(2,))
    if receipt.found_nowhere:
        numbers = any(isinstance(each, int) for each in receipt.found_nowhere)
        hint = """ (the text 17 is written '"17"')""" if numbers else ""
        out.say(f"In none of the places: {name_some(receipt.found_nowhere)}{hint}")
    if receipt.still_at_source:
        out.say(f"Still at the source: {name_some(receipt.still_at_source)}")
    out.say(f"Searched: {name_some((*receipt.targets, *receipt.searched))}")
    if receipt.left:
        out.say("Not reached:")
    for each in receipt.left:
        out.say(f"  {each.place}. {each.remedy}")
