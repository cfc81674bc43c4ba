"""``vecmigrate inspect``."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from pydantic import JsonValue

from vecmigrate.cli.options import SourceArgument
from vecmigrate.cli.output import Output
from vecmigrate.connector.registry import open_source
from vecmigrate.errors import UsageError
from vecmigrate.inspection import (
    Comparison,
    Inspection,
    ReconstructionError,
    compare_descriptions,
    inspect,
    reconstruction_error,
)

_COMPARED = 10_000

EXAMPLES = """
**Examples**

    vecmigrate inspect faiss:old.faiss
    vecmigrate inspect "faiss:old.faiss?sidecar=docs.jsonl&text=body"
    vecmigrate inspect faiss:ivfpq.faiss --originals faiss:flat.faiss
    vecmigrate inspect qdrant:./storage/articles --json
    vecmigrate inspect --diff faiss:old.faiss faiss:new.faiss
    vecmigrate inspect \\
        "qdrant+https://xyz.cloud.qdrant.io/articles?vector=title"
"""


def run(
    out: Output,
    source: SourceArgument,
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="With --diff, the collection to compare it with."),
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what two collections' settings differ in, and why.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Read only the first so many vectors.")
    ] = None,
    originals: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="Collection with the vectors as they were: measure what SOURCE's codes lost.",
        ),
    ] = None,
) -> None:
    """Show what a collection holds: index, ids, payload fields, text field, vector statistics.

    With --diff, compare it with TARGET instead: exit code 0, whether they differ or not.
    """
    if diff != (target is not None):
        raise UsageError(
            "--diff and a second collection belong together",
            remedy="Write vecmigrate inspect --diff SOURCE TARGET.",
        )
    if target is not None:
        show_differences(out, source, target)
    else:
        _show(out, source, limit, originals)


def _show(out: Output, source: str, limit: int | None, originals: str | None) -> None:
    with open_source(source) as opened:
        description = opened.describe()
        total = min(description.count, limit) if limit else description.count
        with out.progress("reading", total, bytes_each=4 * description.dimension) as advance:
            inspection = inspect(opened, limit=limit, progress=advance)
        error = None
        if originals is not None:
            with open_source(originals) as others:
                error = reconstruction_error(opened, others, size=_COMPARED)
        out.facts(_facts(inspection) | _error_facts(error))
        for note in description.notes:
            out.say(f"note: {note}")
        out.say(_next_step(inspection))
        measured = error and error.model_dump(mode="json")
        out.result(inspection.model_dump(mode="json") | {"reconstruction_error": measured})


def _facts(inspection: Inspection) -> dict[str, object]:
    c, v = inspection.collection, inspection.vectors
    norms = None
    if v.norm_mean is not None:
        norms = (
            f"mean {v.norm_mean:.4f}, std {v.norm_std:.4f}, "
            f"min {v.norm_min:.4f}, max {v.norm_max:.4f}"
        )
    return {
        "store": c.store,
        "index": c.index_type,
        "points": f"{c.count:,}",
        "dimension": f"{c.dimension}, several vectors a point" if c.multivector else c.dimension,
        "other vectors": ", ".join(c.other_vectors) or None,
        "metric": c.metric.value,
        "ids": c.id_kind.value,
        "payload fields": ", ".join(c.payload_fields) or "none",
        "text field": c.text_field or "none found",
        "made by": c.provenance.encoder if c.provenance else None,
        "vectors read": f"{v.read:,}",
        "norms": norms,
        "unit length": f"{v.unit_share:.1%}",
        "zero": f"{v.zero_share:.2%}",
        "NaN": f"{v.nan_share:.2%}",
        "duplicates": f"{v.duplicate_share:.2%}",
    }


def _error_facts(error: ReconstructionError | None) -> dict[str, object]:
    if error is None:
        return {}
    missing = f", {error.missing:,} not there" if error.missing else ""
    return {
        "compared with": f"{error.compared:,} vectors of {error.originals}{missing}",
        "error": f"mean {error.mean:.2%} of a vector's length, 95% within {error.p95:.2%}, "
        f"all within {error.maximum:.2%}",
        "cosine": f"mean {error.cosine_mean:.4f}",
    }


def _next_step(inspection: Inspection) -> str:
    uri = inspection.collection.uri
    if inspection.collection.multivector:
        return (
            f"Next: vecmigrate migrate '{uri}' TARGET --translator FILE, fitted on single vectors"
        )
    if inspection.collection.text_field is None:
        return "Next: name the field that holds the text, as ?text=FIELD, or a sidecar with it."
    return f"Next: vecmigrate anchors '{uri}' --encoder MODEL --size 2000 --out anchors.parquet"


def show_differences(out: Output, source: str, target: str) -> None:
    """Print what the two descriptions say differently; neither collection is read."""
    with open_source(source) as old, open_source(target) as new:
        found = compare_descriptions(old.describe(), new.describe())
    if found.differences:
        out.table(
            ["setting", "source", "target", "expected"],
            [
                [each.setting, _shown(each.source), _shown(each.target), each.expected or "NO"]
                for each in found.differences
            ],
            texts=(0, 1, 2, 3),
            folded=(0, 1, 2),
        )
    out.say(f"{found.alike:,} settings are alike")
    if not found.settings_compared:
        out.say("note: the stores differ, whose own settings have nothing in common")
    out.say(_next_step_of_comparison(found))
    out.result(found.model_dump(mode="json"))


def _shown(value: JsonValue) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _next_step_of_comparison(found: Comparison) -> str:
    if unexpected := found.unexpected():
        return (
            f"Next: see to the {len(unexpected):,} marked NO, which no translation makes; then "
            f"vecmigrate verify '{found.source}' '{found.target}' --translator FILE"
        )
    return (
        "Next: nothing differs but what a translation changes; the points are compared by "
        f"vecmigrate verify '{found.source}' '{found.target}' --translator FILE"
    )
