"""Drawing anchors: what is drawn, kept, resumed and refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.corpus import NEW_DIM, OLD_DIM, Corpus, N
from support.embedding_server import EmbeddingServer, Reply
from support.live import editing, make
from support.qdrant.edge_places import STORES, copied

from vecmigrate import draw_anchors, load_anchors, open_encoder, open_source
from vecmigrate.anchors import AnchorSet
from vecmigrate.connector import EncoderIdentity, Metric
from vecmigrate.encoders import Encoder
from vecmigrate.errors import (
    BadVectorError,
    InputError,
    MismatchError,
    TargetExistsError,
    UnreachableError,
)


class CountingEncoder:
    """A real encoder of the tests: a text's number, hashed into a vector; may fail when told."""

    needs_texts = True
    identity = EncoderIdentity(name="counting", dimension=3, normalized=False)

    def __init__(self, fail_after: int | None = None) -> None:
        self.encoded: list[str] = []
        self.fail_after = fail_after

    def encode(self, texts: Sequence[str] | None, **_: Any) -> np.ndarray:
        assert texts is not None
        if self.fail_after is not None and len(self.encoded) >= self.fail_after:
            raise UnreachableError("the encoder is gone", remedy="Try again.")
        self.encoded += texts
        numbers = [int(text.split()[-1]) for text in texts]
        return np.array([[n + 1, n**2, 1] for n in numbers], np.float32)


def draw(corpus: Corpus, size: int, encoder: Encoder | None = None, **kwargs: Any) -> AnchorSet:
    with open_source(corpus.source) as source:
        return draw_anchors(
            source,
            encoder or open_encoder(corpus.encoder),
            corpus.folder / "anchors.parquet",
            size=size,
            **kwargs,
        )


@pytest.mark.parametrize("store", STORES)
def test_anchors_hold_both_vectors_of_a_uniform_sample(corpus: Corpus, store: str) -> None:
    corpus = replace(corpus, source=copied(corpus.source, store, corpus.folder))
    old = EncoderIdentity(name="old-model", dimension=OLD_DIM)
    drawn = draw(corpus, 100, seed=3, source_encoder=old)
    loaded = load_anchors(corpus.folder / "anchors.parquet")
    for anchors in (drawn, loaded):
        assert len(set(anchors.ids.tolist())) == 100
        np.testing.assert_array_equal(anchors.source_vectors, corpus.old[anchors.ids])
        np.testing.assert_array_equal(anchors.target_vectors, corpus.new[anchors.ids])
        assert (anchors.card.population, anchors.card.seed) == (N, 3)
        assert anchors.card.metric is Metric.DOT
        assert anchors.card.source_encoder == old
        assert anchors.card.target_encoder.name == "new-model"
        assert anchors.card.target_encoder.dimension == NEW_DIM
    assert not (corpus.folder / "anchors.parquet.partial").exists()


def test_a_seed_draws_the_same_anchors(corpus: Corpus) -> None:
    first = draw(corpus, 50, seed=1).ids.tolist()
    (corpus.folder / "anchors.parquet").unlink()
    assert draw(corpus, 50, seed=1).ids.tolist() == first


def test_texts_are_those_of_the_ids(corpus: Corpus) -> None:
    anchors = draw(corpus, 60, CountingEncoder(), batch_size=25)
    np.testing.assert_array_equal(anchors.target_vectors[:, 0], anchors.ids + 1)


def test_a_draw_that_stopped_continues_and_ends_the_same(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError):
        draw(corpus, 100, CountingEncoder(fail_after=40), batch_size=20)
    assert not (corpus.folder / "anchors.parquet").exists()
    second = CountingEncoder()
    resumed = draw(corpus, 100, second, batch_size=20)
    assert len(second.encoded) == 60
    (corpus.folder / "anchors.parquet").unlink()
    whole = draw(corpus, 100, CountingEncoder(), batch_size=20)
    assert resumed.ids.tolist() == whole.ids.tolist()
    np.testing.assert_array_equal(resumed.target_vectors, whole.target_vectors)


def test_points_that_vanish_meanwhile_are_left_out(corpus: Corpus) -> None:
    (folder := corpus.folder / "live").mkdir()
    live = replace(corpus, source=make(folder).source)
    with pytest.raises(UnreachableError):
        draw(live, 100, CountingEncoder(fail_after=40), batch_size=20)
    gone = np.arange(150)
    with editing(live.source) as updater:
        updater.delete(gone)
    anchors = draw(live, 100, CountingEncoder(), batch_size=20)
    assert 0 < len(anchors.ids) < 100
    assert not set(anchors.ids.tolist()) & set(gone.tolist())
    np.testing.assert_array_equal(anchors.target_vectors[:, 0], anchors.ids + 1)


