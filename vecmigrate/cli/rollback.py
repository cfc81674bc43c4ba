"""``vecmigrate rollback``."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from vecmigrate.cli.options import JsonFlag, NameArgument, QuietFlag, StateOption
from vecmigrate.cli.output import Output

EXAMPLES = """
**Examples**

    vecmigrate rollback qdrant://localhost:6333/articles
    vecmigrate rollback faiss:current.faiss --dry-run
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("rollback", epilog=EXAMPLES)(run)


def run(
    name: NameArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what readers would get; change nothing.")
    ] = False,
    state: StateOption = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Lead readers of a name back to what they had before the last cutover."""
    from vecmigrate.cli.cutover import show_move
    from vecmigrate.cli.recording import recorded
    from vecmigrate.cutover import roll_back
    from vecmigrate.state import state_path
    from vecmigrate.state.file import open_records

    with (
        Output(as_json=json_, quiet=quiet) as out,
        nullcontext() if dry_run else recorded(state_path(state), "rollback", name, name),
        open_records(state) as records,
    ):
        move = roll_back(name, records, dry_run=dry_run)
        show_move(move, out)
        out.result(move.model_dump(mode="json"))
        if dry_run:
            out.say(f"Nothing was changed. Next: vecmigrate rollback '{name}'")
        else:
            out.say(f"Next: vecmigrate cutover '{name}' --to '{move.kept}', once it is mended")
