"""The tables of docs/reference/faiss.md, from the cases that are tested."""

from __future__ import annotations

import faiss
from support.faiss.cases import CASES, FEATURES, REFUSED, Case
from vecmigrate_faiss.index.kinds import settings_of

from vecmigrate.connector import Metric

_HEAD = "| of 32 dimensions | of 48 | kept | vectors read | points that stay in `sync` |"


def tables() -> str:
    lines = [_HEAD, "|---|---|---|---|---|", *map(_row, CASES), ""]
    lines += ["| beside the kind | kept |", "|---|---|"]
    lines += [f"| {title} | {said} |" for title, said in FEATURES.values()]
    lines += ["", "| refused by name | FAISS type |", "|---|---|"]
    lines += [f"| `{words}` | {name} |" for words, name in REFUSED.items()]
    return "\n".join(lines) + "\n"


def _row(case: Case) -> str:
    kind = settings_of(faiss.index_factory(32, case.old, case.metrics[0])).index
    reason = kind.refusal(Metric.DOT)
    kept = f"{case.kept}; {reason}" if reason else case.kept
    read = "exact" if case.exact else "lossy"
    stay = "the same to the bit" if case.syncs else "`sync` is refused"
    return f"| `{case.old}` | `{case.new}` | {kept} | {read} | {stay} |"
