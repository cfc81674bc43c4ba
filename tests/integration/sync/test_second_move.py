"""What an earlier migration wrote is a source like any other, whatever its points say of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.crash import place
from support.embedding_server import EmbeddingServer
from support.live import Job, N, contents, editing, make, points

from vecmigrate import Procrustes, migrate, save_translator
from vecmigrate.connector import ORIGIN_FIELD
from vecmigrate.sync import sync
from vecmigrate.verification import verify


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("route", ["re-embed", "translate"])
@pytest.mark.parametrize("store", ["faiss", "qdrant", "lancedb", "parquet"])
def test_it_is_kept_in_step(
    store: str, route: str, shared: bool, server: EmbeddingServer, tmp_path: Path
) -> None:
    first = make(tmp_path, "faiss", store, anchors=True)
    second = Job(tmp_path, first.target, place(store, tmp_path, "second"), first.new, first.old)
    translator, encoder = tmp_path / "back.safetensors", None
    save_translator(Procrustes().fit(first.new, first.old), translator)
    if route == "re-embed":
        encoder = server.name("&dimensions=12&normalize=true")
    made_by = None if encoder else translator
    migrate(second.source, second.target, made_by, encoder=encoder, state=second.state)
    marks = {payload.get(ORIGIN_FIELD) for _, payload in contents(second.target).values()}
    assert marks == {"encoded" if encoder else None}
    with editing(second.source) as source:
        source.upsert(points(first.new, [1, 2, 3], text="another one"))
        source.upsert(points(first.new, [N]))
        source.delete(np.array([7]))
    done = sync(
        second.source, second.target, made_by, second.state, encoder=encoder, shared_target=shared
    )
    assert (done.arrived, done.changed, done.vanished) == (1, 3, 1)
    found = contents(second.target)
    assert set(found) == set(range(N + 1)) - {7}
    assert {found[i][1]["text"] for i in (1, 2, 3)} == {"another one"}
    verified = verify(second.source, second.target, made_by, encoder=encoder, state=second.state)
    assert verified.passed, verified.failures
    vectors = next(check for check in verified.checks if check.name.endswith("vectors"))
    assert vectors.figures["compared"]
