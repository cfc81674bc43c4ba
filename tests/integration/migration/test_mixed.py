"""Targets of which a share is the new encoder's own and the rest translated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.crash import OTHER_PAIRS, PAIRS, migrate_with_kills, place
from support.crash import contents as raw_contents
from support.embedding_server import EmbeddingServer, Reply
from support.live import NEW, Job, N, contents, editing, make, points

from vecmigrate import load_translator, migrate
from vecmigrate.connector import ORIGIN_FIELD
from vecmigrate.encoders import BudgetSpentError, EmbeddingStore, open_encoder
from vecmigrate.encoders.constancy import COMPARED
from vecmigrate.encoders.metered import EMBEDDINGS_FOLDER, text_keys
from vecmigrate.errors import MismatchError, UsageError
from vecmigrate.migration import MigrationResult
from vecmigrate.state.ledger import Origin, ledger_path, open_ledger
from vecmigrate.verification import verify

ANCHORS = 60
REQUEST, IN_FLIGHT = 5, 2


def name_of(server: EmbeddingServer) -> str:
    options = f"&dimensions={NEW}&normalize=true&batch_size={REQUEST}&in_flight={IN_FLIGHT}"
    return server.name(options).replace("model-a", "new-model")


def mixed(job: Job, name: str, **more: Any) -> tuple[Job, MigrationResult]:
    target = replace(job, target=place("faiss", job.folder, name))
    given = {"keep_anchors": job.folder / "a.parquet", "encoder": job.encoder, **more}
    return target, migrate(job.source, target.target, job.translator, state=job.state, **given)


def native_in(uri: str) -> set[int]:
    marks = {i: payload[ORIGIN_FIELD] for i, (_, payload) in contents(uri).items()}
    assert set(marks.values()) <= {"encoded", "translated"}
    return {i for i, mark in marks.items() if mark == "encoded"}


def variances(job: Job) -> dict[int, float]:
    fitted = load_translator(job.translator)
    _, told = fitted.transform_with_variance(fitted.inputs(job.old[:N], None))
    return dict(enumerate(told.tolist()))


def check_vectors(job: Job, there: Job, native: set[int]) -> None:
    """Native points have the encoder's vectors, and the others those beside kept anchors."""
    translated, found = contents(job.target), contents(there.target)
    for i, (vector, _) in found.items():
        expected = job.new[i] if i in native else translated[i][0]
        np.testing.assert_allclose(vector, expected, atol=1e-6)


@pytest.mark.parametrize("share", ["50%", 150, "150"])
def test_the_least_certain_share_is_native(share: str | int, tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True, kernel=True)
    there, result = mixed(job, "mixed", reembed=share)
    told = variances(job)
    rest = sorted(set(range(ANCHORS, N)), key=lambda i: -told[i])
    assert native_in(there.target) == set(range(ANCHORS)) | set(rest[: 150 - ANCHORS])
    assert result.kept_anchors == 150
    check_vectors(job, there, native_in(there.target))
    with open_ledger(ledger_path(job.state, there.target)) as ledger:
        origins = ledger.origins()
    assert (origins[Origin.ENCODED], origins[Origin.TRANSLATED]) == (150, 150)
    kept = tmp_path / "a.parquet"
    found = verify(job.source, there.target, job.translator, keep_anchors=kept, full=True)
    assert found.passed, found.failures
    found = verify(job.source, there.target, job.translator, keep_anchors=kept, encoder=job.encoder)
    assert found.passed, found.failures
    compared = {c.name: c.figures["compared"] for c in found.checks if "vectors" in c.name}
    assert compared == {"vectors": 210, "native vectors": 90}


