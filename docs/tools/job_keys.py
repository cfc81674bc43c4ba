"""The schema of a job's file, and the table of its keys in docs/reference/job.md."""

from __future__ import annotations

import json
from typing import Any

from vecmigrate.jobs import JobSpec


def schema() -> dict[str, Any]:
    return JobSpec.model_json_schema()


def table() -> str:
    """One row a key: its section, its default and what it says."""
    facts = schema()
    lines = ["| key | default | what |", "|---|---|---|"]
    for name, field in facts["properties"].items():
        section = _section(field)
        if section is None:
            lines.append(_row(name, field, facts["required"]))
            continue
        inner = facts["$defs"][section]
        lines += [
            _row(f"{name}.{key}", value, inner.get("required", []), key)
            for key, value in inner["properties"].items()
        ]
    return "\n".join(lines) + "\n"


def _section(field: dict[str, Any]) -> str | None:
    for kind in (field, *field.get("anyOf", ())):
        name = kind.get("$ref", "").rpartition("/")[2]
        if name.endswith("Section"):
            return str(name)
    return None


def _row(name: str, field: dict[str, Any], required: list[str], key: str | None = None) -> str:
    default = field.get("default")
    shown = "required" if (key or name) in required else ""
    if default not in (None, {}):
        shown = f"`{json.dumps(default)}`"
    choices = ", ".join(f"`{choice}`" for choice in _choices(field))
    said = field["description"] + (f" One of {choices}." if choices else "")
    return f"| `{name}` | {shown} | {said} |"


def _choices(field: dict[str, Any]) -> list[str]:
    for kind in (field, *field.get("anyOf", ()), field.get("propertyNames", {})):
        named = schema()["$defs"].get(kind.get("$ref", "").rpartition("/")[2], {})
        if found := kind.get("enum") or named.get("enum"):
            return list(found)
    return []
