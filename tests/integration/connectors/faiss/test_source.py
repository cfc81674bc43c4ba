"""Reading FAISS index files: every kind, whole and damaged."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import pytest
from support.faiss.indexes import (
    COUNT,
    DIMENSION,
    OWN_IDS,
    WITH_IDS,
    make_index,
    save,
    sparse_ids,
    vectors,
    write_jsonl,
)

from vecmigrate import open_source
from vecmigrate.connector import (
    IdKind,
    InputError,
    Metric,
    MissingIdsError,
    UsageError,
    VectorBatch,
)


def read(uri: str, size: int = 64, cursor: str | None = None) -> list[VectorBatch]:
    with open_source(uri) as source:
        return list(source.batches(size, cursor=cursor))


def by_id(batches: list[VectorBatch]) -> dict[int, bytes]:
    return {
        int(i): vector.tobytes()
        for batch in batches
        for i, vector in zip(batch.ids, batch.vectors, strict=True)
    }


@pytest.mark.parametrize("words", OWN_IDS)
def test_rows_without_an_id_map_have_their_numbers(tmp_path: Path, words: str) -> None:
    uri = save(make_index(words), tmp_path / "a.faiss")
    batches = read(uri)
    assert sum(map(len, batches)) == COUNT
    assert by_id(batches) == {n: row.tobytes() for n, row in enumerate(vectors())}


@pytest.mark.parametrize("words", WITH_IDS)
def test_every_kind_gives_its_ids_and_exact_vectors(tmp_path: Path, words: str) -> None:
    ids = sparse_ids()
    uri = save(make_index(words, ids=ids), tmp_path / "a.faiss")
    batches = read(uri)
    assert sum(map(len, batches)) == COUNT
    assert by_id(batches) == {int(i): row.tobytes() for i, row in zip(ids, vectors(), strict=True)}
    with open_source(uri) as source:
        assert source.describe().index_type == words
        wanted = np.random.default_rng(3).permutation(ids)[:50]
        fetched = source.fetch(wanted)
        assert np.array_equal(fetched.ids, wanted)
        rows = [int(np.flatnonzero(ids == i)[0]) for i in wanted]
        assert np.array_equal(fetched.vectors, vectors()[rows])
        assert np.array_equal(
            np.concatenate(list(source.ids(31))), np.concatenate([b.ids for b in batches])
        )


@pytest.mark.parametrize("words", ["Flat", "IDMap2,Flat"])
def test_flat_rows_keep_their_order(tmp_path: Path, words: str) -> None:
    ids = sparse_ids() if "IDMap" in words else None
    batches = read(save(make_index(words, ids=ids), tmp_path / "a.faiss"))
    assert np.array_equal(np.concatenate([b.vectors for b in batches]), vectors())


@pytest.mark.parametrize("words", ["Flat", "IVF9,Flat", "IDMap,IVF9,Flat", "HNSW12,Flat"])
@pytest.mark.parametrize("size", [1, 7, 64, COUNT, 1000])
def test_any_cursor_continues_at_its_row(tmp_path: Path, words: str, size: int) -> None:
    ids = sparse_ids() if "IDMap" in words else None
    uri = save(make_index(words, ids=ids), tmp_path / "a.faiss")
    whole = read(uri, COUNT)[0]
    done = 0
    for batch in read(uri, size):
        done += len(batch)
        assert batch.cursor == str(done)
    rest = read(uri, 50, cursor="123")
    assert np.array_equal(np.concatenate([b.ids for b in rest]), whole.ids[123:])
    assert np.array_equal(np.concatenate([b.vectors for b in rest]), whole.vectors[123:])
    assert read(uri, size, cursor=str(COUNT)) == []


@pytest.mark.parametrize("cursor", ["", "-1", "301", "1.0", "x", "٣", "9" * 5000])
def test_a_cursor_that_is_none_is_refused(tmp_path: Path, cursor: str) -> None:
    uri = save(make_index("Flat"), tmp_path / "a.faiss")
    with pytest.raises(UsageError, match="not a cursor"):
        read(uri, cursor=cursor)


def test_vectors_outlive_the_source(tmp_path: Path) -> None:
    uri = save(make_index("IVF9,Flat"), tmp_path / "a.faiss")
    source = open_source(uri)
    batches = list(source.batches(5))
    source.close()
    del source
    gc.collect()
    assert by_id(batches) == {n: row.tobytes() for n, row in enumerate(vectors())}


def test_vectors_are_aligned_and_the_mapped_file_is_not_writable(tmp_path: Path) -> None:
    uri = save(make_index("IDMap,Flat", ids=sparse_ids()), tmp_path / "a.faiss")
    for batch in read(uri):
        assert batch.vectors.flags.aligned
        assert batch.vectors.flags.c_contiguous
        assert batch.vectors.dtype == np.float32
        assert batch.ids.flags.aligned


def test_a_flat_file_is_not_loaded(tmp_path: Path) -> None:
    rows = np.zeros((100_000, 256), dtype=np.float32)
    index = faiss.IndexFlatL2(256)
    index.add(rows)
    uri = save(index, tmp_path / "a.faiss")
    del index
    before = anonymous_memory()
    with open_source(uri) as source:
        for batch in source.batches(1000):
            assert len(batch) == 1000
        assert anonymous_memory() - before < rows.nbytes // 4


def anonymous_memory() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


@pytest.mark.parametrize(
    ("faiss_metric", "metric"),
    [
        (faiss.METRIC_L2, Metric.EUCLID),
        (faiss.METRIC_INNER_PRODUCT, Metric.DOT),
        (faiss.METRIC_L1, Metric.MANHATTAN),
    ],
)
@pytest.mark.parametrize("words", ["Flat", "HNSW12,Flat", "IDMap2,Flat"])
def test_metrics(tmp_path: Path, words: str, faiss_metric: int, metric: Metric) -> None:
    ids = sparse_ids() if "IDMap" in words else None
    uri = save(make_index(words, faiss_metric, ids=ids), tmp_path / "a.faiss")
    with open_source(uri) as source:
        assert source.describe().metric is metric


def test_description(tmp_path: Path) -> None:
    index = make_index("IVF9,Flat", faiss.METRIC_INNER_PRODUCT)
    index.nprobe = 4
    uri = save(index, tmp_path / "old.faiss")
    write_jsonl(tmp_path / "old.jsonl", [{"id": 0, "body": "some words here", "year": 1999}])
    with open_source(uri) as source:
        found = source.describe()
    assert (found.uri, found.store, found.count) == (uri, "faiss", COUNT)
    assert (found.dimension, found.metric, found.id_kind) == (
        DIMENSION,
        Metric.DOT,
        IdKind.INTEGER,
    )
    assert found.payload_fields == ("body", "year")
    assert found.text_field == "body"
    assert found.provenance is None
    assert found.settings["index"]["nprobe"] == 4  # type: ignore[index, call-overload]


def test_an_empty_index_has_no_batches(tmp_path: Path) -> None:
    uri = save(faiss.IndexFlatL2(DIMENSION), tmp_path / "a.faiss")
    assert read(uri) == []
    with open_source(uri) as source:
        assert source.describe().count == 0
        assert len(source.fetch([])) == 0
        with pytest.raises(MissingIdsError):
            source.fetch([0])


def test_lists_on_disk_are_read_and_left_alone(tmp_path: Path) -> None:
    index = make_index("IVF9,Flat")
    lists = faiss.OnDiskInvertedLists(9, DIMENSION * 4, str(tmp_path / "a.ivfdata"))
    for number in range(9):
        size = index.invlists.list_size(number)
        lists.add_entries(
            number, size, index.invlists.get_ids(number), index.invlists.get_codes(number)
        )
    index.replace_invlists(lists, False)
    uri = save(index, tmp_path / "a.faiss")
    for path in tmp_path.iterdir():
        path.chmod(0o444)
    before = (tmp_path / "a.ivfdata").read_bytes()
    assert by_id(read(uri)) == {n: row.tobytes() for n, row in enumerate(vectors())}
    with open_source(uri) as source:
        assert source.nearest(vectors()[:1], 1) is not None
    assert (tmp_path / "a.ivfdata").read_bytes() == before


def test_missing_ids_are_named_up_to_ten(tmp_path: Path) -> None:
    uri = save(make_index("Flat"), tmp_path / "a.faiss")
    with open_source(uri) as source:
        with pytest.raises(MissingIdsError) as caught:
            source.fetch([5, *range(1000, 1013)])
        assert "1000, 1001" in str(caught.value)
        assert "1009 and 3 more" in str(caught.value)
        with pytest.raises(MissingIdsError, match=f"abc, {2**64 - 1}, -1"):
            source.fetch(["abc", 2**64 - 1, 7, -1])


def test_fetch_may_repeat_an_id(tmp_path: Path) -> None:
    uri = save(make_index("IVF9,Flat"), tmp_path / "a.faiss")
    with open_source(uri) as source:
        assert np.array_equal(source.fetch([3, 9, 3]).vectors, vectors()[[3, 9, 3]])


def test_an_id_that_is_there_twice_is_refused_at_fetch(tmp_path: Path) -> None:
    ids = sparse_ids()
    ids[17] = ids[200]
    uri = save(make_index("IDMap,Flat", ids=ids), tmp_path / "a.faiss")
    assert sum(map(len, read(uri))) == COUNT
    with open_source(uri) as source:
        with pytest.raises(InputError, match=str(ids[17])):
            source.fetch([int(ids[0])])
        with pytest.raises(InputError, match=str(ids[17])):
            source.nearest(vectors()[:1], 1)


@pytest.mark.parametrize("words", ["Flat", "IDMap,HNSW12,Flat", "IVF9,Flat"])
def test_a_search_finds_the_points_of_the_index_that_was_opened(tmp_path: Path, words: str) -> None:
    ids = sparse_ids() if words != "Flat" else np.arange(COUNT)
    path, own = tmp_path / "a.faiss", ids if words != "Flat" else None
    uri = save(make_index(words, ids=own), path)
    with open_source(uri) as source:
        save(make_index(words, ids=own, data=vectors(seed=2)), tmp_path / "b.faiss")
        (tmp_path / "b.faiss").replace(path)
        for _ in range(2):
            [points] = source.nearest(vectors()[7:8], 1) or []
            assert points.ids.tolist() == [ids[7]]
            np.testing.assert_array_equal(points.vectors, vectors()[7:8])


def test_an_index_that_is_written_over_in_place_is_not_searched_by_its_new_half(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.faiss"
    uri = save(make_index("Flat"), path)
    with open_source(uri) as before, open_source(uri) as late:
        assert before.nearest(vectors()[:1], 1) is not None
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        # What was in memory by then is as it was.
        [points] = before.nearest(vectors()[-1:], 1) or []
        assert points.ids.tolist() == [COUNT - 1]
        with pytest.raises(InputError):
            late.nearest(vectors()[:1], 1)


def test_a_kind_is_refused_inside_an_id_map_too(tmp_path: Path) -> None:
    uri = save(make_index("IDMap,LSH", ids=sparse_ids()), tmp_path / "a.faiss")
    with pytest.raises(InputError, match="IndexLSH"):
        open_source(uri)


def test_binary_indexes_are_refused(tmp_path: Path) -> None:
    index = faiss.IndexBinaryFlat(64)
    index.add(np.zeros((3, 8), dtype=np.uint8))
    faiss.write_index_binary(index, str(tmp_path / "a.faiss"))
    with pytest.raises(InputError, match="binary"):
        open_source(f"faiss:{tmp_path}/a.faiss")


def test_other_metrics_are_refused_by_name(tmp_path: Path) -> None:
    index = faiss.IndexFlat(DIMENSION, faiss.METRIC_Linf)
    uri = save(index, tmp_path / "a.faiss")
    with pytest.raises(InputError, match="METRIC_Linf"):
        open_source(uri)


def test_missing_files_and_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_source(f"faiss:{tmp_path}/none.faiss")
    with pytest.raises(InputError, match="directory"):
        open_source(f"faiss:{tmp_path}")


@pytest.mark.parametrize("content", [b"", b"Ix", b"hello, this is no index at all", b"\0" * 4096])
def test_files_that_are_no_index_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.faiss"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.faiss cannot be read as a FAISS index"):
        open_source(f"faiss:{path}")


@pytest.mark.parametrize("words", [*OWN_IDS, "IDMap,Flat", "IDMap2,IVF9,Flat"])
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, words: str) -> None:
    path = tmp_path / "a.faiss"
    ids = sparse_ids() if "IDMap" in words else None
    save(make_index(words, ids=ids), path)
    size = path.stat().st_size
    for end in (size - 1, size - 9, size // 2, size // 7, 100, 45, 33, 5):
        os.truncate(path, end)
        with pytest.raises(InputError):
            open_source(f"faiss:{path}")


@pytest.mark.parametrize("words", OWN_IDS)
@pytest.mark.parametrize("at", [4, 8])
def test_a_header_that_lies_is_refused(tmp_path: Path, words: str, at: int) -> None:
    path = tmp_path / "a.faiss"
    save(make_index(words), path)
    content = bytearray(path.read_bytes())
    content[at] += 1
    path.write_bytes(content)
    with pytest.raises(InputError):
        open_source(f"faiss:{path}")


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    uri = save(make_index("Flat"), tmp_path / "a.faiss")
    for option in ("id=key", "text=body", "sidecar="):
        with pytest.raises(UsageError):
            open_source(f"{uri}?{option}")
    with pytest.raises(UsageError, match="transport"):
        open_source(uri.replace("faiss:", "faiss+https:"))


def resident(path: Path) -> np.ndarray:
    """Tell of each page of a file whether it is in memory."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        bytes_ = np.frombuffer(mapped, np.uint8)
        found = np.empty(-(-len(mapped) // mmap.PAGESIZE), np.uint8)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (bytes_, found)]
        size = ctypes.c_size_t(len(mapped))
        assert ctypes.CDLL(None).mincore(pointers[0], size, pointers[1]) == 0
        del bytes_
    return (found & 1).astype(bool)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system keeps files in memory")
@pytest.mark.parametrize("kind", ["Flat", "IVF2,Flat", "SQ8", "IDMap2,HNSW4,Flat"])
def test_a_disk_is_asked_for_the_next_batches_before_they_are_read(kind: str) -> None:
    width, batch = 1024, 100
    rows = np.random.default_rng(0).standard_normal((9000, width), dtype=np.float32)
    # A folder on a disk, where a temporary one may be in memory.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder) / "old.faiss"
        index = faiss.index_factory(width, kind)
        index.train(rows[:1000])
        if kind.startswith("IDMap2"):
            index.add_with_ids(rows, np.arange(len(rows)))
        else:
            index.add(rows)
        faiss.write_index(index, str(path))
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = resident(path)
        if before.mean() > 0.1:
            pytest.skip("this disk keeps files in memory")
        with open_source(f"faiss:{path}") as source:
            next(source.batches(batch, cursor="5000"))
            deadline = time.monotonic() + 10
            # The batch itself, and at least three more.
            bytes_a_row = width if kind == "SQ8" else 4 * width
            least = 4 * batch * bytes_a_row / mmap.PAGESIZE
            while (added := resident(path) & ~before).sum() < least:
                assert time.monotonic() < deadline, f"{added.sum()} pages, not {least:.0f}"
                time.sleep(0.02)
            assert resident(path).mean() < 0.7
