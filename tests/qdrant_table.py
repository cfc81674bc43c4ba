"""The table of docs/qdrant-collections.md; ``python tests/qdrant_table.py`` writes it anew."""

from __future__ import annotations

import re
from pathlib import Path

from qdrant_cases import CASES, KEPT, OTHERS

PAGE = Path(__file__).parents[1] / "docs" / "qdrant-collections.md"
_TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of table -->)", re.DOTALL)


def table() -> str:
    """One row a feature: what becomes of it, where that is tested."""
    lines = ["| feature | | what arrives | tested |", "|---|---|---|---|"]
    for case in CASES:
        places = ", ".join({"rest": "REST", "grpc": "gRPC"}.get(p, p) for p in case.places)
        lines.append(f"| {case.feature} | {KEPT} | {case.says} | {places} |")
    lines += [f"| {row.feature} | {row.outcome} | {row.says} | `{row.test}` |" for row in OTHERS]
    return "\n".join(lines) + "\n"


def page_with_table(text: str) -> str:
    return _TABLE.sub(lambda _: table(), text)


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text()))
