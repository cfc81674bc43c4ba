"""What a move costs: recall and ranking metrics by exact search over a collection's batches."""

from vecmigrate.evaluation.compare import (
    EvaluateOptions,
    Evaluation,
    EvaluationRow,
    Metrics,
    evaluate,
)
from vecmigrate.evaluation.metrics import (
    Labels,
    labelled_recall,
    ndcg,
    recall_against,
    reciprocal_rank,
)
from vecmigrate.evaluation.queries import Query, read_log, read_queries
from vecmigrate.evaluation.search import exact_search

__all__ = [
    "EvaluateOptions",
    "Evaluation",
    "EvaluationRow",
    "Labels",
    "Metrics",
    "Query",
    "evaluate",
    "exact_search",
    "labelled_recall",
    "ndcg",
    "read_log",
    "read_queries",
    "recall_against",
    "reciprocal_rank",
]
