"""``vecmigrate inspect --diff``: two collections side by side."""

from __future__ import annotations

import json

from pydantic import JsonValue

from vecmigrate.cli.output import Output
from vecmigrate.connector.registry import open_source
from vecmigrate.inspection import Comparison, compare_descriptions


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
            folded=2,
        )
    out.say(f"{found.alike:,} settings are alike")
    if not found.settings_compared:
        out.say("note: the stores differ, whose own settings have nothing in common")
    out.say(_next_step(found))
    out.result(found.model_dump(mode="json"))


def _shown(value: JsonValue) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _next_step(found: Comparison) -> str:
    if unexpected := found.unexpected():
        return (
            f"Next: see to the {len(unexpected):,} marked NO, which no translation makes; then "
            f"vecmigrate verify '{found.source}' '{found.target}' --translator FILE"
        )
    return (
        "Next: nothing differs but what a translation changes; the points are compared by "
        f"vecmigrate verify '{found.source}' '{found.target}' --translator FILE"
    )
