"""``vecmigrate drop-source``."""

from __future__ import annotations

from typing import Annotated

import typer

from vecmigrate.cli.options import NameArgument, StateOption
from vecmigrate.cli.output import Output
from vecmigrate.cutover.options import DropOptions

EXAMPLES = """
**Examples**

    vecmigrate drop-source qdrant://localhost:6333/articles
    vecmigrate drop-source faiss:current.faiss --yes
    vecmigrate drop-source qdrant://localhost:6333/live \\
        qdrant://localhost:6333/articles --yes

If readers have a vector that was added in place, the old vector is removed, and nothing else.
"""


def run(
    out: Output,
    name: NameArgument,
    collection: Annotated[
        str | None,
        typer.Argument(
            metavar="COLLECTION", help="The old collection; default: what readers had before."
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Delete it. Without --yes, only list what would be deleted."),
    ] = False,
    *,
    options: DropOptions,
    state: StateOption = None,
) -> None:
    """Delete an old collection, or remove an old vector, once readers have a verified new one."""
    from vecmigrate.cli.recording import recorded
    from vecmigrate.cutover import drop_source, plan_drop
    from vecmigrate.state.file import open_records

    with (
        recorded(state, "drop-source", collection or name, name, rehearsal=not yes),
        open_records(state) as records,
    ):
        with out.progress("reading the old collection", None) as advance:
            plan = (drop_source if yes else plan_drop)(
                name, collection, records, options, progress=advance
            )
        verified = plan.verification.finished_at
        out.say(
            f"Readers of {name} have {plan.readers.collection} ({plan.readers.count:,} points), "
            f"verified at {verified}"
        )
        out.say(f"{'Deleted' if yes else 'Will be deleted permanently'}:")
        for thing in plan.belongings:
            out.say(f"  {thing}")
        out.result({**plan.model_dump(mode="json"), "deleted": yes})
        if yes:
            out.say("Next: nothing; the move is complete")
        else:
            out.say("Nothing was deleted. Next: the same command with --yes")
