"""A search in two stages returns what full re-embedding would, and pays for each text once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.crash import STORES, place
from support.embedding_server import EmbeddingServer
from support.live import IDENTITY, NEW, Job, N, contents, editing, make, points
from support.qdrant.places import open_place
from typer.testing import CliRunner

from vecmigrate import migrate, open_searcher
from vecmigrate.cli import app
from vecmigrate.connector import ORIGIN_FIELD, EncoderIdentity, IdArray, PointId
from vecmigrate.cutover import cut_over
from vecmigrate.encoders import EncoderRole
from vecmigrate.errors import ExitCode, MismatchError, UnreachableError, UsageError
from vecmigrate.search import Ranking, Unranked, prewarm
from vecmigrate.state.file import open_records
from vecmigrate.verification import verify


class TextEncoder:
    """Encodes the texts of :func:`support.live.make`, and queries for them; counts its texts."""

    needs_texts = True
    identity = IDENTITY
    in_flight = 2
    texts_at_once = 16

    def __init__(self, job: Job) -> None:
        self._vectors = job.new
        self.asked: Counter[str] = Counter()
        self.before: Callable[[EncoderRole], None] = lambda role: None

    def encode(
        self,
        texts: Sequence[str] | None,
        *,
        ids: Sequence[PointId] | IdArray | None = None,
        role: EncoderRole = "document",
    ) -> np.ndarray:
        assert texts is not None
        self.before(role)
        self.asked.update(text for text in texts if role == "document")
        rows = [int(text.split()[-1]) for text in texts]
        vectors = self._vectors[rows]
        return vectors if role == "document" else vectors + 0.3 * np.roll(vectors, 1, axis=1)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make(tmp_path, anchors=True)


def truth(job: Job, about: int, k: int = 10) -> list[int]:
    """The points that a native collection would return."""
    query = job.new[about] + 0.3 * np.roll(job.new[about], 1)
    scores = job.new[:N] @ query
    return np.argsort(-scores)[:k].tolist()


def searching(job: Job, encoder: TextEncoder, **options: Any) -> Any:
    return open_searcher(job.target, encoder, state=job.state, **{"write_back": "0", **options})


@pytest.mark.parametrize("store", STORES)
def test_all_candidates_ranked_anew_are_what_re_embedding_returns(
    store: str, tmp_path: Path
) -> None:
    job = make(tmp_path, "faiss", store, anchors=True)
    encoder = TextEncoder(job)
    with searching(job, encoder, candidates=N) as searcher:
        for about in (3, 77, 290):
            found = searcher.search(f"query {about}")
            assert [hit.id for hit in found.hits] == truth(job, about)
            assert (found.ranking, found.why) == (Ranking.TRUE, frozenset())
            assert found.hits[0].payload["text"].startswith("text number")
            assert all(hit.is_true for hit in found.hits)
            query = job.new[about] + 0.3 * np.roll(job.new[about], 1)
            best = job.new[found.hits[0].id] @ query / np.linalg.norm(query)
            assert found.hits[0].score == pytest.approx(best, abs=1e-5)
    # The anchors, and each text once.
    assert len(encoder.asked) == N - 60
    assert set(encoder.asked.values()) == {1}


def test_fewer_candidates_cost_less_and_find_most(job: Job) -> None:
    encoder = TextEncoder(job)
    kept: dict[int, float] = {}
    for depth in (10, 40):
        with searching(job, encoder, candidates=depth) as searcher:
            found = [searcher.search(f"query {about}", 5) for about in range(0, N, 10)]
        hits = [
            len({hit.id for hit in each.hits} & set(truth(job, about, 5))) / 5
            for each, about in zip(found, range(0, N, 10), strict=True)
        ]
        assert all(each.texts <= depth for each in found)
        kept[depth] = float(np.mean(hits))
    assert 0.3 < kept[10] < kept[40]


def test_what_was_bought_is_not_bought_again(job: Job) -> None:
    encoder = TextEncoder(job)
    with searching(job, encoder, candidates=50) as searcher:
        first, second = (searcher.search("query 5") for _ in range(2))
    with searching(job, encoder, candidates=50) as searcher:
        third = searcher.search("query 5")
    assert 0 < first.texts == sum(encoder.asked.values()) <= 50
    assert first.tokens > 0
    assert (second.texts, third.texts) == (0, 0)
    assert first.hits == second.hits == third.hits


@pytest.mark.parametrize("keeps", [True, False], ids=["with anchors", "translated alone"])
@pytest.mark.parametrize("store", [*STORES, "rest", "grpc"])
def test_what_queries_bought_becomes_the_collection_s_own(
    store: str, keeps: bool, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        job = make(tmp_path, "faiss", "faiss", anchors=True)
        kept = tmp_path / "a.parquet" if keeps else None
        if store in ("rest", "grpc"):
            there = stack.enter_context(open_place(store, tmp_path))
            job = replace(job, target=there.uri(there.name()))
        else:
            job = replace(job, target=place(store, tmp_path, "other"))
        migrate(job.source, job.target, job.translator, keep_anchors=kept, state=job.state)
        encoder = TextEncoder(job)
        with searching(job, encoder, candidates=80, write_back="1h") as searcher:
            searcher.search("query 9")
        native = {
            point for point, (_, payload) in contents(job.target).items()
            if payload.get(ORIGIN_FIELD) == "encoded"
        }  # fmt: skip
        bought = {int(text.split()[-1]) for text in encoder.asked}
        assert bought
        assert native == bought | (set(range(60)) if keeps else set())
        status = job.status()
        assert (status.encoded, status.count) == (len(native), N)
        found = verify(
            job.source, job.target, job.translator, keep_anchors=kept, full=True, state=job.state
        )
        assert found.passed, found.failures
        assert job.run(keep_anchors=kept).wrote == 0
        with searching(job, encoder, candidates=10) as searcher:
            assert searcher.search("query 9", 5).texts == 0


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_a_sync_takes_along_what_queries_bought(store: str, tmp_path: Path) -> None:
    job = make(tmp_path, "faiss", store, anchors=True)
    encoder, kept = TextEncoder(job), {"keep_anchors": tmp_path / "a.parquet"}
    with searching(job, encoder, candidates=80) as searcher:
        searcher.search("query 9")
    bought = len(encoder.asked)
    with editing(job.source) as source:
        changed = int(next(iter(encoder.asked)).split()[-1])
        source.upsert(points(job.old, [changed], text="text number 0"))
    done = job.run(**kept)
    assert (done.changed, done.reembedded) == (1, bought - 1)
    assert job.run(**kept).wrote == 0
    found = verify(job.source, job.target, job.translator, **kept, full=True, state=job.state)
    assert found.passed, found.failures


def test_what_queries_bought_is_found_wherever_its_translation_lies(job: Job) -> None:
    encoder, abouts = TextEncoder(job), range(0, N, 10)

    def missed(found: list[Any]) -> int:
        """Of the true ones, without anchors, whose vectors the collection has."""
        wanted = [set(truth(job, about)) - set(range(60)) for about in abouts]
        pairs = zip(found, wanted, strict=True)
        return sum(len(true - {hit.id for hit in each.hits}) for each, true in pairs)

    with searching(job, encoder, candidates=10) as searcher:
        assert missed([searcher.search(f"query {about}") for about in abouts]) > 0
    with searching(job, encoder, candidates=N) as searcher:
        searcher.search("query 9")
    with searching(job, encoder, candidates=10) as searcher:
        found = [searcher.search(f"query {about}") for about in abouts]
    assert missed(found) == 0
    assert {(each.texts, each.candidates, each.ranking) for each in found} == {(0, 10, "true")}
    assert all(hit.is_true and hit.payload["n"] == hit.id for each in found for hit in each.hits)


def test_what_another_searcher_bought_is_found(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vecmigrate.search.kept.LOOK_SECONDS", 0.0)
    encoder = TextEncoder(job)
    with searching(job, encoder, candidates=10) as one, searching(job, encoder) as other:
        before = one.search("query 9", 5)
        for about in range(0, N, 10):
            other.search(f"query {about}")
        after = one.search("query 9", 5)
        assert [hit.id for hit in after.hits] == truth(job, 9, 5)
        assert before.texts > 0
        # What is kept no longer, as after it was written back, is forgotten here as well.
        kept = place_of_queries(job)
        assert kept.execute("DELETE FROM bought").rowcount > 0
        kept.commit()
        kept.close()
        again = [one.search("query 9", 5).texts for _ in range(3)]
        assert max(again) == before.texts


def test_what_was_just_written_back_is_not_bought_again(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The searcher has the index open that was there before.
    monkeypatch.setattr("vecmigrate.search.searcher.FOLLOW_SECONDS", 1e9)
    monkeypatch.setattr("vecmigrate.search.kept.LOOK_SECONDS", 0.0)
    encoder = TextEncoder(job)
    with searching(job, encoder, candidates=40) as searcher:
        first = searcher.search("query 9", 5)
        assert job.run(keep_anchors=job.folder / "a.parquet").reembedded == first.texts
        for _ in range(2):
            found = searcher.search("query 9", 5)
            assert (found.texts, found.hits) == (0, first.hits)
        monkeypatch.setattr("vecmigrate.search.searcher.FOLLOW_SECONDS", 0.0)
        after = searcher.search("query 9", 5)
        assert [hit.id for hit in after.hits] == [hit.id for hit in first.hits]
    assert set(encoder.asked.values()) == {1}


def place_of_queries(job: Job) -> sqlite3.Connection:
    """The file of what queries have bought."""
    [path] = (job.state.parent / "bought").glob("*.sqlite")
    return sqlite3.connect(path)


def test_of_points_that_changed_or_went_what_was_bought_is_not_found(job: Job) -> None:
    encoder = TextEncoder(job)
    with searching(job, encoder, candidates=N) as searcher:
        bought = searcher.search("query 200", 3)
    changed, gone, stays = (hit.id for hit in bought.hits)
    with editing(job.target) as target:
        far = points(job.new, [changed]).with_vectors(np.ascontiguousarray(-job.new[[changed]]))
        target.upsert(
            far.with_payloads([{"text": f"text number {N + 1}", ORIGIN_FIELD: "encoded"}])
        )
        target.delete(np.array([gone]))
    with searching(job, encoder, candidates=3) as searcher:
        found = [hit.id for hit in searcher.search("query 200", 3).hits]
    assert found[0] == stays
    assert not {changed, gone} & set(found)


def test_queries_of_one_moment_share_what_they_buy(job: Job) -> None:
    encoder, begun = TextEncoder(job), threading.Barrier(8)
    with searching(job, encoder, candidates=60) as searcher:

        def ask(_: int) -> Any:
            begun.wait(60)
            return searcher.search("query 9")

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(ask, range(8)))
    assert all(each.hits == found[0].hits for each in found)
    assert set(encoder.asked.values()) == {1}
    assert sum(each.texts for each in found) == len(encoder.asked)


def test_a_query_embeds_as_many_texts_as_it_may(job: Job) -> None:
    encoder = TextEncoder(job)
    with searching(job, encoder, candidates=60, max_texts=7) as searcher:
        found = searcher.search("query 9")
    assert found.texts == len(encoder.asked) == 7
    assert (found.ranking, found.why) == (Ranking.PARTLY, {Unranked.MAX_TEXTS})


@pytest.mark.parametrize("budget", [30, "90 tokens"])
def test_a_day_has_its_budget_over_all_searchers(job: Job, budget: int | str) -> None:
    encoder = TextEncoder(job)
    for about in (1, 100, 200):
        with searching(job, encoder, candidates=40, budget=budget) as searcher:
            found = searcher.search(f"query {about}")
            assert len(found.hits) == 10
    assert Unranked.BUDGET in found.why
    # "text number 12" is four tokens by its characters.
    assert 20 <= sum(encoder.asked.values()) <= 30


def test_a_late_encoder_leaves_the_collection_s_own_ranking(job: Job) -> None:
    encoder, go = TextEncoder(job), threading.Event()
    with searching(job, encoder, candidates=40, max_texts=0) as searcher:
        own = searcher.search("query 9")
    assert own.ranking is not Ranking.TRUE
    encoder.before = lambda role: None if role == "query" else (go.wait(60), None)[1]
    with searching(job, encoder, candidates=40, deadline="0.2s") as searcher:
        late = searcher.search("query 9")
        assert [hit.id for hit in late.hits] == [hit.id for hit in own.hits]
        assert late.why == {Unranked.DEADLINE}
        go.set()
    with searching(job, encoder, candidates=40) as searcher:
        found = searcher.search("query 9")
    assert (found.texts, found.ranking) == (0, Ranking.TRUE)


def test_a_failing_encoder_is_left_alone_and_fails_no_search(job: Job) -> None:
    encoder, calls = TextEncoder(job), 0

    def fail(role: EncoderRole) -> None:
        nonlocal calls
        calls += role == "document"
        if role == "document":
            raise UnreachableError("it is away", remedy="Wait.")

    encoder.before = fail
    vectors = [job.new[about] for about in range(40)]
    with searching(job, encoder, candidates=10, budget=1000) as searcher:
        found = [searcher.search(vector) for vector in vectors]
    assert {each.why for each in found} <= {frozenset({Unranked.ENCODER}), frozenset()}
    assert all(len(each.hits) == 10 and each.ranking is not Ranking.TRUE for each in found[:3])
    assert 3 <= calls <= 6
    # Nothing of the day's budget is gone.
    encoder.before = lambda role: None
    with searching(job, encoder, candidates=N, budget=N) as searcher:
        assert searcher.search(vectors[0]).ranking is Ranking.TRUE


def test_an_encoder_that_cannot_encode_the_query_fails_the_search(job: Job) -> None:
    encoder = TextEncoder(job)

    def fail(role: EncoderRole) -> None:
        raise UnreachableError("it is away", remedy="Wait.")

    encoder.before = fail
    with searching(job, encoder) as searcher, pytest.raises(UnreachableError):
        searcher.search("query 4")


def test_a_native_collection_costs_nothing(job: Job) -> None:
    native = replace(job, target=f"faiss:{job.folder}/native.faiss")
    migrate(job.source, native.target, encoder=job.encoder, state=job.state)
    encoder = TextEncoder(job)
    with searching(native, encoder, candidates=N) as searcher:
        found = searcher.search("query 9")
    assert [hit.id for hit in found.hits] == truth(job, 9)
    assert (found.texts, found.ranking) == (0, Ranking.TRUE)
    assert not encoder.asked


def test_readers_led_elsewhere_are_followed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vecmigrate.search.searcher.FOLLOW_SECONDS", 0.0)
    native = f"faiss:{job.folder}/native.faiss"
    migrate(job.source, native, encoder=job.encoder, state=job.state)
    name, encoder = f"faiss:{job.folder}/name.faiss", TextEncoder(job)
    with open_records(job.state) as records:
        cut_over(name, job.target, records, unverified=True)
    with searching(replace(job, target=name), encoder, max_texts=0) as searcher:
        assert searcher.search("query 9").ranking is not Ranking.TRUE
        with open_records(job.state) as records:
            cut_over(name, native, records, unverified=True)
        assert searcher.search("query 9").ranking is Ranking.TRUE


def test_it_may_be_awaited(job: Job) -> None:
    async def both(searcher: Any) -> list[Any]:
        return await asyncio.gather(
            searcher.search_async("query 9", 3), searcher.search_async("query 200", 3)
        )

    with searching(job, TextEncoder(job), candidates=N) as searcher:
        found = asyncio.run(both(searcher))
    assert [[hit.id for hit in each.hits] for each in found] == [
        truth(job, 9, 3), truth(job, 200, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("query", [np.zeros(NEW + 1), np.full(NEW, np.nan), [[1.0] * NEW]])
def test_a_query_of_another_shape_is_refused(job: Job, query: Any) -> None:
    with searching(job, TextEncoder(job)) as searcher, pytest.raises(UsageError):
        searcher.search(query)


def test_another_encoder_is_refused(job: Job) -> None:
    encoder = TextEncoder(job)
    encoder.identity = EncoderIdentity(name="other", dimension=NEW)
    with pytest.raises(MismatchError), searching(job, encoder):
        pass


def test_a_store_without_filters_says_so(job: Job) -> None:
    with searching(job, TextEncoder(job)) as searcher, pytest.raises(UsageError):
        searcher.search("query 9", where="n > 3")


def test_queries_cost_less_after_prewarming(job: Job) -> None:
    encoder = TextEncoder(job)
    about = np.arange(0, N, 3)
    queries = (job.new + 0.3 * np.roll(job.new, 1, axis=1))[about]
    with searching(job, encoder, candidates=30) as searcher:
        done = prewarm(searcher, queries)
        assert (done.queries, done.ranked, done.why) == (100, 100, {})
        assert done.texts == len(encoder.asked) == sum(encoder.asked.values())
        assert searcher.search("query 6").texts == 0
    with searching(job, encoder, candidates=30, budget=5) as searcher:
        again = prewarm(searcher, queries)
    assert (again.texts, again.ranked) == (0, 100)


def test_the_commands_say_what_was_found_and_what_it_cost(
    job: Job, server: EmbeddingServer
) -> None:
    name = server.name(f"&dimensions={NEW}&normalize=true").replace("model-a", "new-model")
    log = job.folder / "log.jsonl"
    log.write_text("".join(f'{{"id": {i}, "text": "query {i}"}}\n' for i in range(5)))
    given = ["--encoder", name, "--state", str(job.state), "--json"]
    asked = ["--queries", str(log), "--candidates", "20", "--budget", "60"]
    done = CliRunner().invoke(app, ["prewarm", job.target, *asked, *given])
    assert done.exit_code == ExitCode.OK, done.output
    told = json.loads(done.stdout)
    assert told["queries"] == 5
    assert (
        20 < told["texts"] == sum(n for text, n in server.asked().items() if "text" in text) <= 60
    )
    done = CliRunner().invoke(app, ["search", job.target, "query 3", "-k", "4", *given])
    assert done.exit_code == ExitCode.OK, done.output
    assert len(json.loads(done.stdout)["hits"]) == 4
    for wrong in (["--where", "n > 3"], ["--candidates", "0"], ["--deadline", "soon"]):
        done = CliRunner().invoke(app, ["search", job.target, "query 3", *wrong, *given])
        assert done.exit_code == ExitCode.USAGE, done.output


@pytest.mark.parametrize("store", ["faiss", "parquet", "qdrant"])
def test_an_empty_collection_has_no_hits(store: str, tmp_path: Path) -> None:
    job = make(tmp_path, "faiss", store, anchors=True)
    with editing(job.target) as target:
        target.delete(np.arange(N))
    with searching(job, TextEncoder(job)) as searcher:
        found = searcher.search("query 9")
    assert (found.hits, found.candidates) == ((), 0)


def test_closing_waits_for_searches_and_refuses_others(job: Job) -> None:
    encoder, go, begun = TextEncoder(job), threading.Event(), threading.Event()

    def wait(role: EncoderRole) -> None:
        if role == "document":
            begun.set()
            go.wait(60)

    encoder.before = wait
    with ThreadPoolExecutor(1) as pool:
        with searching(job, encoder, candidates=N) as searcher:
            search = pool.submit(searcher.search, "query 9")
            assert begun.wait(60)
            threading.Timer(0.2, go.set).start()
        assert search.result(60).ranking is Ranking.TRUE
    with pytest.raises(UsageError):
        searcher.search("query 9")
