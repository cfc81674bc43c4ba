"""Every kind of FAISS index: read as FAISS reads it, made anew, changed in place, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from support.faiss.cases import (
    CASES,
    COUNT,
    NEW,
    OLD,
    REFUSED,
    Case,
    build,
    rows,
    search_parameters,
    sparse_ids,
)
from support.faiss.indexes import save

from vecmigrate import open_sink, open_source, open_updater
from vecmigrate.connector import (
    InputError,
    Metric,
    MismatchError,
    Provenance,
    TargetSpec,
    VectorBatch,
)
from vecmigrate.evaluation.search import distances
from vecmigrate.verification.vectors import allowed_of

NAMES = {faiss.METRIC_L2: "L2", faiss.METRIC_INNER_PRODUCT: "IP"}
EACH = [
    pytest.param(case, metric, id=f"{case.old}-{NAMES[metric]}")
    for case in CASES
    for metric in case.metrics
]
K = 10
MADE = Provenance(vecmigrate_version="0", source="faiss:none", created_at="2026-01-01")


def write(uri: str, spec: TargetSpec, batches: Any) -> None:
    with open_sink(uri, spec) as sink:
        for batch in batches:
            sink.write(batch)
        sink.finish()


def recall(uri: str, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> float:
    """Recall@10 of the index's own search against an exact one over what was put in."""
    queries = vectors[:100] + np.float32(0.05)
    with open_source(uri) as source:
        metric = source.describe().metric
        found = source.search(queries, K)
    assert found is not None
    given = vectors.copy()
    if metric is Metric.COSINE:
        faiss.normalize_L2(given)
    measure = faiss.METRIC_L2 if metric is Metric.EUCLID else faiss.METRIC_INNER_PRODUCT
    _, truth = faiss.knn(queries, given, K, metric=measure)
    hits = [len(set(ids[t].tolist()) & set(f.tolist())) for t, f in zip(truth, found, strict=True)]
    return float(np.mean(hits)) / K


@pytest.mark.parametrize(("case", "metric"), EACH)
def test_a_kind_is_read_and_made_anew(tmp_path: Path, case: Case, metric: int) -> None:
    """Streamed as FAISS reconstructs it; a copy at another dimension has its recipe and recall."""
    new = rows()
    old = np.ascontiguousarray(new[:, :OLD])
    index = build(case.old, old, metric)
    source_uri = save(index, tmp_path / "old.faiss")
    target_uri = f"faiss:{tmp_path / 'new.faiss'}"
    numbers = np.arange(COUNT)
    with open_source(source_uri) as source:
        described = source.describe()
        assert described.lossy is not case.exact
        cosine = case.old.startswith("L2norm") and metric == faiss.METRIC_INNER_PRODUCT
        assert (described.metric is Metric.COSINE) is cosine
        batches = list(source.batches(300))
        seen = np.concatenate([batch.ids for batch in batches])
        read = np.concatenate([batch.vectors for batch in batches])[np.argsort(seen)]
        np.testing.assert_array_equal(np.sort(seen), numbers)
        np.testing.assert_allclose(read, reconstructed(index, old), atol=2e-5)
        np.testing.assert_array_equal(source.fetch(numbers[::7]).vectors, read[::7])
        searched, nearest = source.search(old[:20], K), source.nearest(old[:20], K)
        assert searched is not None
        assert nearest is not None
        for ids, points in zip(searched, nearest, strict=True):
            np.testing.assert_array_equal(points.ids, ids)
            np.testing.assert_array_equal(points.vectors, source.fetch(ids).vectors)
        expected = source.as_stored(old)
        off = distances(old, read, cosine=False)
        assert (off <= distances(old, expected, cosine=False) + 1e-4).mean() > 0.99
        spec = TargetSpec.like(described, dimension=NEW)
        write(target_uri, spec, (b.with_vectors(new[b.ids]) for b in batches))
    with open_source(target_uri) as copy:
        assert copy.describe().index_type == case.new
        assert copy.describe().count == COUNT
        found = copy.fetch(numbers).vectors
        given = new.copy()
        if case.old.startswith("L2norm"):
            faiss.normalize_L2(given)
        if case.exact:
            np.testing.assert_allclose(found, given, atol=1e-4)
        off = distances(given, found, cosine=cosine)
        assert (off <= allowed_of(copy, given, cosine=cosine)).all()
    copied = faiss.read_index(str(tmp_path / "new.faiss"))
    assert search_parameters(copied) == search_parameters(index)
    assert copied.metric_type == index.metric_type
    assert recall(target_uri, numbers, new) > recall(source_uri, numbers, old) - 0.12


