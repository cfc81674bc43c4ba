"""Ready-made vectors out of .npy, .npz and .parquet files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecmigrate.connector import id_array
from vecmigrate.encoders import open_encoder
from vecmigrate.errors import BadVectorError, InputError, MissingIdsError, UsageError
from vecmigrate.points.ids import lookup_of


def some_vectors(count: int = 20, dimension: int = 6) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((count, dimension)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8"])
def test_npy_rows_are_ids(tmp_path: Path, dtype: str) -> None:
    stored = some_vectors().astype(dtype)
    path = tmp_path / "mpnet.docs.npy"
    np.save(path, stored)
    encoder = open_encoder(f"vectors:{path}")
    got = encoder.encode(None, ids=[7, 0, 19, 7])
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert np.array_equal(got, stored[[7, 0, 19, 7]].astype(np.float32))
    query = encoder.encode(["ignored"], ids=np.array([3]), role="query")
    assert np.array_equal(query, stored[[3]].astype(np.float32))
    assert not encoder.needs_texts
    assert encoder.identity.name == "mpnet.docs"
    assert encoder.identity.dimension == 6
    assert encoder.identity.prompt is None
    assert encoder.identity.revision is None


def test_npz_with_integer_ids(tmp_path: Path) -> None:
    stored = some_vectors(4)
    np.savez(tmp_path / "v.npz", ids=np.array([30, 10, 2**40, 20], np.uint64), vectors=stored)
    encoder = open_encoder(f"vectors:{tmp_path}/v.npz?name=mpnet&revision=r1")
    assert np.array_equal(encoder.encode(None, ids=[2**40, 30]), stored[[2, 0]])
    assert (encoder.identity.name, encoder.identity.revision) == ("mpnet", "r1")


def test_npz_with_string_ids(tmp_path: Path) -> None:
    stored = some_vectors(3)
    np.savez(tmp_path / "v.npz", ids=np.array(["b", "ä", "5"]), vectors=stored)
    encoder = open_encoder(f"vectors:{tmp_path}/v.npz")
    assert np.array_equal(encoder.encode(None, ids=["5", "b", "ä"]), stored[[2, 0, 1]])
    with pytest.raises(MissingIdsError, match="1 of 2 ids: 5"):
        encoder.encode(None, ids=[5, "5"])


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("width", [pa.float16(), pa.float32(), pa.float64()])
def test_parquet(tmp_path: Path, fixed: bool, width: pa.DataType) -> None:
    stored = some_vectors(5, 3).astype(np.float16)
    kind = pa.list_(width, 3) if fixed else pa.list_(width)
    table = pa.table(
        {
            "key": ["a", "b", "c", "d", "e"],
            "other": [1, 2, 3, 4, 5],
            "emb": pa.array([row.tolist() for row in stored.astype(float)], kind),
        }
    )
    pq.write_table(table, tmp_path / "v.parquet", row_group_size=2)
    encoder = open_encoder(f"vectors:{tmp_path}/v.parquet?id=key&vector=emb")
    got = encoder.encode(None, ids=["e", "a", "c"])
    assert np.array_equal(got, stored[[4, 0, 2]].astype(np.float32))


def test_parquet_with_integer_ids(tmp_path: Path) -> None:
    table = pa.table({"id": [5, 3], "vector": [[1.0, 2.0], [3.0, 4.0]]})
    pq.write_table(table, tmp_path / "v.parquet")
    encoder = open_encoder(f"vectors:{tmp_path}/v.parquet")
    assert encoder.encode(None, ids=[3, 5]).tolist() == [[3, 4], [1, 2]]


def test_unit_length_is_detected_in_spite_of_half_precision_and_empty_rows(tmp_path: Path) -> None:
    free = some_vectors(3000)
    unit = free / np.linalg.norm(free, axis=1, keepdims=True)
    unit[0] = 0
    np.save(tmp_path / "free.npy", free)
    np.save(tmp_path / "unit.npy", unit.astype(np.float16))
    assert not open_encoder(f"vectors:{tmp_path}/free.npy").identity.normalized
    assert open_encoder(f"vectors:{tmp_path}/unit.npy").identity.normalized


def test_unknown_ids_are_named_up_to_ten(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", some_vectors(5))
    encoder = open_encoder(f"vectors:{tmp_path}/v.npy")
    with pytest.raises(MissingIdsError, match=r"2 of 3 ids: 5, x\. ") as caught:
        encoder.encode(None, ids=[4, 5, "x"])
    assert str(tmp_path / "v.npy") in caught.value.message
    with pytest.raises(MissingIdsError, match=r"20 of 20 ids: 100, .*, 109 and 10 more"):
        encoder.encode(None, ids=range(100, 120))
    with pytest.raises(MissingIdsError, match="ids: -1"):
        encoder.encode(None, ids=[-1])


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 9), st.text(max_size=3)),
        min_size=1,
        unique=True,
    ),
    st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 9), st.text(max_size=3))),
    st.randoms(use_true_random=False),
)
def test_lookup_agrees_with_a_dictionary(stored: list, other: list, random) -> None:
    asked = stored + other
    random.shuffle(asked)
    truth = {point_id: row for row, point_id in enumerate(stored)}
    rows = lookup_of(id_array(stored)).rows(id_array(asked))
    assert rows.tolist() == [truth.get(point_id, -1) for point_id in asked]


def test_a_vector_that_cannot_be_compared_is_named(tmp_path: Path) -> None:
    stored = some_vectors(5)
    stored[1, 2] = np.nan
    stored[3] = 0
    np.savez(tmp_path / "v.npz", ids=np.array(list("abcde")), vectors=stored)
    encoder = open_encoder(f"vectors:{tmp_path}/v.npz")
    with pytest.raises(BadVectorError, match=r"v\.npz .* id b, id d\."):
        encoder.encode(None, ids=list("abcde"))
    assert np.array_equal(encoder.encode(None, ids=["a", "c"]), stored[[0, 2]])


def test_no_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", some_vectors())
    encoder = open_encoder(f"vectors:{tmp_path}/v.npy")
    with pytest.raises(InputError, match="no ids were given"):
        encoder.encode(["text"])
    assert encoder.encode(None, ids=[]).shape == (0, 6)


class Mischief:
    """What an attacker would pickle: unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