def test_of_an_endpoint_a_stopped_draw_keeps_each_request(
    corpus: Corpus, server: EmbeddingServer
) -> None:
    name = server.name("&batch_size=8&in_flight=2&max_retries=0")
    answered = 0

    def rule(body: dict[str, Any]) -> Reply | None:
        nonlocal answered
        answered += 1
        return Reply(500) if answered > 6 else None

    server.rule = rule
    with pytest.raises(UnreachableError):
        draw(corpus, 100, open_encoder(name))
    paid = server.asked().total()
    assert paid >= 16
    server.rule = lambda body: None
    assert len(draw(corpus, 100, open_encoder(name))) == 100
    assert server.asked().total() == len(server.asked()) == 100


@pytest.mark.parametrize("change", [{"seed": 1}, {"size": 90}, {"batch_size": 10}])
def test_another_request_does_not_continue_it(corpus: Corpus, change: dict[str, Any]) -> None:
    with pytest.raises(UnreachableError):
        draw(corpus, 100, CountingEncoder(fail_after=40), batch_size=20)
    request = {"size": 100, "batch_size": 20, **change}
    with pytest.raises(MismatchError, match=rf"other settings.*{next(iter(change))}"):
        draw(corpus, request.pop("size"), CountingEncoder(), **request)


def test_another_encoder_does_not_continue_it(corpus: Corpus) -> None:
    with pytest.raises(UnreachableError):
        draw(corpus, 100, CountingEncoder(fail_after=40), batch_size=20)
    with pytest.raises(MismatchError, match="target_encoder"):
        draw(corpus, 100, batch_size=20)


def test_an_existing_file_is_not_replaced(corpus: Corpus) -> None:
    (corpus.folder / "anchors.parquet").write_text("precious")
    with pytest.raises(TargetExistsError):
        draw(corpus, 10)
    assert (corpus.folder / "anchors.parquet").read_text() == "precious"


def test_more_anchors_than_points_are_refused(corpus: Corpus) -> None:
    with pytest.raises(InputError, match=f"holds {N} usable points, fewer than the {N + 1}"):
        draw(corpus, N + 1)


def test_missing_texts_are_named_or_left_out(corpus: Corpus) -> None:
    sidecar = corpus.folder / "old.jsonl"
    lines = sidecar.read_text().splitlines(keepends=True)
    lines[7] = '{"id": 7, "text": "  "}\n'
    del lines[9]
    sidecar.write_text("".join(lines))
    with pytest.raises(InputError, match="no text for ids"):
        draw(corpus, N, CountingEncoder())
    anchors = draw(corpus, N, CountingEncoder(), on_missing_text="skip")
    assert set(range(N)) - set(anchors.ids.tolist()) == {7, 9}


def test_no_text_at_all_is_refused(corpus: Corpus) -> None:
    (corpus.folder / "old.jsonl").unlink()
    with pytest.raises(InputError, match="no payload field that holds the text"):
        draw(corpus, 10, CountingEncoder())


def test_bad_vectors_are_refused_or_never_drawn(corpus: Corpus) -> None:
    old = corpus.old.copy()
    old[5], old[6, 0] = 0, np.nan
    index = faiss.IndexFlatIP(OLD_DIM)
    index.add(old)
    faiss.write_index(index, str(corpus.folder / "old.faiss"))
    with pytest.raises(BadVectorError, match=r"5, 6"):
        draw(corpus, 10)
    anchors = draw(corpus, N - 2, on_bad_vector="skip")
    assert set(range(N)) - set(anchors.ids.tolist()) == {5, 6}
    assert anchors.card.population == N - 2


def test_a_source_encoder_of_another_dimension_is_refused(corpus: Corpus) -> None:
    with pytest.raises(MismatchError, match="holds 16 dimensions"):
        draw(corpus, 10, source_encoder=EncoderIdentity(name="other", dimension=99))


def test_a_file_that_holds_no_anchors_is_refused(corpus: Corpus) -> None:
    other = corpus.folder / "other.parquet"
    pq.write_table(pa.table({"id": [1, 2]}), other)
    for path in (other, corpus.folder / "old.faiss"):
        with pytest.raises(InputError, match="not an anchor file"):
            load_anchors(path)
    with pytest.raises(InputError, match="does not exist"):
        load_anchors(corpus.folder / "nowhere.parquet")
