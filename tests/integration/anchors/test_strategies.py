"""Strategies that choose anchors, and collections that keep their true vectors."""

from __future__ import annotations

import numpy as np
import pytest
from support.corpus import NEW_DIM, OLD_DIM, Corpus, N, unit

from vecmigrate import (
    KernelRidge,
    draw_anchors,
    migrate,
    open_encoder,
    open_source,
    save_translator,
)
from vecmigrate.anchors import AnchorSet, Strategy
from vecmigrate.anchors.strategy import choose_anchors
from vecmigrate.connector import ENCODED, ORIGIN_FIELD, TRANSLATED, EncoderIdentity, VectorBatch
from vecmigrate.errors import MismatchError, UsageError

NEW = EncoderIdentity(name="new-model", dimension=NEW_DIM, normalized=True)


def draw(corpus: Corpus, size: int = 120, **kwargs: object) -> AnchorSet:
    with open_source(corpus.source) as source:
        return draw_anchors(
            source, open_encoder(corpus.encoder), corpus.folder / "anchors", size=size, **kwargs
        )  # fmt: skip


def test_kmeans_is_the_default_and_seeded(corpus: Corpus) -> None:
    first = draw(corpus, seed=1)
    assert first.card.strategy is Strategy.KMEANS
    (corpus.folder / "anchors").unlink()
    assert draw(corpus, seed=1).ids.tolist() == first.ids.tolist()
    (corpus.folder / "anchors").unlink()
    assert draw(corpus, seed=1, strategy="uniform").ids.tolist() != first.ids.tolist()


def test_queries_draw_anchors_near_to_them() -> None:
    rng = np.random.default_rng(0)
    points = unit(rng.standard_normal((2000, OLD_DIM)))
    queries = unit(points[:30] + 0.05 * rng.standard_normal((30, OLD_DIM)))
    batches = [VectorBatch(np.arange(2000), points)]
    nearness = {}
    for strategy in (Strategy.UNIFORM, Strategy.QUERIES):
        chosen = choose_anchors(batches, 200, strategy, 0, queries)
        assert chosen is not None
        assert len(set(chosen.ids.tolist())) == 200
        nearness[strategy] = (queries @ chosen.vectors.T).max(axis=1).mean()
    assert nearness[Strategy.QUERIES] > 0.9 > nearness[Strategy.UNIFORM]


def test_queries_and_their_strategy_belong_together(corpus: Corpus) -> None:
    with pytest.raises(UsageError, match="belong together"):
        draw(corpus, strategy="queries")
    with pytest.raises(UsageError, match="belong together"):
        draw(corpus, queries=corpus.old[:5])
    with pytest.raises(MismatchError, match="24 dimensions"):
        draw(corpus, strategy="queries", queries=corpus.new[:5])


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
@pytest.mark.parametrize("scale", [1.0, 0.9])
def test_kept_anchors_hold_true_vectors_and_the_rest_score_at_the_scale(
    corpus: Corpus, store: str, scale: float
) -> None:
    folder = corpus.folder
    anchors = draw(corpus)
    translator = KernelRidge().fit(anchors.source_vectors, anchors.target_vectors)
    save_translator(translator, folder / "t", target_encoder=NEW, mixing_scale=scale)
    target = f"faiss:{folder}/new.faiss" if store == "faiss" else f"qdrant:{folder}/q/new"
    result = migrate(corpus.source, target, folder / "t", keep_anchors=folder / "anchors")
    assert (result.written, result.kept_anchors) == (N, 120)
    plain = translator.transform(corpus.old)
    queries = corpus.new[:50]
    known = set(anchors.ids.tolist())
    with open_source(target) as source:
        for batch in source.batches(N):
            assert batch.payloads is not None
            for row, point_id in enumerate(batch.ids.tolist()):
                payload, vector = batch.payloads[row], batch.vectors[row]
                assert payload["text"] == f"text number {point_id}"
                assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)
                if point_id in known:
                    assert payload[ORIGIN_FIELD] == ENCODED
                    np.testing.assert_allclose(vector, corpus.new[point_id], atol=1e-6)
                else:
                    assert payload[ORIGIN_FIELD] == TRANSLATED
                    scores = scale * plain[point_id] @ queries.T
                    # This corpus fills 16 of 24 dimensions: the tilt goes where no query looks.
                    np.testing.assert_allclose(vector @ queries.T, scores, atol=0.05)


def test_anchors_of_another_encoder_are_not_kept(corpus: Corpus) -> None:
    anchors = draw(corpus)
    translator = KernelRidge().fit(anchors.source_vectors, anchors.target_vectors)
    other = NEW.model_copy(update={"name": "other"})
    save_translator(translator, corpus.folder / "t", target_encoder=other)
    with pytest.raises(MismatchError, match="embedded by new-model"):
        migrate(
            corpus.source, f"faiss:{corpus.folder}/new.faiss", corpus.folder / "t",
            keep_anchors=anchors,
        )  # fmt: skip
    with pytest.raises(UsageError, match="translator file"):
        migrate(corpus.source, f"faiss:{corpus.folder}/new.faiss", translator, keep_anchors=anchors)