def test_pickled_objects_are_refused_and_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    objects = np.array([Mischief(trace)], dtype=object)
    np.savez(tmp_path / "v.npz", ids=objects, vectors=some_vectors(1))
    np.save(tmp_path / "v.npy", objects, allow_pickle=True)
    for name in ("v.npz", "v.npy"):
        with pytest.raises(InputError, match=rf"{name} cannot be read: it holds pickled"):
            open_encoder(f"vectors:{tmp_path}/{name}")
    assert not trace.exists()


def test_malformed_files_give_one_clear_error(tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", some_vectors(500))
    whole = (tmp_path / "good.npy").read_bytes()
    np.savez_compressed(tmp_path / "good.npz", ids=np.arange(500), vectors=some_vectors(500))
    packed = (tmp_path / "good.npz").read_bytes()
    table = pa.table({"id": np.arange(500), "vector": some_vectors(500).tolist()})
    pq.write_table(table, tmp_path / "good.parquet")
    columns = (tmp_path / "good.parquet").read_bytes()
    for name, content in {
        "short.npy": whole[: len(whole) // 2],
        "empty.npy": b"",
        "text.npy": b"not an array",
        "text.npz": b"not an archive",
        "short.npz": packed[: len(packed) // 2],
        "hurt.npz": packed[:3000] + b"hurt" + packed[3004:],
        "text.parquet": b"not a table",
        "short.parquet": columns[: len(columns) // 2],
        "empty.parquet": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name} cannot be read: .*Write the file anew"):
            open_encoder(f"vectors:{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"ids": [1, 2]}, "holds the arrays ids"),
        ({"ids": [1, 2, 3], "vectors": [[1.0], [2.0]]}, "holds 3 ids and 2 vectors"),
        ({"ids": [1, 1], "vectors": [[1.0], [2.0]]}, "holds id 1 twice"),
        ({"ids": [1, -2], "vectors": [[1.0], [2.0]]}, "holds the negative id -2"),
        ({"ids": [1.0, 2.0], "vectors": [[1.0], [2.0]]}, "1-D array of float64"),
        ({"ids": [1, 2], "vectors": [[1], [2]]}, "array of int64"),
        ({"ids": [1, 2], "vectors": [1.0, 2.0]}, r"shape \(2,\)"),
        ({"ids": [], "vectors": np.empty((0, 4))}, "ids of|shape"),
    ],
)
def test_npz_of_the_wrong_arrays(tmp_path: Path, arrays: dict, said: str) -> None:
    np.savez(tmp_path / "v.npz", **{name: np.array(a) for name, a in arrays.items()})
    with pytest.raises(InputError, match=said):
        open_encoder(f"vectors:{tmp_path}/v.npz")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"key": [1], "vector": [[1.0]]}, "no column 'id' but key, vector"),
        ({"id": [1], "vec": [[1.0]]}, "no column 'vector' but id, vec"),
        ({"id": [1.5], "vector": [[1.0]]}, "column 'id' of .* is double"),
        ({"id": [1], "vector": [1.0]}, "column 'vector' of .* is double"),
        ({"id": [1], "vector": [["a"]]}, "without a vector of floats"),
        ({"id": [1, 2], "vector": [[1.0], None]}, "without a vector of floats"),
        ({"id": [1, 2], "vector": [[1.0], [None]]}, "without a vector of floats"),
        ({"id": [1, 2, 3], "vector": [[1.0], [2.0], [1.0, 2.0]]}, "row 2 of .* another length"),
        ({"id": ["a", None], "vector": [[1.0], [2.0]]}, "row 1 of .* has no id"),
        ({"id": ["a", "a"], "vector": [[1.0], [2.0]]}, "holds id 'a' twice"),
        ({"id": pa.array([], pa.int64()), "vector": pa.array([], pa.list_(pa.float32()))}, "shape"),
    ],
)
def test_parquet_of_the_wrong_columns(tmp_path: Path, columns: dict, said: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "v.parquet")
    with pytest.raises(InputError, match=said):
        open_encoder(f"vectors:{tmp_path}/v.parquet")


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", some_vectors())
    with pytest.raises(InputError, match=r"there is no file .*nowhere\.npy"):
        open_encoder(f"vectors:{tmp_path}/nowhere.npy")
    (tmp_path / "v.csv").write_text("1,2")
    with pytest.raises(InputError, match=r"v\.csv is not of a kind"):
        open_encoder(f"vectors:{tmp_path}/v.csv")
    with pytest.raises(UsageError, match="columns of a Parquet file"):
        open_encoder(f"vectors:{tmp_path}/v.npy?id=key")
    with pytest.raises(UsageError, match="no option 'prompt'"):
        open_encoder(f"vectors:{tmp_path}/v.npy?prompt=x")


def test_neither_the_package_nor_a_vector_file_loads_torch(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", some_vectors())
    code = (
        "import sys; from vecmigrate.encoders import open_encoder\n"
        f"open_encoder('vectors:{tmp_path}/v.npy').encode(None, ids=[1])\n"
        "print(sorted({'torch', 'sentence_transformers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
