"""Fits a translator by name of method, and tells what its held-out anchors show."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from vecmigrate.evaluation.metrics import recall_against
from vecmigrate.evaluation.search import exact_search
from vecmigrate.points.batch import IdArray, VectorBatch, Vectors
from vecmigrate.points.collection import Metric
from vecmigrate.runtime.options import OnLine, Options, Seed
from vecmigrate.runtime.threads import blas_threads, map_in_parallel, one_thread_a_product
from vecmigrate.translators.base import Translator, check_anchors, registered
from vecmigrate.translators.file import Direction
from vecmigrate.translators.folds import Folds
from vecmigrate.translators.mixing import mixing_scale
from vecmigrate.translators.procrustes import FewAnchorsWarning, Procrustes
from vecmigrate.translators.token_features import TokenFeatures, TokenTable

QUERY_LANDMARKS = 512
"""Bounds what a query costs when queries are translated one by one while a user waits."""


AUTO = "auto"


def _known(method: str) -> str:
    if method not in methods():
        names = ", ".join(map(repr, methods()))
        raise PydanticCustomError("method", "Input should be {names}", {"names": names})
    return method


def methods() -> list[str]:
    """Return what can be asked for: the registered methods' names, and ``AUTO``."""
    return [AUTO, *registered()]


Method: TypeAlias = Annotated[
    str,
    AfterValidator(_known),
    OnLine(choices=methods),
    Field(
        description="auto chooses by recall on held-out anchors.",
        json_schema_extra=lambda schema: schema.update(enum=list(methods())),
    ),
]


class FitOptions(Options):
    """Options of :func:`fit_translator`."""

    method: Method = AUTO
    seed: Seed = 0
    direction: Direction = Field(
        default=Direction.DOCUMENT,
        description="query maps new queries into the old collection instead: a bridge.",
    )
    metric: Metric | None = Field(
        default=None,
        description="How the collection compares vectors; default: as --anchors says, else cosine.",
    )

    @property
    def landmarks(self) -> int | None:
        """The bound on landmarks, see :class:`KernelRidge`."""
        return QUERY_LANDMARKS if self.direction is Direction.QUERY else None

    def fits(self, *, with_texts: bool) -> int:
        """Return how many maps are fitted, of which progress is told."""
        return len(candidates(int(with_texts))) if self.method == AUTO else 1


def fit_translator(
    X: Vectors,
    Y: Vectors,
    options: FitOptions | None = None,
    *,
    texts: AnchorTexts | None = None,
    progress: Callable[[int], None] | None = None,
    **given: Any,
) -> tuple[Translator, list[CandidateScore]]:
    """Fit on ``(n, d_source)`` and ``(n, d_target)`` anchors; the table is empty but for auto.

    For :attr:`Direction.QUERY`, kernel ridge has at most ``QUERY_LANDMARKS`` landmarks. With
    ``texts``, methods that can read the texts of points do so too, see :class:`TokenFeatures`.

    Parameters
    ----------
    options, given
        :class:`FitOptions`, or fields of it by name.
    progress
        Called with 1 for each candidate that ``auto`` compared.

    Raises
    ------
    UsageError
        If the method reads no texts and some are given.
    InputError
        As :meth:`Translator.fit`.
    """
    asked = FitOptions.given(options, given)
    features = None if texts is None else TokenFeatures.fit(texts.table, texts.texts)
    text_dim = 0
    if features is not None and texts is not None:
        X = np.concatenate([X, features.transform(texts.texts)], axis=1, dtype=np.float32)
        text_dim = features.dimension
    if asked.method == AUTO:
        translator, table = choose_translator(X, Y, asked, text_dim=text_dim, progress=progress)
    else:
        plain = registered()[asked.method].for_texts(text_dim)
        translator, table = plain.arranged(asked.seed, asked.landmarks).fit(X, Y), []
    if translator.text_dim_:
        translator.text_features_ = features
    return translator, table


@dataclass(frozen=True, slots=True)
class AnchorTexts:
    """Texts of the anchors, row by row, and the first layer of an encoder to read them with."""

    texts: Sequence[str | None]
    table: TokenTable


def held_out(translator: Translator, X: Vectors, Y: Vectors, seed: int) -> Vectors:
    """Return the ``(n, d_target)`` anchors as maps like ``translator`` without them translate.

    ``X`` is what the translator's ``inputs`` returns for them.
    """
    if translator.held_out_ is not None:
        return translator.held_out_
    fold = np.random.default_rng(seed).permutation(len(X)) % FOLDS
    folds = Folds(X, Y, fold, translator.text_dim)
    return folds.as_given(translator.cross_predict(folds))


def fair_scale(
    translator: Translator, X: Vectors, Y: Vectors, population: int, seed: int
) -> float | None:
    """Return the :func:`mixing_scale`; None for vectors of free length."""
    if not translator.normalize_output_:
        return None
    return mixing_scale(held_out(translator, X, Y, seed), Y, population, seed)


