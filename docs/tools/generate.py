"""Writes the generated pages of the docs, tables and schemas; a test holds the docs to them.

``make reference`` runs it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tools import command_line, faiss_tables, job_keys, qdrant_table, report_keys

REFERENCE = Path(__file__).parents[1] / "reference"


def _marked(page: Path, table: Callable[[], str]) -> str:
    """Return a page with a new table between its marks."""
    marks = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
    text, times = marks.subn(lambda _: table(), page.read_text(encoding="utf-8"))
    assert times == 1, f"{page} has {times} tables between marks"
    return text


def _schema(schema: Callable[[], dict[str, Any]]) -> str:
    return json.dumps(schema(), indent=1) + "\n"


def _with(name: str, table: Callable[[], str]) -> tuple[Path, Callable[[], str]]:
    return REFERENCE / name, partial(_marked, REFERENCE / name, table)


GENERATED: dict[Path, Callable[[], str]] = dict(
    [
        (REFERENCE / "command-line.md", command_line.page),
        _with("job.md", job_keys.table),
        _with("report.md", report_keys.tables),
        _with("faiss.md", faiss_tables.tables),
        _with("qdrant.md", qdrant_table.table),
        (REFERENCE / "job.schema.json", partial(_schema, job_keys.schema)),
        (REFERENCE / "report.schema.json", partial(_schema, report_keys.schema)),
    ]
)

if __name__ == "__main__":
    for path, text in GENERATED.items():
        path.write_text(text(), encoding="utf-8")
