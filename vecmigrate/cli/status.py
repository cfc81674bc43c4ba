"""``vecmigrate status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vecmigrate.cli.options import StateOption, TranslatedArgument
from vecmigrate.cli.output import Output, give_to_readers
from vecmigrate.state.scan import FoundBy

if TYPE_CHECKING:
    from vecmigrate.sync.status import Status

EXAMPLES = """
**Examples**

    vecmigrate status faiss:new.faiss
    vecmigrate status qdrant://localhost:6333/articles-live \\
        --source qdrant://localhost:6333/articles --json
"""

_BAR = 40


def run(
    out: Output,
    target: TranslatedArgument,
    source: Annotated[
        str | None, typer.Option(help="The old collection: tells what is pending, by ids.")
    ] = None,
    state: StateOption = None,
) -> None:
    """Show how much of a collection is translated, and whether it is in step."""
    from vecmigrate.state import state_path
    from vecmigrate.state.file import open_records
    from vecmigrate.sync.status import status_of

    where = state_path(state)
    with open_records(state) as records:
        found = status_of(target, where, records, source)
        _show(found, out)
        out.result({**found.model_dump(mode="json"), "native": found.is_native})


def _show(found: Status, out: Output) -> None:
    other = "written by others" if found.last_sync else "without a mark"
    shares = {
        "translated": found.translated,
        "new encoder's own": found.encoded,
        other: found.other,
    }
    out.say(_bar(found))
    facts: dict[str, str | None] = {"collection": found.target, "points": f"{found.count:,}"}
    for name, count in shares.items():
        facts[name] = f"{count:,} ({count / max(found.count, 1):.1%})"
    if found.without_vector:
        facts["without the vector"] = f"{found.without_vector:,}"
    if found.removed:
        lost = "lost the vector" if found.in_place else "deleted by others"
        facts[lost] = f"{found.removed:,}"
    facts["encoder"] = None if found.encoder is None else str(found.encoder)
    last = found.last_sync
    if found.as_of is not None:
        facts["published as of"] = found.as_of
    facts["last sync"] = "none"
    if last is not None:
        done = ", ".join(
            f"{last[name]:,} {name}" for name in ("arrived", "changed", "vanished", "reembedded")
        )
        facts["last sync"] = f"{last['finished_at']}: {done}"
        if "found_by" in last:
            facts["changes"] = FoundBy.model_validate(last["found_by"]).line()
    if found.pending is not None:
        facts["pending"] = (
            f"{found.pending.arrived:,} arrived, {found.pending.vanished:,} vanished, by ids"
        )
        if found.pending.left_out:
            facts["left out"] = (
                f"{found.pending.left_out:,}, without a text that the encoder takes or with a bad "
                "vector"
            )
    facts["verified"] = _verified(found)
    facts["readers"] = ", ".join(found.readers) or "none led here"
    out.facts(facts)
    out.say(_next(found))


def _next(found: Status) -> str:
    """Return the line that says what to do."""
    pending = found.pending is not None and (found.pending.arrived or found.pending.vanished)
    made_by = "--encoder NEW" if found.reembedded else "--translator FILE"
    if found.reembedded and found.pending is not None and found.pending.left_out:
        made_by += " --on-missing-text skip"
    again = f"SOURCE '{found.target}' {made_by}"
    if found.source_dropped:
        if found.in_place:
            return "Next: nothing; the old vector is gone, and writers give points the new one"
        return "Next: nothing; the old collection is gone: write to this one with the new encoder"
    if found.reembedded and found.is_native and not pending:
        return (
            f"Native: no vector is a translated one. Next, if it changes: vecmigrate sync {again}"
        )
    if found.last_sync is None or pending:
        return f"Next: vecmigrate sync {again}"
    checked = found.verified
    if found.in_place and checked and checked.passed and not checked.changed_since:
        return "Next: nothing; it is verified" if found.readers else give_to_readers(found.target)
    if found.in_place:
        return f"Next: vecmigrate verify {again}"
    if not found.has_vectors:
        return f"No point has a vector. Next, once some of SOURCE have: vecmigrate sync {again}"
    if found.is_native:
        return "Native: no translated vector is left. Next: write to it with the new encoder"
    return f"Next: vecmigrate sync {again} --encoder NEW --reembed-budget N"


def _bar(found: Status) -> str:
    total = max(found.count, 1)
    encoded = round(_BAR * found.encoded / total)
    other = round(_BAR * found.other / total)
    rest = max(_BAR - encoded - other, 0)
    return "█" * encoded + "▒" * other + "░" * rest + "  █ new encoder  ▒ other  ░ translated"


def _verified(found: Status) -> str:
    if found.verified is None:
        return "never"
    outcome = "passed" if found.verified.passed else "failed"
    since = ", changed since" if found.verified.changed_since else ""
    if found.source_dropped:
        since = ", before drop-source"
    return f"{outcome} at {found.verified.finished_at}{since}"
