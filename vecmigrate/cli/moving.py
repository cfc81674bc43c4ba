"""Shows what readers of a collection get, before and after."""

from __future__ import annotations

from vecmigrate.cli.output import Output
from vecmigrate.cutover import Move, ReaderView


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
