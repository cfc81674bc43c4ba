"""The comparison as rows of text, for a page and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from vecmigrate.report.comparison import ComparedReport
from vecmigrate.report.formatting import (
    ABSENT,
    OUTCOME_NAMES,
    count,
    estimate,
    moment,
    money,
    paired,
    trimmed,
)

CUTOFFS = (1, 10, 100)

ALL = [
    *("no.", "new encoder", "method", "anchors"),
    *(f"recall@{k}" for k in CUTOFFS),
    *("nDCG@10", "labelled nDCG@10, translated - old", "verdict"),
    *("texts embedded", "money", "date", "source"),
]
WHAT = ["no.", "source", "new encoder", "method", "anchors", "date", "verdict"]
RECALL = ["no.", *(f"recall@{k}" for k in CUTOFFS)]
OTHERS = ["no.", "nDCG@10", "labelled nDCG@10, translated - old", "texts embedded", "money"]


def all_rows(reports: Sequence[ComparedReport]) -> list[list[str]]:
    """A row of :data:`ALL` for each: figures before what is the same for all as a rule."""
    tables = (
        (WHAT, what_rows(reports, longest=60)),
        (RECALL, recall_rows(reports)),
        (OTHERS, other_rows(reports)),
    )
    rows = []
    for position in range(len(reports)):
        cells: dict[str, str] = {}
        for columns, of_table in tables:
            cells.update(zip(columns, of_table[position], strict=True))
        rows.append([cells[column] for column in ALL])
    return rows


def what_rows(reports: Sequence[ComparedReport], *, longest: int) -> list[list[str]]:
    """A row of :data:`WHAT` for each; names are cut to ``longest`` characters."""
    return [
        [
            str(number),
            trimmed(report.source, longest),
            trimmed(report.new_encoder, longest),
            trimmed(report.method, longest),
            count(report.anchors),
            moment(report.created_at),
            OUTCOME_NAMES[report.verdict],
        ]
        for number, report in enumerate(reports, start=1)
    ]


def recall_rows(reports: Sequence[ComparedReport]) -> list[list[str]]:
    """A row of :data:`RECALL` for each, with intervals."""
    return [
        [str(number), *(estimate(report.recall.get(k)) for k in CUTOFFS)]
        for number, report in enumerate(reports, start=1)
    ]


def other_rows(reports: Sequence[ComparedReport]) -> list[list[str]]:
    """A row of :data:`OTHERS` for each."""
    return [
        [
            str(number),
            estimate(report.ndcg_at_10),
            paired(report.labelled_ndcg_change),
            count(report.texts_embedded),
            money(report.money) if report.money is not None else ABSENT,
        ]
        for number, report in enumerate(reports, start=1)
    ]
