"""``vecmigrate rollback``."""

from __future__ import annotations

from pathlib import Path
from sqlite3 import Connection
from typing import Annotated

import typer

from vecmigrate.cli.options import NameArgument, StateOption
from vecmigrate.cli.output import Output
from vecmigrate.cutover.options import RollbackOptions
from vecmigrate.errors import UsageError

EXAMPLES = """
**Examples**

    vecmigrate rollback qdrant://localhost:6333/articles
    vecmigrate rollback faiss:current.faiss --dry-run

What applications wrote to the new collection since the cutover is read and counted first: bring it
back before by `vecmigrate sync --back`. With --yes nothing is counted, and readers go back at once.
"""


def run(
    out: Output,
    name: NameArgument,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Go back whatever was written since the cutover, uncounted."),
    ] = False,
    *,
    options: RollbackOptions,
    state: StateOption = None,
) -> None:
    """Lead readers of a name back to what they had before the last cutover."""
    from vecmigrate.cli.cutover import show_move
    from vecmigrate.cli.recording import recorded
    from vecmigrate.cutover import roll_back
    from vecmigrate.state import state_path
    from vecmigrate.state.file import open_records

    with (
        recorded(state, "rollback", name, name, rehearsal=options.dry_run),
        open_records(state) as records,
    ):
        if not yes:
            _accept_loss(name, state_path(state), records, out, ask=not options.dry_run)
        move = roll_back(name, records, options)
        show_move(move, out)
        out.result(move.model_dump(mode="json"))
        if options.dry_run:
            out.say(f"Nothing was changed. Next: vecmigrate rollback '{name}'")
        else:
            out.say(f"Next: vecmigrate cutover '{name}' --to '{move.kept}', once it is mended")


def _accept_loss(name: str, state: Path, records: Connection, out: Output, *, ask: bool) -> None:
    """Say what readers would lose, and ask whether to go on.

    Raises
    ------
    UsageError
        If they would lose something and nobody says that they may.
    """
    from vecmigrate.sync.back import count_lost

    with out.progress("counting what changed since the cutover", None) as advance:
        lost = count_lost(name, state, records, progress=advance)
    if lost is None:
        out.say("note: it is not known what changed at the new collection since the cutover")
        return
    if not lost:
        return
    said = f"{lost:,} points changed at the new collection since the cutover, and readers would "
    said += "lose that"
    if not ask:
        out.say(f"note: {said}")
        return
    if out.confirm(f"{said}. Go back?"):
        return
    raise UsageError(
        said,
        remedy="First bring them back by vecmigrate sync --back NEW OLD, or go back without them "
        "by --yes.",
    )