def test_texts_that_the_encoder_does_not_take_are_translated(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    job = make(tmp_path, anchors=True, kernel=True)
    texts = {i: payload["text"] for i, (_, payload) in contents(job.source).items()}
    given: dict[str, Any] = {"reembed": "50%", "encoder": name_of(server)}
    there, _ = mixed(job, "whole", **given)
    taken = sorted(native_in(there.target) - set(range(ANCHORS)))
    long = {texts[i] for i in taken[:3]}
    server.rule = lambda body: (
        Reply(400, {"error": {"message": "too long"}}) if long & set(body["input"]) else None
    )
    there, result = mixed(job, "mixed", **given)
    assert set(result.refused_ids) == set(taken[:3])
    assert result.skipped_ids == []
    assert native_in(there.target) == set(range(ANCHORS)) | set(taken[3:])


def test_a_map_that_tells_no_variance_goes_by_the_nearest_anchor(tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True)
    there, _ = mixed(job, "mixed", reembed=100)
    far = 1 - (job.old[:N] @ job.old[:ANCHORS].T).max(axis=1)
    rest = sorted(range(ANCHORS, N), key=lambda i: -far[i])
    chosen = native_in(there.target) - set(range(ANCHORS))
    assert len(chosen) == 40
    assert len(chosen - set(rest[:42])) == 0


def test_what_queries_find_comes_first(tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True, kernel=True)
    np.save(tmp_path / "q.npy", np.repeat(job.new[[200]], 50, axis=0))
    there, _ = mixed(job, "mixed", reembed=66, order="traffic", queries=tmp_path / "q.npy")
    fitted, told = load_translator(job.translator), variances(job)
    translated = fitted.transform(fitted.inputs(job.old[:N], None))
    near = set(np.argsort(-(translated @ job.new[200]))[:10].tolist()) - set(range(ANCHORS))
    best = sorted(
        told.keys() - set(range(ANCHORS)), key=lambda i: -told[i] * (51 if i in near else 1)
    )
    assert native_in(there.target) == set(range(ANCHORS)) | set(best[:6])
    assert near & set(best[:6])


@pytest.mark.parametrize(("share", "paid"), [("20%", 0), ("60%", 20)])
def test_all_that_was_bought_is_native_and_the_rest_of_the_share_is_chosen(
    share: str, paid: int, server: EmbeddingServer, tmp_path: Path
) -> None:
    job = make(tmp_path, anchors=True, kernel=True)
    encoder = open_encoder(name_of(server))
    store = EmbeddingStore(tmp_path / "report" / EMBEDDINGS_FOLDER, encoder.identity, "document")
    ids = np.arange(100, 200)
    texts = [f"text number {i}" for i in ids.tolist()]
    store.keep(text_keys(ids, texts), encoder.encode(texts), ids)
    server.seen.clear()
    there, result = mixed(
        job, "mixed", reembed=share, encoder=name_of(server), reuse=[tmp_path / "report"]
    )
    native = native_in(there.target)
    assert native >= set(range(ANCHORS)) | set(ids.tolist())
    assert len(native) == result.kept_anchors == ANCHORS + len(ids) + paid
    assert server.asked().total() == paid


def test_any_share_may_be_drawn(tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True)
    chosen = [
        native_in(mixed(job, f"m{n}", reembed=n, order="random")[0].target) for n in (90, 180)
    ]
    assert [len(each) for each in chosen] == [90, 180]
    assert chosen[0] < chosen[1]
    assert max(chosen[0]) - min(chosen[0] - set(range(ANCHORS))) > 150
    assert native_in(mixed(job, "none", reembed="10%")[0].target) == set(range(ANCHORS))
    assert native_in(mixed(job, "all", reembed="100%")[0].target) == set(range(N))


def test_sync_goes_on_until_it_is_native(tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True, kernel=True)
    there, _ = mixed(job, "mixed", reembed="40%")
    with editing(job.source) as source:
        source.upsert(points(job.old, [N, N + 1]))
    asked: dict[str, Any] = {"keep_anchors": tmp_path / "a.parquet", "encoder": there.encoder}
    counts = [
        (done.native, done.reembedded)
        for done in (there.run(reembed_budget="100 texts", **asked) for _ in range(3))
    ]
    assert counts == [(2, 98), (0, 82), (0, 0)]
    assert there.status().is_native
    check_vectors(job, there, set(range(N + 2)))


@pytest.mark.parametrize(("old", "new"), [*PAIRS, *OTHER_PAIRS])
def test_killed_at_random_it_ends_like_one_that_was_not(
    old: str, new: str, server: EmbeddingServer, tmp_path: Path
) -> None:
    job = make(tmp_path, old, anchors=True, kernel=True)
    more = [
        "--encoder", name_of(server), "--reembed", "50%", "--keep-anchors", f"{tmp_path}/a.parquet",
    ]  # fmt: skip
    whole, killed = place(new, tmp_path, "whole"), place(new, tmp_path, "killed")
    result = migrate(
        job.source, whole, job.translator, encoder=name_of(server), reembed="50%", batch_size=15,
        keep_anchors=tmp_path / "a.parquet",
    )  # fmt: skip
    assert result.kept_anchors == 150
    once = server.asked().total()
    server.seen.clear()
    landed, last = migrate_with_kills(
        job.source, killed, job.translator, job.state,
        kills=3, points=N, seed=11, batch=15, more=more,
    )  # fmt: skip
    assert landed
    assert raw_contents(killed) == raw_contents(whole)
    assert last["kept_anchors"] == 150
    assert once == 90
    assert once <= server.asked().total() <= once + landed * (IN_FLIGHT * REQUEST + COMPARED)


def test_it_is_continued_with_the_same_share_alone(server: EmbeddingServer, tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True, kernel=True)
    given: dict[str, Any] = {
        "reembed": "50%", "encoder": name_of(server), "batch_size": 15, "checkpoint_seconds": 0,
    }  # fmt: skip
    with pytest.raises(BudgetSpentError):
        mixed(job, "mixed", budget=40, **given)
    with pytest.raises(MismatchError, match="--reembed"):
        mixed(job, "mixed", **{**given, "reembed": "60%"})
    with pytest.raises(MismatchError, match="--order"):
        mixed(job, "mixed", order="random", **given)
    there, result = mixed(job, "mixed", **given)
    assert result.continued_after
    assert len(native_in(there.target)) == 150
    assert server.asked().total() == 90 + COMPARED


@pytest.mark.parametrize(
    "options",
    [
        {"keep_anchors": None},
        {"reembed": "recall=0.9"},
        {"reembed": "recall=2"},
        {"reembed": "101%"},
        {"reembed": "1.5"},
        {"order": "traffic"},
        {"reembed": None},
        {"encoder": None},
    ],
)
def test_what_cannot_be_done_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True)
    with pytest.raises(UsageError):
        mixed(job, "mixed", **{"reembed": "20%", **options})
    assert not (tmp_path / "mixed.faiss").exists()
