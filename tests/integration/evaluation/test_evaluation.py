"""Evaluation: the same comparison by brute force; queries files; what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.corpus import NEW_DIM, OLD_DIM, Corpus, unit
from support.qdrant.edge_places import STORES, copied

from vecmigrate import Procrustes, evaluate, migrate, open_sink
from vecmigrate.connector import Metric, TargetSpec, VectorBatch
from vecmigrate.errors import InputError, MismatchError, UsageError
from vecmigrate.evaluation import read_queries


def top(queries: np.ndarray, points: np.ndarray, k: int) -> list[set[int]]:
    return [set(row) for row in np.argsort(-queries @ points.T, axis=1)[:, :k].tolist()]


def overlap(found: list[set[int]], truth: list[set[int]]) -> float:
    return float(np.mean([len(f & t) / len(t) for f, t in zip(found, truth, strict=True)]))


@pytest.mark.parametrize("store", ["qdrant", *STORES])
def test_recall_and_agreement_are_those_of_brute_force(corpus: Corpus, store: str) -> None:
    folder = corpus.folder
    target = f"faiss:{folder}/new.faiss" if store == "faiss" else f"qdrant:{folder}/q/new"
    if store in STORES[1:]:
        source, target = copied(corpus.source, store, folder), f"qdrant-edge:{folder}/new"
    else:
        source = corpus.source
    reference = f"faiss:{folder}/reference.faiss"
    translator = Procrustes().fit(corpus.old[:60], corpus.new[:60])
    migrate(source, target, translator)
    with open_sink(reference, TargetSpec(dimension=NEW_DIM, metric=Metric.DOT)) as sink:
        sink.write(VectorBatch(np.arange(len(corpus.new)), corpus.new))
        sink.finish()
    rng = np.random.default_rng(1)
    rows = rng.permutation(len(corpus.old))[:50]
    old_queries = unit(corpus.old[rows] + 0.1 * rng.standard_normal((50, OLD_DIM)))
    new_queries = unit(corpus.new[rows] + 0.1 * rng.standard_normal((50, NEW_DIM)))
    labels = [{int(row): 1.0} for row in rows[:40]] + [{}] * 10

    result = evaluate(
        source=source,
        source_queries=old_queries,
        target=target,
        target_queries=new_queries,
        reference=reference,
        labels=labels,
        k=[1, 10],
    )
    found = {
        "source": (old_queries, corpus.old),
        "target": (new_queries, translator.transform(corpus.old)),
        "reference": (new_queries, corpus.new),
    }
    for k in (1, 10):
        tops = {role: top(q, points, k) for role, (q, points) in found.items()}
        for role in found:
            metrics = result.row(role).at[k]
            if role != "reference":
                assert metrics.recall == pytest.approx(overlap(tops[role], tops["reference"]))
            if role != "source":
                assert metrics.agreement == pytest.approx(overlap(tops[role], tops["source"]))
            hits = [rows[i] in tops[role][i] for i in range(40)]
            assert metrics.labelled_recall == pytest.approx(np.mean(hits))
    assert (result.queries, result.labelled_queries) == (50, 40)
    assert result.row("reference").at[10].recall is None
    assert 0.5 < (result.row("target").at[10].recall or 0) < 1


def test_relevant_ids_that_are_not_there_are_listed(corpus: Corpus) -> None:
    result = evaluate(
        target=corpus.source, target_queries=corpus.old[:2], labels=[{0: 1.0, 999: 1.0}, {}]
    )
    assert result.unknown_labels == [999]
    assert result.row("target").at[10].labelled_recall == 0.5


def test_queries_of_another_dimension_are_refused(corpus: Corpus) -> None:
    with pytest.raises(MismatchError, match="holds 16 dimensions"):
        evaluate(target=corpus.source, target_queries=corpus.new)


def test_a_source_needs_its_own_queries(corpus: Corpus) -> None:
    with pytest.raises(UsageError, match="its own queries"):
        evaluate(source=corpus.source, target=corpus.source, target_queries=corpus.old)


@pytest.mark.parametrize("labels", [[{}], [{}] * 3])
def test_labels_must_be_as_many_as_queries(corpus: Corpus, labels: list[dict[int, float]]) -> None:
    with pytest.raises(InputError, match="labels beside 2 queries"):
        evaluate(target=corpus.source, target_queries=corpus.old[:2], labels=labels)


def test_no_queries_are_refused(corpus: Corpus) -> None:
    with pytest.raises(InputError, match="0 queries"):
        evaluate(target=corpus.source, target_queries=corpus.old[:0])


def test_query_files_hold_lists_or_gains(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(
        '{"id": 1, "text": "a", "relevant": [3, "x"]}\n'
        '{"id": "two", "text": "b", "relevant": {"3": 2, "y": 0.5}, "other": 1}\n\n'
        '{"id": 3}\n'
    )
    one, two, three = read_queries(path)
    assert (one.id, one.relevant) == (1, {3: 1.0, "x": 1.0})
    assert (two.id, two.relevant) == ("two", {3: 2.0, "y": 0.5})
    assert (three.text, three.relevant) == (None, {})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "holds no queries"),
        ('{"id": 1}\nnot json\n', "line 2 is not a query"),
        ('{"text": "x"}\n', "line 1 is not a query"),
        ("[1]\n", "line 1 is not a query"),
        ('{"id": 1}\n{"id": 1}\n', "query id 1 twice"),
        ('{"id": 1, "relevant": {"a": "many"}}', "line 1 is not a query"),
    ],
)
def test_malformed_query_files_are_one_error(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=says):
        read_queries(path)


def test_a_missing_query_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_queries(tmp_path / "none.jsonl")
