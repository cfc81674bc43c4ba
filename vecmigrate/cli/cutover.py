"""``vecmigrate cutover``."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from vecmigrate.cli.options import JsonFlag, NameArgument, QuietFlag, StateOption
from vecmigrate.cli.output import Output

EXAMPLES = """
**Examples**

    vecmigrate cutover qdrant://localhost:6333/articles --to qdrant://localhost:6333/articles-minilm
    vecmigrate cutover faiss:current.faiss --to faiss:new.faiss --dry-run
    vecmigrate cutover articles --to qdrant:./storage/articles-minilm --unverified
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("cutover", epilog=EXAMPLES)(run)


def run(
    name: NameArgument,
    to: Annotated[str, typer.Option("--to", help="The verified collection they are to get.")],
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Do without a passing `vecmigrate verify`.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what readers would get; change nothing.")
    ] = False,
    state: StateOption = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Lead readers of a name to a new collection in one step; the old one is kept."""
    from vecmigrate.cli.moving import show_move
    from vecmigrate.cli.recording import recorded
    from vecmigrate.cutover import cut_over
    from vecmigrate.state import state_path
    from vecmigrate.state.file import open_records

    with (
        Output(as_json=json_, quiet=quiet) as out,
        nullcontext() if dry_run else recorded(state_path(state), "cutover", name, to),
        open_records(state) as records,
    ):
        move = cut_over(name, to, records, unverified=unverified, dry_run=dry_run)
        show_move(move, out)
        out.result(move.model_dump(mode="json"))
        if dry_run:
            out.say(f"Nothing was changed. Next: vecmigrate cutover '{move.name}' --to '{to}'")
        elif not move.done:
            out.say(f"Nothing was changed. Next: back with: vecmigrate rollback '{move.name}'")
        elif move.kept is None:
            out.say(f"Next: let readers open {move.name}")
        else:
            out.say(
                f"{move.kept} is kept. Next: watch your readers; back with: vecmigrate rollback "
                f"'{move.name}'"
            )
