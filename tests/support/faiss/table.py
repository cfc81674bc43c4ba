"""The tables of docs/reference/faiss.md, from what is tested; writes them anew when run."""

from __future__ import annotations

import re
from pathlib import Path

import faiss
from vecmigrate_faiss.index.kinds import settings_of

from support.faiss.cases import CASES, FEATURES, REFUSED, Case
from vecmigrate.connector import Metric

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "faiss.md"
_TABLES = re.compile(r"(?<=<!-- tables -->\n).*(?=<!-- end of tables -->)", re.DOTALL)
_HEAD = "| of 32 dimensions | of 48 | kept | vectors read | points that stay in `sync` |"


def tables() -> str:
    lines = [_HEAD, "|---|---|---|---|---|", *map(_row, CASES), ""]
    lines += ["| beside the kind | kept |", "|---|---|"]
    lines += [f"| {title} | {said} |" for title, said in FEATURES.values()]
    lines += ["", "| refused by name | FAISS type |", "|---|---|"]
    lines += [f"| `{words}` | {name} |" for words, name in REFUSED.items()]
    return "\n".join(lines) + "\n"


def page_with_tables(text: str) -> str:
    return _TABLES.sub(lambda _: tables(), text)


def _row(case: Case) -> str:
    kind = settings_of(faiss.index_factory(32, case.old, case.metrics[0])).index
    reason = kind.refusal(Metric.DOT)
    kept = f"{case.kept}; {reason}" if reason else case.kept
    read = "exact" if case.exact else "lossy"
    stay = "the same to the bit" if case.syncs else "`sync` is refused"
    return f"| `{case.old}` | `{case.new}` | {kept} | {read} | {stay} |"


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text()))
