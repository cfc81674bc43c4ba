"""The schema of a dry run's report, and the tables of its keys in docs/reference/report.md."""

from __future__ import annotations

import re
from typing import Any

from vecmigrate.report.schema import DryRunReport

_ATTRIBUTE = re.compile(r"^(\w[\w, ]*)\n((?:    .*\n?)+)", re.MULTILINE)


def schema() -> dict[str, Any]:
    return DryRunReport.model_json_schema()


def tables() -> str:
    """Return a section for the report and for each object in it: a row for each key."""
    facts = schema()
    objects = {name: each for name, each in facts["$defs"].items() if "properties" in each}
    parts = [_section("The report", facts)]
    parts += [_section(name, each) for name, each in sorted(objects.items())]
    return "\n".join(parts)


def _section(title: str, facts: dict[str, Any]) -> str:
    said, _, attributes = facts.get("description", "").partition("\n\nAttributes\n----------\n")
    meanings = {
        name: " ".join(text.split())
        for names, text in _ATTRIBUTE.findall(attributes)
        for name in names.split(", ")
    }
    lines = [f"## {title}", "", *([_plain(said), ""] if said else [])]
    lines += ["| key | type | what |", "|---|---|---|"]
    for key, field in facts["properties"].items():
        meaning = field.get("description") or meanings.get(key) or _kind_s(field)
        lines.append(f"| `{key}` | {_type(field)} | {_plain(meaning)} |")
    return "\n".join(lines) + "\n"


def _kind_s(field: dict[str, Any]) -> str:
    """Return the first sentence on a field's object, if the field is one or may be one."""
    for kind in (field, field.get("items", {}), *field.get("anyOf", ())):
        found = schema()["$defs"].get(kind.get("$ref", "").rpartition("/")[2], {})
        if "properties" in found and "description" in found:
            return str(found["description"]).partition("\n\n")[0]
    return ""


def _type(field: dict[str, Any]) -> str:
    if kinds := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(map(_type, kinds))
    if name := field.get("$ref", "").rpartition("/")[2]:
        found = schema()["$defs"][name]
        if "enum" in found:
            return ", ".join(f"`{each}`" for each in found["enum"])
        return f"[{name}](#{name.lower()})" if "properties" in found else "JSON"
    if field.get("type") == "array":
        inside = field.get("items") or {}
        return f"list of {_type(inside)}" if inside else "list"
    return str(field.get("type", "any"))


def _plain(text: str) -> str:
    """Return a docstring's text as Markdown: one line, without roles."""
    return re.sub(r":\w+:`([^`]*)`", r"`\1`", " ".join(text.split())).replace("``", "`")
