"""``vecmigrate rollback``."""

from __future__ import annotations

from vecmigrate.cli.options import NameArgument, StateOption
from vecmigrate.cli.output import Output
from vecmigrate.cutover.options import RollbackOptions

EXAMPLES = """
**Examples**

    vecmigrate rollback qdrant://localhost:6333/articles
    vecmigrate rollback faiss:current.faiss --dry-run
"""


def run(
    out: Output, name: NameArgument, options: RollbackOptions, state: StateOption = None
) -> None:
    """Lead readers of a name back to what they had before the last cutover."""
    from vecmigrate.cli.cutover import show_move
    from vecmigrate.cli.recording import recorded
    from vecmigrate.cutover import roll_back
    from vecmigrate.state.file import open_records

    with (
        recorded(state, "rollback", name, name, rehearsal=options.dry_run),
        open_records(state) as records,
    ):
        move = roll_back(name, records, options)
        show_move(move, out)
        out.result(move.model_dump(mode="json"))
        if options.dry_run:
            out.say(f"Nothing was changed. Next: vecmigrate rollback '{name}'")
        else:
            out.say(f"Next: vecmigrate cutover '{name}' --to '{move.kept}', once it is mended")
