"""``vecmigrate cutover``."""

from __future__ import annotations

from typing import Annotated

import typer

from vecmigrate.cli.options import NameArgument, StateOption
from vecmigrate.cli.output import Output
from vecmigrate.cutover import Move, ReaderView
from vecmigrate.sync.options import InStepOptions

EXAMPLES = """
**Examples**

    vecmigrate cutover qdrant://localhost:6333/articles \\
        --to qdrant://localhost:6333/articles-minilm
    vecmigrate cutover qdrant://localhost:6333/articles \\
        --to qdrant://localhost:6333/articles-minilm \\
        --catch-up --translator translator.safetensors
    vecmigrate cutover faiss:current.faiss --to faiss:new.faiss \\
        --dry-run
    vecmigrate cutover articles --to qdrant:./storage/articles-minilm \\
        --unverified
"""


def run(
    out: Output,
    name: NameArgument,
    to: Annotated[str, typer.Option("--to", help="The verified collection they are to get.")],
    options: InStepOptions,
    state: StateOption = None,
) -> None:
    """Lead readers of a name to a new collection in one step; the old one is kept."""
    from vecmigrate.cli.recording import recorded, run_hooks
    from vecmigrate.jobs.steps.cutover import run_cutover, told_behind
    from vecmigrate.state import state_path
    from vecmigrate.state.file import open_records

    with (
        recorded(state, "cutover", name, to, rehearsal=options.dry_run),
        open_records(state) as records,
    ):
        hooks = run_hooks(out, state, rehearsal=options.dry_run)
        move = run_cutover(name, to, state_path(state), records, options, hooks)
        show_move(move, out)
        if move.caught_up is not None:
            out.say(told_behind(move.caught_up))
        out.result(move.model_dump(mode="json"))
        if options.dry_run:
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


def show_move(move: Move, out: Output) -> None:
    """Print a move, done or planned, for a person."""
    out.say(f"Readers of {move.name}:")
    rows = []
    for what, field in (
        ("collection", "collection"),
        ("points", "count"),
        ("vector (using=)", "vector"),
        ("dimension", "dimension"),
        ("metric", "metric"),
        ("index", "index_type"),
        ("encoder for queries", "encoder"),
    ):
        rows.append([what, _said(move.before, field), _said(move.after, field)])
    out.table(["", "before", "after"], rows)
    for note in move.notes:
        out.say(f"note: {note}")
    if move.before is None or move.before.encoder != move.after.encoder:
        encoder = move.after.encoder or "the encoder of that collection"
        when = "from now on" if move.done else "from the switch on"
        out.say(f"Readers must encode their queries with {encoder} {when}{_asking(move)}")
    for line in move.writers:
        out.say(f"Writers: {line}")


def _asking(move: Move) -> str:
    """Say by which name readers get the vector, if that is another one."""
    had = None if move.before is None else move.before.vector
    name = move.after.vector
    if name == had:
        return ""
    return f", and search {f'with using={name!r}' if name else 'without naming a vector'}"


def _said(view: ReaderView | None, field: str) -> str:
    if view is None:
        return "nothing"
    value = getattr(view, field)
    if isinstance(value, int):
        return f"{value:,}"
    if value is None and field == "vector":
        return "needs none" if view.count is not None else "not known"
    return "not recorded" if value is None else str(value)