FOLDS = 5
CUTOFF = 10
MAX_QUERIES = 2000

FEW_ANCHORS = 50
"""Below, no comparison tells anything, and Procrustes, which has the least to learn, is taken."""

COMPARED_ANCHORS = 4000
"""Candidates are compared on at most so many anchors, which bounds the minutes that it takes."""

COMPARED_AT_ONCE = 4
"""A candidate takes some 150 MB at that many anchors."""


def candidates(text_dim: int) -> dict[str, Translator]:
    """Return what is compared if the last ``text_dim`` columns are features of texts.

    The simplest methods stand first.
    """
    return {
        name: candidate
        for method in registered().values()
        for name, candidate in method.candidates(text_dim).items()
    }


class CandidateScore(BaseModel):
    """A candidate and its recall@10 on held-out anchors: a ranking aid, not a forecast."""

    name: str
    held_out_recall: float


def choose_translator(
    X: Vectors,
    Y: Vectors,
    options: FitOptions | None = None,
    *,
    text_dim: int = 0,
    progress: Callable[[int], None] | None = None,
) -> tuple[Translator, list[CandidateScore]]:
    """Fit the candidate with the best cross-validated retrieval recall on all anchors.

    The table that it was chosen from comes with it, the best first.

    Each anchor is translated by a map fitted without its fold. Anchors' true target vectors then
    serve as queries: a candidate's score is the share of a query's true ``CUTOFF`` nearest anchors
    found among the translated ones. All anchors are each other's distractors, yet far fewer than a
    corpus holds, so scores rank candidates and overstate recall.

    Parameters
    ----------
    X, Y
        ``(n, source_dim)`` and ``(n, target_dim)`` float32 anchors.
    options
        The seed is that of the folds, and of the queries drawn from over ``MAX_QUERIES`` anchors.
    text_dim
        Columns of X, the last ones, that are features of texts.
    progress
        Called with 1 for each candidate compared.

    Raises
    ------
    InputError
        As :meth:`Translator.fit`.
    """
    X, Y = (np.ascontiguousarray(a, dtype=np.float32) for a in check_anchors(X, Y))
    if len(X) < FEW_ANCHORS:
        return Procrustes().fit(_columns(X, Procrustes(), text_dim), Y), []
    asked = options or FitOptions()
    metric = asked.metric or Metric.COSINE
    rng = np.random.default_rng(asked.seed)
    compared = np.sort(rng.permutation(len(X))[:COMPARED_ANCHORS])
    x, y = X[compared], Y[compared]
    folds = Folds(x, y, rng.permutation(len(x)) % FOLDS, text_dim)
    queries = rng.permutation(len(x))[:MAX_QUERIES]
    truth = _nearest_others(y, y, queries, metric)
    compared_with = candidates(text_dim)

    def compare(candidate: Translator) -> float:
        held_out = folds.as_given(candidate.cross_predict(folds))
        found = _nearest_others(y, held_out, queries, metric)
        return float(recall_against(found, truth, CUTOFF).mean())

    table = []
    # Their decompositions gain little from several threads each, which would wait by spinning.
    workers = min(blas_threads(), COMPARED_AT_ONCE)
    with (
        warnings.catch_warnings(action="ignore", category=FewAnchorsWarning),
        one_thread_a_product(),
    ):
        recalls = map_in_parallel(compare, compared_with.values(), workers, name="compare")
        for name, recall in zip(compared_with, recalls, strict=True):
            table.append(CandidateScore(name=name, held_out_recall=recall))
            if progress is not None:
                progress(1)
    # A stable sort: of equals, the candidate listed first, which is the simpler one, wins.
    table.sort(key=lambda score: -score.held_out_recall)
    best = compared_with[table[0].name].arranged(asked.seed, asked.landmarks)
    return best.fit(_columns(X, best, text_dim), Y), table


def _columns(X: Vectors, candidate: Translator, text_dim: int) -> Vectors:
    """The columns that a candidate takes: without the features of texts, unless it reads them."""
    if not text_dim or candidate.text_dim:
        return X
    return np.ascontiguousarray(X[:, :-text_dim])


def _nearest_others(
    queries: Vectors, points: Vectors, rows: NDArray[np.intp], metric: Metric
) -> IdArray:
    """Rows of the ``CUTOFF`` points nearest to each query row, itself left out."""
    batch = VectorBatch(np.arange(len(points)), points)
    found = exact_search([batch], np.ascontiguousarray(queries[rows]), CUTOFF + 1, metric)
    others = found != rows[:, None]
    # Where a point is not among its own nearest, the last of them is one too many.
    others[others.all(axis=1), -1] = False
    nearest: IdArray = found[others].reshape(len(rows), -1)
    return nearest
