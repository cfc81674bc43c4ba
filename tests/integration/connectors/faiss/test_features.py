"""What a FAISS index may have beside its kind; see FEATURES."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from support.faiss.cases import COUNT, FEATURES, OLD, build, rows, sparse_ids
from support.faiss.indexes import save

from vecmigrate import open_sink, open_source
from vecmigrate.connector import CollectionDescription, InputError, TargetSpec

VECTORS = np.ascontiguousarray(rows()[:, :OLD])
IDS = sparse_ids()
L2 = faiss.METRIC_L2


def read(uri: str) -> dict[int, NDArray[np.float32]]:
    with open_source(uri) as source:
        return {
            int(i): vector
            for batch in source.batches(300)
            for i, vector in zip(batch.ids, batch.vectors, strict=True)
        }


def copied(source_uri: str, path: Path) -> CollectionDescription:
    with (
        open_source(source_uri) as source,
        open_sink(f"faiss:{path}", TargetSpec.like(source.describe())) as sink,
    ):
        for batch in source.batches(300):
            sink.write(batch)
        return sink.finish()


def check(uri: str, expected: dict[int, NDArray[np.float32]], atol: float = 0) -> None:
    found = read(uri)
    assert sorted(found) == sorted(expected)
    for number, vector in expected.items():
        np.testing.assert_allclose(found[number], vector, atol=atol, rtol=0)


def by_id(index: Any, ids: NDArray[np.int64]) -> dict[int, NDArray[np.float32]]:
    """What FAISS reconstructs of each id."""
    return {int(i): index.reconstruct(int(i)) for i in ids}


@pytest.mark.parametrize("words", ["IDMap2,Flat", "IDMap2,SQ8", "IVF16,Flat", "IVF16,PQ8x4"])
def test_points_removed_from_an_index(tmp_path: Path, words: str) -> None:
    index = build(words, VECTORS, L2, IDS)
    assert index.remove_ids(IDS[::3]) == len(IDS[::3])
    left = np.delete(IDS, np.s_[::3])
    if "IVF" in words:
        index.set_direct_map_type(faiss.DirectMap.Hashtable)
    uri = save(index, tmp_path / "old.faiss")
    check(uri, by_id(index, left), atol=1e-6)
    assert copied(uri, tmp_path / "new.faiss").count == len(left)
    assert sorted(read(f"faiss:{tmp_path / 'new.faiss'}")) == sorted(left.tolist())


@pytest.mark.parametrize("around", [True, False])
@pytest.mark.parametrize("id_map", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_an_id_map_behind_a_transformation(tmp_path: Path, id_map: Any, around: bool) -> None:
    flat = faiss.IndexFlat(OLD, L2)
    rotation = faiss.RandomRotationMatrix(OLD, OLD)
    whole = faiss.IndexPreTransform(rotation, flat if around else id_map(flat))
    if around:
        whole = id_map(whole)
    whole.train(VECTORS)
    whole.add_with_ids(VECTORS, IDS)
    uri = save(whole, tmp_path / "old.faiss")
    expected = dict(zip(IDS.tolist(), VECTORS, strict=True))
    check(uri, expected, atol=1e-5)
    words = copied(uri, tmp_path / "new.faiss").index_type
    assert words == f"{id_map.__name__.removeprefix('Index')},RR32,Flat"
    check(f"faiss:{tmp_path / 'new.faiss'}", expected, atol=2e-5)


@pytest.mark.parametrize("kind", ["NoMap", "Array", "Hashtable"])
def test_a_direct_map(tmp_path: Path, kind: str) -> None:
    ids = np.arange(COUNT) if kind == "Array" else IDS
    index = build("IVF16,Flat", VECTORS, L2, ids)
    index.set_direct_map_type(getattr(faiss.DirectMap, kind))
    uri = save(index, tmp_path / "old.faiss")
    expected = dict(zip(ids.tolist(), VECTORS, strict=True))
    check(uri, expected)
    copied(uri, tmp_path / "new.faiss")
    check(f"faiss:{tmp_path / 'new.faiss'}", expected)
    copy = faiss.read_index(str(tmp_path / "new.faiss"))
    assert copy.direct_map.type == getattr(faiss.DirectMap, kind)


@pytest.mark.parametrize("words", ["IVF16,Flat", "IVF16,PQ8x4"])
def test_lists_on_disk(tmp_path: Path, words: str) -> None:
    index = build(words, VECTORS, L2, IDS)
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    expected = by_id(index, IDS)
    data = tmp_path / "lists.ivfdata"
    lists = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(data))
    lists.merge_from(index.invlists, 0)
    index.replace_invlists(lists, False)
    uri = save(index, tmp_path / "old.faiss")
    before = data.read_bytes()
    check(uri, expected, atol=1e-6)
    with open_source(uri) as source:
        assert any("file of their own" in note for note in source.describe().notes)
    copied(uri, tmp_path / "new.faiss")
    assert data.read_bytes() == before
    data.unlink()
    assert sorted(read(f"faiss:{tmp_path / 'new.faiss'}")) == sorted(IDS.tolist())
    with pytest.raises(InputError, match=r"lists\.ivfdata"):
        read(uri)


def test_a_multi_index_quantizer(tmp_path: Path) -> None:
    index = build("IMI2x3,Flat", VECTORS, L2, IDS)
    uri = save(index, tmp_path / "old.faiss")
    expected = dict(zip(IDS.tolist(), VECTORS, strict=True))
    check(uri, expected)
    with open_source(uri) as source:
        assert any("MultiIndexQuantizer" in note for note in source.describe().notes)
    assert copied(uri, tmp_path / "new.faiss").index_type == "IVF64,Flat"
    check(f"faiss:{tmp_path / 'new.faiss'}", expected)


def test_a_direct_scalar_quantizer(tmp_path: Path) -> None:
    """Of bytes; what they are translated to is none."""
    given = np.clip(np.round(VECTORS * 30 + 128), 0, 255).astype(np.float32)
    index = faiss.IndexScalarQuantizer(OLD, faiss.ScalarQuantizer.QT_8bit_direct, L2)
    index.add(given)
    uri = save(index, tmp_path / "old.faiss")
    check(uri, dict(enumerate(given)))
    made = copied(uri, tmp_path / "new.faiss")
    assert made.index_type == "SQ8"
    check(f"faiss:{tmp_path / 'new.faiss'}", dict(enumerate(given)), atol=1)


@pytest.mark.parametrize("kind", [faiss.IndexShards, faiss.IndexReplicas])
def test_shards_and_replicas(tmp_path: Path, kind: Any) -> None:
    """If FAISS ever writes them, this fails, and they are to be read."""
    whole, part = kind(OLD), faiss.IndexFlatL2(OLD)
    whole.add_shard(part) if kind is faiss.IndexShards else whole.addIndex(part)
    whole.add(VECTORS)
    with pytest.raises(RuntimeError, match="don't know how to serialize"):
        save(whole, tmp_path / "old.faiss")


def test_a_binary_index(tmp_path: Path) -> None:
    index = faiss.IndexBinaryFlat(64)
    index.add(np.random.default_rng(0).integers(0, 256, (COUNT, 8), dtype=np.uint8))
    faiss.write_index_binary(index, str(tmp_path / "old.faiss"))
    with pytest.raises(InputError, match="binary FAISS index"):
        open_source(f"faiss:{tmp_path / 'old.faiss'}")


@pytest.mark.parametrize("metric", ["Linf", "Canberra", "BrayCurtis", "JensenShannon"])
def test_other_metrics(tmp_path: Path, metric: str) -> None:
    index = faiss.IndexFlat(OLD, getattr(faiss, f"METRIC_{metric}"))
    index.add(np.abs(VECTORS))
    uri = save(index, tmp_path / "old.faiss")
    with pytest.raises(InputError, match=f"METRIC_{metric}"):
        open_source(uri)


def test_each_feature_is_a_test() -> None:
    assert set(FEATURES) == {
        name.removeprefix("test_") for name in globals() if name.startswith("test_")
    } - {"each_feature_is_a_test"}
