"""What a move costs: recall and ranking metrics by exact search over a collection's batches."""

from vecmigrate.evaluation.compare import EvaluateOptions as EvaluateOptions
from vecmigrate.evaluation.compare import Evaluation as Evaluation
from vecmigrate.evaluation.compare import EvaluationRow as EvaluationRow
from vecmigrate.evaluation.compare import Metrics as Metrics
from vecmigrate.evaluation.compare import evaluate as evaluate
from vecmigrate.evaluation.metrics import Labels as Labels
from vecmigrate.evaluation.metrics import labelled_recall as labelled_recall
from vecmigrate.evaluation.metrics import ndcg as ndcg
from vecmigrate.evaluation.metrics import recall_against as recall_against
from vecmigrate.evaluation.metrics import reciprocal_rank as reciprocal_rank
from vecmigrate.evaluation.queries import Query as Query
from vecmigrate.evaluation.queries import read_log as read_log
from vecmigrate.evaluation.queries import read_queries as read_queries
from vecmigrate.evaluation.search import exact_search as exact_search
