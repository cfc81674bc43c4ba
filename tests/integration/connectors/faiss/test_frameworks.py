"""FAISS folders that LangChain and LlamaIndex saved, and pickles that are something else.

The folders were written by the frameworks: see data/make_framework_folders.py.
"""

from __future__ import annotations

import datetime
import json
import pickle
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.faiss.indexes import make_index, save

from vecmigrate import open_sink, open_source
from vecmigrate.connector import IdKind, InputError, TargetSpec

COUNT = 2010
VECTORS = np.random.default_rng(8).standard_normal((COUNT, 8)).astype("float32")


def name(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    zipfile.ZipFile(Path(__file__).parents[3] / "data" / "framework_folders.zip").extractall(
        tmp_path
    )
    return tmp_path


def langchain_payload(number: int) -> dict[str, Any]:
    metadata = {"page": number, "tags": ["a", number % 3], "added": "2026-11-25"}
    return {"page_content": f"text {number}", "metadata": metadata}


def llamaindex_payload(number: int) -> dict[str, Any]:
    metadata = {"page": number}
    return {"text": f"text {number}", "metadata": metadata, "ref_doc_id": f"doc {number // 10}"}


@pytest.mark.parametrize("uri", ["langchain", "langchain/index.faiss"])
def test_langchain(folders: Path, uri: str) -> None:
    """The first five documents were deleted."""
    _check(f"faiss:{folders / uri}", range(5, COUNT), langchain_payload, "page_content")


@pytest.mark.parametrize("uri", ["llamaindex", "llamaindex/default__vector_store.json"])
def test_llamaindex(folders: Path, uri: str) -> None:
    _check(f"faiss:{folders / uri}", range(COUNT), llamaindex_payload, "text")


def _check(uri: str, numbers: range, payload: Any, text_field: str) -> None:
    with open_source(uri) as source:
        described = source.describe()
        assert (described.count, described.id_kind) == (len(numbers), IdKind.UUID)
        assert described.text_field == text_field
        batches = list(source.batches(300))
        assert [i for b in batches for i in b.ids] == [name(n) for n in numbers]
        assert [p for b in batches for p in b.each_payload()] == [payload(n) for n in numbers]
        read = np.concatenate([b.vectors for b in batches])
        np.testing.assert_array_equal(read, VECTORS[list(numbers)])
        some = source.fetch([name(99), name(7)])
        np.testing.assert_array_equal(some.vectors, VECTORS[[99, 7]])
        assert source.texts([name(8)]) == ["text 8"]


def test_a_folder_goes_to_a_file_and_a_collection(folders: Path) -> None:
    """All that was in the pickle is in what is written, and nothing of it needs the pickle."""
    for target in (f"faiss:{folders / 'new.faiss'}", f"qdrant:{folders / 'q'}/new"):
        with open_source(f"faiss:{folders / 'langchain'}") as source:
            with open_sink(target, TargetSpec.like(source.describe())) as sink:
                for batch in source.batches(500):
                    sink.write(batch)
                sink.finish()
            wanted = [name(n) for n in (2000, 5, 77)]
            before = source.fetch(wanted)
        with open_source(target) as again:
            assert again.describe().count == COUNT - 5
            after = again.fetch(wanted)
        np.testing.assert_array_equal(after.vectors, before.vectors)
        assert after.each_payload() == before.each_payload()


class _Runs:
    """Unpickled in the usual way, this makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def _by_opcode(path: Path) -> bytes:
    command = f"__import__('pathlib').Path({str(path)!r}).touch()"
    return b"\x80\x02cbuiltins\neval\n(V" + command.encode() + b"\ntR."


@pytest.mark.parametrize("form", ["reduce", "eval", "in metadata", "setstate"])
def test_a_hostile_pickle_runs_nothing(folders: Path, form: str) -> None:
    ran, target = folders / "ran", folders / "langchain" / "index.pkl"
    if form == "eval":
        hostile = _by_opcode(ran)
    elif form == "setstate":
        held = b"clangchain_core.documents.base\nDocument\n)\x81"
        hostile = b"\x80\x02" + held + _by_opcode(ran)[2:-1] + b"b."
    else:
        hostile = pickle.dumps(_Runs(ran) if form == "reduce" else ({}, {0: [_Runs(ran)]}))
    pickle.loads(hostile) if form != "setstate" else None
    assert ran.exists() is (form != "setstate")
    ran.unlink(missing_ok=True)
    target.write_bytes(hostile)
    with pytest.raises(InputError, match=r"index\.pkl cannot be read .*it needs") as caught:
        open_source(f"faiss:{folders / 'langchain'}")
    assert not ran.exists()
    assert "JSONL" in str(caught.value)


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ("words", "something else"),
        (({}, {}), "something else"),
        ({"a": datetime.date(2026, 1, 1)}, "something else"),
    ],
)
def test_a_pickle_of_something_else_is_refused(folders: Path, saved: object, said: str) -> None:
    (folders / "langchain" / "index.pkl").write_bytes(pickle.dumps(saved))
    with pytest.raises(InputError, match=said):
        open_source(f"faiss:{folders / 'langchain'}")


@pytest.mark.parametrize("keep", [1, 200, 100_000])
def test_a_pickle_cut_short_is_refused(folders: Path, keep: int) -> None:
    path = folders / "langchain" / "index.pkl"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"index\.pkl"):
        open_source(f"faiss:{folders / 'langchain'}")


def test_a_persist_directory_that_is_not_whole_is_refused(folders: Path) -> None:
    uri, folder = f"faiss:{folders / 'llamaindex'}", folders / "llamaindex"
    docstore = json.loads((folder / "docstore.json").read_text())
    docstore["docstore/data"].pop(name(4))
    (folder / "docstore.json").write_text(json.dumps(docstore))
    with pytest.raises(InputError, match=f"no node '{name(4)}'"):
        open_source(uri)
    (folder / "index_store.json").rename(folders / "elsewhere.json")
    with pytest.raises(InputError, match=r"index_store\.json cannot be read"):
        open_source(uri)


def test_a_folder_without_one_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no FAISS index"):
        open_source(f"faiss:{tmp_path}")
    for file in ("a.faiss", "b.faiss"):
        save(make_index("Flat"), tmp_path / file)
    with pytest.raises(InputError, match=r"several.*a\.faiss, .*b\.faiss"):
        open_source(f"faiss:{tmp_path}")
