"""Points that are gone since they were listed cost one more request, however many there are."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from vecmigrate import open_source
from vecmigrate.connector import MissingIdsError
from vecmigrate.connector.source import fetch_there


def test_what_is_there_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(4))
    index.add_with_ids(np.eye(50, 4, dtype=np.float32) + 1, 2 * np.arange(50))
    faiss.write_index(index, str(tmp_path / "even.faiss"))
    asked: list[int] = []
    with open_source(f"faiss:{tmp_path}/even.faiss") as source:
        fetch = source.fetch

        def counted(ids: Any) -> Any:
            asked.append(len(ids))
            return fetch(ids)

        monkeypatch.setattr(source, "fetch", counted)
        found = fetch_there(source, np.arange(100))
        assert [i for batch in found for i in batch.ids.tolist()] == list(range(0, 100, 2))
        assert asked == [100, 50]
        assert fetch_there(source, np.array([1, 3])) == []


def test_the_ids_come_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(MissingIdsError("m", remedy="r.", missing=[3, "a"])))
    assert (error.message, error.remedy, error.missing) == ("m", "r.", {3, "a"})