def reconstructed(index: Any, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What FAISS itself gives back, in the order of ids, by another way than the connector's."""
    words = [type(part).__name__ for part in [index, faiss.downcast_index(index)]]
    if any("IVFPQFastScan" in word for word in words):
        # FAISS cannot: the lists' codes are those of a plain IVF-PQ index with the same training.
        pq = index.pq
        lists = index.quantizer.search(vectors, 1)[1][:, 0]
        centroids = index.quantizer.reconstruct_batch(lists)
        base = centroids if index.by_residual else np.zeros_like(vectors)
        plain: NDArray[np.float32] = pq.decode(pq.compute_codes(vectors - base)) + base
        return plain
    if "IndexPreTransform" in words and "PCAW" not in _chain(index):
        inner = faiss.downcast_index(index.index)
        if hasattr(inner, "make_direct_map"):
            inner.make_direct_map()
    if "IndexPreTransform" in words and _chain(index) == "PCAW":
        # FAISS takes the map for a rotation.
        pca = faiss.downcast_VectorTransform(index.chain.at(0))
        matrix = faiss.vector_to_array(pca.A).reshape(pca.d_out, pca.d_in)
        shifted = faiss.downcast_index(index.index).reconstruct_n(0, COUNT)
        shifted = shifted - faiss.vector_to_array(pca.b)
        solved: NDArray[np.float32] = np.linalg.lstsq(matrix, shifted.T, rcond=None)[0].T
        return solved
    if hasattr(index, "make_direct_map"):
        index.make_direct_map()
    if hasattr(index, "refine_index"):
        index = faiss.downcast_index(index.refine_index)
    whole: NDArray[np.float32] = index.reconstruct_n(0, COUNT)
    return whole


def _chain(index: Any) -> str:
    first = faiss.downcast_VectorTransform(index.chain.at(0))
    return "PCAW" if isinstance(first, faiss.PCAMatrix) and first.eigen_power else "other"


@pytest.mark.parametrize("case", [case for case in CASES if case.syncs], ids=lambda c: c.old)
def test_points_that_stay_are_the_same_to_the_bit(tmp_path: Path, case: Case) -> None:
    """Sparse ids; changes, deletions and additions leave the others' codes alone."""
    vectors = np.ascontiguousarray(rows()[:, :OLD])
    ids = sparse_ids()
    words = case.old if _keeps_ids(case.old) else f"IDMap2,{case.old}"
    index = build(words, vectors, case.metrics[0], ids)
    source_uri, uri = save(index, tmp_path / "old.faiss"), f"faiss:{tmp_path / 'new.faiss'}"
    with open_source(source_uri) as source:
        spec = TargetSpec.like(source.describe(), provenance=MADE)
        assert source.describe().index_type.endswith(_reads_as(case))
        write(uri, spec, source.batches(512))
        given = source.fetch(ids).vectors
    with open_source(uri) as target:
        before = target.fetch(ids)
    if case.exact:
        np.testing.assert_allclose(before.vectors, given, atol=1e-4)
    changed, deleted, added = ids[5:400:9], ids[3:300:10], np.array([7, 2**40 + 1])
    other = np.ascontiguousarray(rows(seed=5)[: len(changed) + 2, :OLD])
    updater = open_updater(uri, MADE)
    with updater:
        updater.upsert(VectorBatch(np.concatenate([changed, added]), other, None))
        updater.delete(deleted)
        updater.finish()
    gone, moved = np.isin(ids, deleted), np.isin(ids, changed)
    with open_source(uri) as target:
        description = target.describe()
        assert description.count == COUNT - len(deleted) + 2
        assert description.index_type.endswith(_reads_as(case))
        same = ids[~gone & ~moved]
        np.testing.assert_array_equal(target.fetch(same).vectors, before.vectors[~gone & ~moved])
        now = np.concatenate([changed, added])
        now, keep = now[~np.isin(now, deleted)], ~np.isin(now, deleted)
        found = target.fetch(now).vectors
        given = other[keep]
        if case.old.startswith("L2norm"):
            faiss.normalize_L2(given)
        off = distances(given, found, cosine=False)
        assert (off <= allowed_of(target, given, cosine=False)).all()
        answers = target.search(given[:20], 1)
        assert answers is not None
        if case.exact and case.metrics[0] == faiss.METRIC_L2:
            assert np.mean([a[0] == i for a, i in zip(answers, now, strict=False)]) > 0.7


@pytest.mark.parametrize("case", [case for case in CASES if not case.syncs], ids=lambda c: c.old)
def test_a_kind_that_cannot_be_changed_without_loss_says_so(tmp_path: Path, case: Case) -> None:
    vectors = np.ascontiguousarray(rows()[:, :OLD])
    source_uri = save(build(case.old, vectors, case.metrics[0]), tmp_path / "old.faiss")
    uri = f"faiss:{tmp_path / 'new.faiss'}"
    with open_source(source_uri) as source:
        write(uri, TargetSpec.like(source.describe(), provenance=MADE), source.batches(99))
    with pytest.raises(MismatchError, match="vectors of others"):
        open_updater(uri, MADE)


@pytest.mark.parametrize("words", REFUSED)
def test_kinds_that_cannot_be_made_anew_are_refused_by_name(tmp_path: Path, words: str) -> None:
    index = build(words, np.ascontiguousarray(rows()[:, :OLD]), faiss.METRIC_L2)
    uri = save(index, tmp_path / "a.faiss")
    with pytest.raises(InputError, match=REFUSED[words]) as caught:
        open_source(uri)
    assert str(tmp_path / "a.faiss") in str(caught.value)


def _keeps_ids(words: str) -> bool:
    return "IVF" in words and "RFlat" not in words


def _reads_as(case: Case) -> str:
    """How a copy of the same dimension says what it is."""
    return case.old.replace("OPQ8,", "OPQ8_32,")
