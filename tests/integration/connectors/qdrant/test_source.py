"""Reading Qdrant collections: order, cursors, ids, vectors, descriptions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import models
from support.qdrant.places import DIMENSION, PLACES, Place, open_place, params, points, vectors

from vecmigrate import open_source
from vecmigrate.connector import (
    IdKind,
    InputError,
    Metric,
    MissingIdsError,
    PointId,
    Source,
    UsageError,
    VectorBatch,
)

UUIDS: list[PointId] = [str(uuid.UUID(int=n * 7919, version=4)) for n in range(1, 9)]
MIXED: list[PointId] = [4, 2**63 + 5, 0, *UUIDS[:4], 17, 2**53, *UUIDS[4:]]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


def read(source: Source, size: int, cursor: str | None = None) -> list[VectorBatch]:
    return list(source.batches(size, cursor=cursor))


def ids_of(batches: list[VectorBatch]) -> list[PointId]:
    return [i for batch in batches for i in batch.ids.tolist()]


def test_mixed_ids_come_in_qdrants_order_with_their_points(place: Place) -> None:
    name, written = place.name(), points(MIXED)
    place.write(name, written)
    rows = {i: row for row, i in enumerate(MIXED)}
    with open_source(place.uri(name)) as source:
        batches = read(source, 3)
        assert source.describe().id_kind is IdKind.MIXED
        assert [i for ids in source.ids(4) for i in ids.tolist()] == ids_of(batches)
    integers = sorted(i for i in MIXED if isinstance(i, int))
    assert ids_of(batches) == integers + sorted(UUIDS)
    for batch in batches:
        order = [rows[i] for i in batch.ids.tolist()]
        np.testing.assert_array_equal(batch.vectors, written.vectors[order])
        assert batch.payloads == [written.payloads[row] for row in order]  # type: ignore[index]


def test_a_cursor_resumes_exactly_whatever_the_batch_sizes(place: Place) -> None:
    name = place.name()
    place.write(name, points(MIXED))
    with open_source(place.uri(name)) as source:
        everything = ids_of(read(source, 100))
        for size in (1, 4, 13):
            done = 0
            for batch in read(source, size):
                done += len(batch)
                assert ids_of(read(source, 3, batch.cursor)) == everything[done:]


def test_what_is_no_cursor_is_refused(place: Place) -> None:
    name = place.name()
    place.write(name, points([1, 2]))
    with open_source(place.uri(name)) as source:
        for cursor in ("", "7.5", "true", "-1", '"no uuid"', "[1]", "{}"):
            with pytest.raises(UsageError, match="no cursor"):
                read(source, 2, cursor)


def test_an_empty_collection_has_no_batches(place: Place) -> None:
    name = place.name()
    description = place.write(name)
    assert (description.count, description.id_kind) == (0, IdKind.UNKNOWN)
    with open_source(place.uri(name)) as source:
        assert read(source, 5) == []
        assert list(source.ids(5)) == []


def test_fetch_finds_uuids_in_any_spelling_and_repeats_what_is_asked_twice(place: Place) -> None:
    name, written = place.name(), points(MIXED)
    place.write(name, written)
    first, second = str(UUIDS[0]), str(UUIDS[1])
    asked: list[PointId] = [
        second.upper(),
        17,
        first.replace("-", ""),
        f"urn:uuid:{second}",
        f"{{{first}}}",
    ]
    with open_source(place.uri(name)) as source:
        found = source.fetch(asked)
        assert found.cursor is None
        assert found.ids.tolist() == [second, 17, first, second, first]
        rows = [MIXED.index(i) for i in found.ids.tolist()]
        np.testing.assert_array_equal(found.vectors, written.vectors[rows])
        assert source.fetch(np.array([17, 0])).ids.tolist() == [17, 0]
        assert source.fetch([]).vectors.shape == (0, DIMENSION)


def test_fetch_names_at_most_ten_missing_ids_as_they_were_asked_for(place: Place) -> None:
    name = place.name()
    place.write(name, points([1, 2]))
    # Longer than any number in the collection's own name.
    first = 10**15
    absent: list[PointId] = ["no id at all", -3, 2**64, UUIDS[0], *range(first, first + 10)]
    with open_source(place.uri(name)) as source, pytest.raises(MissingIdsError) as raised:
        source.fetch([1, *absent, 2])
    assert ", ".join(map(str, absent[:10])) in str(raised.value)
    assert str(absent[10]) not in str(raised.value)


def test_a_source_can_be_read_from_another_thread(place: Place) -> None:
    from concurrent.futures import ThreadPoolExecutor

    name = place.name()
    place.write(name, points([1, 2, 3]))
    with open_source(place.uri(name)) as source, ThreadPoolExecutor(1) as pool:
        assert ids_of(pool.submit(read, source, 2).result()) == [1, 2, 3]


def test_the_only_dense_vector_is_taken_and_the_others_are_named(place: Place) -> None:
    name, stored = place.name(), vectors(2)
    with place.client() as client:
        client.create_collection(
            name,
            {
                "text": params(),
                "tokens": params(
                    2,
                    multivector_config=models.MultiVectorConfig(
                        comparator=models.MultiVectorComparator.MAX_SIM
                    ),
                ),
            },
            sparse_vectors_config={"bm25": models.SparseVectorParams()},
        )
        client.upsert(
            name,
            [
                models.PointStruct(
                    id=i,
                    vector={
                        "text": stored[i].tolist(),
                        "tokens": [[1.0, 2.0]],
                        "bm25": models.SparseVector(indices=[3], values=[1.0]),
                    },
                    payload={},
                )
                for i in range(2)
            ],
        )
    with open_source(place.uri(name)) as source:
        description = source.describe()
        np.testing.assert_array_equal(read(source, 9)[0].vectors, stored)
    assert description.settings["vector"] == "text"
    assert description.other_vectors == ("tokens", "bm25")
    for other, kind in (("bm25", "sparse"), ("nope", "not there")):
        with pytest.raises(UsageError, match=f"{other}.*{kind}.*'text'"):
            open_source(place.uri(name, f"vector={other}"))


def test_of_several_dense_vectors_one_must_be_named(place: Place) -> None:
    name, stored = place.name(), vectors(1, dimension=3)
    with place.client() as client:
        client.create_collection(name, {"small": params(3), "large": params(5)})
        client.upsert(
            name, [models.PointStruct(id=9, vector={"small": stored[0].tolist()}, payload={})]
        )
    with pytest.raises(UsageError, match=r"'small', 'large'|'large', 'small'"):
        open_source(place.uri(name))
    with open_source(place.uri(name, "vector=small")) as source:
        assert source.describe().dimension == 3
        np.testing.assert_array_equal(read(source, 1)[0].vectors, stored)
    with open_source(place.uri(name, "vector=large")) as source:
        assert read(source, 1) == []
        assert any("1 points have no vector 'large'" in note for note in source.describe().notes)
        [whole] = source.whole_batches(1)
    assert (whole.ids.tolist(), whole.each_count(), whole.vectors.shape) == ([9], [0], (0, 5))
    assert whole.extras == [{"vectors": {"small": stored[0].tolist()}}]


def test_the_unnamed_vector_beside_a_sparse_one(place: Place) -> None:
    name, stored = place.name(), vectors(1)
    with place.client() as client:
        client.create_collection(
            name, params(), sparse_vectors_config={"bm25": models.SparseVectorParams()}
        )
        sparse = models.SparseVector(indices=[3], values=[1.0])
        client.upsert(
            name,
            [models.PointStruct(id=1, vector={"": stored[0].tolist(), "bm25": sparse}, payload={})],
        )
    with open_source(place.uri(name)) as source:
        np.testing.assert_array_equal(read(source, 1)[0].vectors, stored)
        assert source.describe().other_vectors == ("bm25",)
        [point] = next(source.whole_batches(1)).extras or [{}]
        assert point == {"vectors": {"bm25": {"indices": [3], "values": [1.0]}}}


def test_a_collection_without_dense_vectors_is_refused(place: Place) -> None:
    name = place.name()
    with place.client() as client:
        client.create_collection(
            name, {}, sparse_vectors_config={"bm25": models.SparseVectorParams()}
        )
    with pytest.raises(UsageError, match="no dense vector"):
        open_source(place.uri(name))


def test_the_description(place: Place) -> None:
    name = place.name()
    place.write(name, points([3, 1, 2]), metric=Metric.MANHATTAN)
    with open_source(place.uri(name)) as source:
        found = source.describe()
    assert (found.uri, found.store) == (place.uri(name), "qdrant")
    assert (found.count, found.dimension, found.metric) == (3, DIMENSION, Metric.MANHATTAN)
    assert (found.id_kind, found.text_field) == (IdKind.INTEGER, "text")
    assert set(found.payload_fields) == {"text", "n"}
    expected = "exact" if place.kind == "embedded" else "HNSW(m=16, ef_construct=100)"
    assert found.index_type.startswith(expected)
    assert found.notes == ()


def test_the_text_field_is_the_one_named_which_must_be_there(place: Place) -> None:
    name, batch = place.name(), points([1])
    place.write(name, VectorBatch(batch.ids, batch.vectors, [{"text": "a b c", "title": "a t"}]))
    with open_source(place.uri(name, "text=title")) as source:
        assert source.texts([1]) == ["a t"]
    with (
        open_source(place.uri(name, "text=body")) as source,
        pytest.raises(UsageError, match=r"'body'.*(text, title|title, text)"),
    ):
        source.describe()


def test_a_missing_collection_names_those_that_are_there(place: Place) -> None:
    name = place.name("present")
    place.write(name)
    with pytest.raises(InputError, match="'absent'") as raised:
        open_source(place.uri("absent"))
    with place.client() as client:
        there = sorted(c.name for c in client.get_collections().collections)
    # A server may have many, of which the first are named.
    assert all(each in raised.value.remedy for each in there[:10])


def test_an_unfinished_collection_is_noted(place: Place) -> None:
    name = place.name()
    with place.client() as client:
        client.create_collection(
            name, params(), metadata={"vecmigrate": {"state": "writing", "run": "r"}}
        )
    with open_source(place.uri(name)) as source:
        assert any(note.startswith("unfinished") for note in source.describe().notes)


def test_foreign_metadata_is_no_mark(place: Place) -> None:
    foreign = ({"vecmigrate": 3}, {"vecmigrate": {"state": "?"}}, {"another": "program's"})
    names = [place.name() for _ in foreign]
    with place.client() as client:
        for name, metadata in zip(names, foreign, strict=True):
            client.create_collection(name, params(), metadata=metadata)
    for name in names:
        with open_source(place.uri(name)) as source:
            description = source.describe()
        assert (description.provenance, description.notes) == (None, ())


def test_a_batch_size_below_one_is_refused(place: Place) -> None:
    name = place.name()
    place.write(name, points([1]))
    with open_source(place.uri(name)) as source, pytest.raises(UsageError, match="batch size"):
        source.batches(0)


def test_pages_of_large_points_are_small(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes: a point of a multivector may have more than a thousand of one vector each."""
    name = place.name()
    late = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    with place.client() as client:
        client.create_collection(
            name, {"text": params(), "tokens": params(multivector_config=late)}
        )
        client.upsert(
            name,
            [
                models.PointStruct(
                    id=i,
                    vector={"text": [1.0] * DIMENSION, "tokens": [[1.0] * DIMENSION] * 99},
                    payload={},
                )
                for i in range(20)
            ],
        )
    a_point = 4 * DIMENSION * 100
    monkeypatch.setattr("vecmigrate_qdrant.source.PAGE_BYTES", 3 * a_point)
    with open_source(place.uri(name)) as source:
        assert [len(batch) for batch in source.whole_batches(1000)] == [3] * 6 + [2]
        assert [len(batch) for batch in source.batches(1000)] == [20]
        assert [len(batch) for batch in source.whole_batches(2)] == [2] * 10
