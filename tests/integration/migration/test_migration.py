"""The main job through the Python API: within a store, across stores, and what it refuses."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.corpus import NEW_DIM, OLD_DIM, Corpus, N

from vecmigrate import Procrustes, migrate, open_sink, open_source, save_translator
from vecmigrate.connector import (
    EncoderIdentity,
    Metric,
    Payload,
    PointId,
    TargetSpec,
    VectorBatch,
    id_array,
)
from vecmigrate.errors import (
    BadVectorError,
    MismatchError,
    TargetExistsError,
    VecmigrateError,
    VerificationError,
)
from vecmigrate.migration.move import verify_ids
from vecmigrate.points.checksums import IdFingerprint

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)
PAYLOADS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=4)


@pytest.fixture
def translator(corpus: Corpus) -> Procrustes:
    return Procrustes().fit(corpus.old, corpus.new)


def target_uri(store: str, folder: Path, name: str = "new") -> str:
    return f"faiss:{folder}/{name}.faiss" if store == "faiss" else f"qdrant:{folder}/storage/{name}"


def read_all(uri: str) -> dict[PointId, tuple[np.ndarray, Payload]]:
    with open_source(uri) as source:
        return {
            point_id: (batch.vectors[row].copy(), dict((batch.payloads or [{}] * len(batch))[row]))
            for batch in source.batches(100)
            for row, point_id in enumerate(batch.ids.tolist())
        }


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
@pytest.mark.parametrize("batch_size", [37, 10_000])
def test_every_point_arrives_translated_with_its_payload(
    corpus: Corpus, translator: Procrustes, store: str, batch_size: int
) -> None:
    target = target_uri(store, corpus.folder)
    done: list[int] = []
    result = migrate(corpus.source, target, translator, batch_size=batch_size, progress=done.append)
    assert (result.read, result.written, sum(done)) == (N, N, N)
    assert result.target.dimension == NEW_DIM
    assert result.target.metric is Metric.DOT
    found = read_all(target)
    wanted = translator.transform(corpus.old)
    for i in range(N):
        vector, payload = found[i]
        np.testing.assert_allclose(vector, wanted[i], atol=1e-6)
        assert payload == {"text": f"text number {i}", "group": i % 5}


def test_there_and_back_across_stores(corpus: Corpus, translator: Procrustes) -> None:
    there, back = target_uri("qdrant", corpus.folder), target_uri("faiss", corpus.folder, "back")
    migrate(corpus.source, there, translator)
    identity = Procrustes(center=False, scale=False, normalize=False)
    migrate(there, back, identity.fit(np.eye(NEW_DIM), np.eye(NEW_DIM)))
    one, other = read_all(there), read_all(back)
    assert one.keys() == other.keys()
    for point_id, (vector, payload) in one.items():
        np.testing.assert_allclose(vector, other[point_id][0], atol=1e-6)
        assert payload == other[point_id][1]


@given(
    points=st.dictionaries(
        st.integers(0, 2**63 - 1) | st.uuids().map(str), PAYLOADS, min_size=2, max_size=12
    )
)
@settings(deadline=None, max_examples=15)
@pytest.mark.parametrize(("first", "second"), [("faiss", "qdrant"), ("qdrant", "faiss")])
def test_ids_and_payloads_survive_any_route(
    first: str,
    second: str,
    points: dict[PointId, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("route")
    vectors = np.random.default_rng(0).standard_normal((len(points), 5)).astype(np.float32)
    with open_sink(
        target_uri(first, folder, "a"), TargetSpec(dimension=5, metric=Metric.DOT)
    ) as sink:
        sink.write(VectorBatch(id_array(points), vectors, list(points.values())))
        sink.finish()
    translator = Procrustes(normalize=False).fit(np.eye(5), 2 * np.eye(5)[:, ::-1])
    migrate(target_uri(first, folder, "a"), target_uri(second, folder, "b"), translator)
    found = read_all(target_uri(second, folder, "b"))
    wanted = translator.transform(vectors)
    assert found.keys() == points.keys()
    for row, (point_id, payload) in enumerate(points.items()):
        np.testing.assert_allclose(found[point_id][0], wanted[row], atol=1e-5)
        assert found[point_id][1] == payload


def test_the_source_is_not_touched(corpus: Corpus, translator: Procrustes) -> None:
    files = {path: path.read_bytes() for path in corpus.folder.iterdir()}
    migrate(corpus.source, target_uri("faiss", corpus.folder), translator)
    assert all(path.read_bytes() == content for path, content in files.items())


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_a_bad_vector_stops_it_and_nothing_is_published(
    corpus: Corpus, translator: Procrustes, store: str
) -> None:
    old = corpus.old.copy()
    old[N - 1] = np.nan
    index = faiss.IndexFlatIP(OLD_DIM)
    index.add(old)
    faiss.write_index(index, str(corpus.folder / "old.faiss"))
    target = target_uri(store, corpus.folder)
    with pytest.raises(BadVectorError, match=rf"old\.faiss.*{N - 1}"):
        migrate(corpus.source, target, translator, batch_size=50)
    with pytest.raises(VecmigrateError):
        open_source(target)
    result = migrate(corpus.source, target, translator, on_bad_vector="skip")
    assert (result.read, result.written, result.skipped_ids) == (N, N - 1, [N - 1])
    assert len(read_all(target)) == N - 1


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_an_existing_target_is_refused_and_kept(
    corpus: Corpus, translator: Procrustes, store: str
) -> None:
    target = target_uri(store, corpus.folder)
    migrate(corpus.source, target, translator)
    before = read_all(target)
    with pytest.raises(TargetExistsError):
        migrate(corpus.source, target, translator, restart=True)
    assert read_all(target).keys() == before.keys()


def test_a_translator_of_another_dimension_is_refused_before_anything_is_made(
    corpus: Corpus,
) -> None:
    other = Procrustes().fit(np.eye(5), np.eye(5))
    with pytest.raises(MismatchError, match="takes vectors of 5 dimensions"):
        migrate(corpus.source, target_uri("qdrant", corpus.folder), other)
    assert not (corpus.folder / "storage").exists()


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_encoders_are_recorded_and_checked(
    corpus: Corpus, translator: Procrustes, store: str
) -> None:
    old = EncoderIdentity(name="old-model", dimension=OLD_DIM)
    new = EncoderIdentity(name="new-model", dimension=NEW_DIM, normalized=True)
    file, target = corpus.folder / "t.safetensors", target_uri(store, corpus.folder)
    save_translator(translator, file, source_encoder=old, target_encoder=new)
    with pytest.raises(MismatchError, match="fitted for old-model"):
        migrate(corpus.source, target, file, source_encoder="someone-else")
    migrate(corpus.source, target, file, source_encoder="old-model")
    with open_source(target) as source:
        provenance = source.describe().provenance
    assert provenance is not None
    assert provenance.encoder == new
    # Migrating the result once more with the same map is a mistake, caught by what is recorded.
    square = Procrustes().fit(np.eye(NEW_DIM), np.eye(NEW_DIM))
    again = corpus.folder / "again.safetensors"
    other = old.model_copy(update={"dimension": NEW_DIM})
    save_translator(square, again, source_encoder=other)
    with pytest.raises(MismatchError, match="made by new-model"):
        migrate(target, target_uri(store, corpus.folder, "twice"), again)


def test_verification_tells_missing_and_foreign_ids(corpus: Corpus) -> None:
    for ids, says in ((np.arange(N + 1), "points instead of"), (np.arange(1, N + 1), "other ids")):
        written = IdFingerprint()
        written.add(ids)
        with pytest.raises(VerificationError, match=says):
            verify_ids(corpus.source, written, 100)


def test_a_source_with_repeated_ids_does_not_pass_for_whole(tmp_path: Path) -> None:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(4))
    index.add_with_ids(np.eye(4, dtype=np.float32), np.array([1, 2, 2, 3]))
    faiss.write_index(index, str(tmp_path / "old.faiss"))
    with pytest.raises(VecmigrateError):
        migrate(
            f"faiss:{tmp_path}/old.faiss",
            f"faiss:{tmp_path}/new.faiss",
            Procrustes().fit(np.eye(4), np.eye(4)),
        )


def test_uuid_points_go_from_qdrant_to_faiss_and_keep_their_ids(tmp_path: Path) -> None:
    ids = [str(uuid.uuid5(uuid.NAMESPACE_URL, str(n))) for n in range(50)]
    vectors = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    source, target = target_uri("qdrant", tmp_path), target_uri("faiss", tmp_path)
    with open_sink(source, TargetSpec(dimension=6, metric=Metric.EUCLID)) as sink:
        sink.write(VectorBatch(id_array(ids), vectors, [{"text": f"a text {i}"} for i in ids]))
        sink.finish()
    migrate(source, target, Procrustes(normalize=False).fit(vectors, vectors))
    assert {i: p["text"] for i, (_, p) in read_all(target).items()} == {
        i: f"a text {i}" for i in ids
    }
