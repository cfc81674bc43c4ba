"""What a move costs: recall and ranking metrics by exact search over a collection's batches."""

from vecmigrate.evaluation.compare import Evaluation, EvaluationRow, Metrics, evaluate
from vecmigrate.evaluation.metrics import Labels
from vecmigrate.evaluation.queries import Query, read_queries

__all__ = [
    "Evaluation",
    "EvaluationRow",
    "Labels",
    "Metrics",
    "Query",
    "evaluate",
    "read_queries",
]
