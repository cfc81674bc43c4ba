"""Targets that get the new encoder's own vectors follow their source, and no text is paid twice."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from support.crash import PAIRS, place, stepper
from support.crash import contents as raw_contents
from support.embedding_server import EmbeddingServer, Reply, embeddings, vectors_of
from support.live import NEW, Job, N, contents, editing, make, points
from typer.testing import CliRunner

from vecmigrate import migrate
from vecmigrate.cli import app
from vecmigrate.connector import ORIGIN_FIELD
from vecmigrate.encoders import BudgetSpentError
from vecmigrate.encoders.constancy import COMPARED
from vecmigrate.errors import ExitCode, InputError, MismatchError, UsageError
from vecmigrate.sync import SyncResult, sync
from vecmigrate.verification import verify


def encoder(server: EmbeddingServer) -> str:
    return server.name(f"&dimensions={NEW}&normalize=true").replace("model-a", "new-model")


def native(folder: Path, old: str, new: str, server: EmbeddingServer) -> Job:
    """A collection that was re-embedded."""
    job = replace(make(folder, old, new), target=place(new, folder, "native"))
    migrate(job.source, job.target, encoder=encoder(server), state=job.state)
    server.seen.clear()
    return job


def bring(job: Job, server: EmbeddingServer, **more: Any) -> SyncResult:
    return sync(job.source, job.target, None, job.state, encoder=encoder(server), **more)


def change(job: Job) -> None:
    """Two arrive, one changes its text, two a payload, one its old vector, one vanishes."""
    with editing(job.source) as source:
        source.upsert(points(job.old, [N, N + 1]))
        source.upsert(points(job.old, [10], text="another text"))
        source.upsert(points(job.old, [20, 21], more=1))
        source.upsert(points(job.old, [40]).with_vectors(np.ascontiguousarray(job.old[[500]])))
        source.delete(np.array([30]))


def is_compared(text: str) -> bool:
    """True of the texts that are embedded again to see whether the model is the same."""
    return text in {f"text number {i}" for i in range(COMPARED)}


def check_native(job: Job) -> None:
    found, there = contents(job.target), contents(job.source)
    assert found.keys() == there.keys()
    expected = vectors_of(*(there[i][1]["text"] for i in found), dimension=NEW)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose([vector for vector, _ in found.values()], expected, atol=1e-5)
    for i, (_, payload) in found.items():
        assert payload == {**there[i][1], ORIGIN_FIELD: "encoded"}


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_native_target_follows_its_source(
    old: str, new: str, server: EmbeddingServer, tmp_path: Path
) -> None:
    job = native(tmp_path, old, new, server)
    assert bring(job, server).wrote == 0
    assert not server.seen
    change(job)
    assert bring(job, server, dry_run=True).arrived == 2
    assert not server.seen
    done = bring(job, server)
    # The old vector alone is no change.
    assert (done.arrived, done.changed, done.vanished, done.native) == (2, 3, 1, 3)
    asked = server.asked()
    assert asked.keys() >= {f"text number {N}", f"text number {N + 1}", "another text"}
    assert asked.total() == len(asked) == 3 + COMPARED
    check_native(job)
    status = job.status(job.source)
    assert (status.translated, status.encoded, status.is_native) == (0, N + 1, True)
    assert not (job.state.parent / "bought").exists()
    assert bring(job, server).wrote == 0
    found = verify(job.source, job.target, encoder=encoder(server), state=job.state)
    assert found.passed, found.failures


def test_a_native_target_without_a_ledger_is_known_by_its_marks(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    job = native(tmp_path, "faiss", "faiss", server)
    job.forget()
    change(job)
    done = bring(job, server)
    assert (done.arrived, done.vanished, done.native) == (2, 1, 3)
    assert server.asked().total() == 3
    check_native(job)


@pytest.mark.parametrize("with_encoder", [True, False])
def test_in_a_translated_target_what_is_new_is_native_if_an_encoder_is_given(
    with_encoder: bool, server: EmbeddingServer, tmp_path: Path
) -> None:
    job = make(tmp_path)
    before = contents(job.target)
    change(job)
    given = {"encoder": encoder(server)} if with_encoder else {}
    done = job.run(**given)
    assert (done.arrived, done.changed, done.native) == (2, 4, 4 if with_encoder else 0)
    found = contents(job.target)
    marked = {i for i, (_, payload) in found.items() if payload.get(ORIGIN_FIELD) == "encoded"}
    assert marked == ({N, N + 1, 10, 40} if with_encoder else set())
    for i in marked:
        [expected] = vectors_of(found[i][1]["text"], dimension=NEW)
        np.testing.assert_allclose(found[i][0], expected / np.linalg.norm(expected), atol=1e-5)
    for i in before.keys() - marked - {30, 10, 40}:
        np.testing.assert_allclose(found[i][0], before[i][0], atol=1e-6)
    assert job.run(**given).wrote == 0
    status = job.status(job.source)
    assert status.encoded == len(marked)


def test_new_points_come_before_old_ones_within_a_budget(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    job = make(tmp_path)
    with editing(job.source) as source:
        source.upsert(points(job.old, list(range(N, N + 6))))
    done = job.run(encoder=encoder(server), reembed_budget="10 texts")
    assert (done.native, done.reembedded) == (6, 4)
    with editing(job.source) as source:
        source.upsert(points(job.old, list(range(N + 6, N + 26))))
    done = job.run(encoder=encoder(server), reembed_budget="10 texts")
    assert (done.arrived, done.native, done.reembedded) == (20, 10, 0)
    assert server.asked().total() == 20 + COMPARED


def test_a_budget_that_does_not_reach_is_told_and_nothing_is_paid_twice(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    job = native(tmp_path, "faiss", "faiss", server)
    with editing(job.source) as source:
        source.upsert(points(job.old, list(range(N, N + 20))))
    with pytest.raises(BudgetSpentError):
        bring(job, server, reembed_budget="15 texts")
    done = bring(job, server)
    assert done.native == 20
    assert server.asked().total() == 20 + 2 * COMPARED
    assert len(server.asked()) == 20 + COMPARED
    check_native(job)


def test_points_without_text_are_refused_or_left_out(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    job = native(tmp_path, "faiss", "faiss", server)
    with editing(job.source) as source:
        source.upsert(points(job.old, [N, N + 1]))
        source.upsert(points(job.old, [N + 2], text=""))
    with pytest.raises(InputError, match=f"no text for ids {N + 2}"):
        bring(job, server)
    done = bring(job, server, on_missing_text="skip")
    assert (done.arrived, done.skipped_ids) == (2, (N + 2,))
    found = verify(
        job.source, job.target, encoder=encoder(server), on_missing_text="skip", state=job.state
    )
    assert found.passed, found.failures


def test_points_without_text_that_were_left_out_are_not_pending(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    job = make(tmp_path, "faiss", "faiss")
    with editing(job.source) as source:
        source.upsert(points(job.old, [N, N + 1], text=""))
    job = replace(job, target=place("faiss", tmp_path, "native"))
    given = ["--encoder", encoder(server), "--state", str(job.state)]

    def run(*command: str, code: ExitCode = ExitCode.OK) -> Result:
        result = CliRunner().invoke(app, list(command))
        assert result.exit_code == code, result.output
        return result

    def told() -> dict[str, Any]:
        printed = run(
            "status", job.target, "--source", job.source, "--state", str(job.state), "--json"
        )
        found: dict[str, Any] = json.loads(printed.stdout)
        return found

    run("migrate", job.source, job.target, *given, "--on-missing-text", "skip")
    assert told()["pending"] == {"arrived": 0, "vanished": 0, "left_out": 2}
    failed = run("verify", job.source, job.target, *given, code=ExitCode.VERIFICATION)
    [following] = [line for line in failed.stdout.splitlines() if line.startswith("Next: ")]
    run(*shlex.split(following.removeprefix("Next: vecmigrate ")))
    with editing(job.source) as source:
        source.upsert(points(job.old, [N + 2], text=""))
    assert told()["pending"]["arrived"] == 1
    synced = run("sync", job.source, job.target, *given, "--on-missing-text", "skip")
    assert "without a text" in synced.stdout
    assert told()["pending"] == {"arrived": 0, "vanished": 0, "left_out": 3}
    with editing(job.source) as source:
        source.upsert(points(job.old, [N]))
    synced = run("sync", job.source, job.target, *given, "--on-missing-text", "skip")
    [following] = [line for line in synced.stdout.splitlines() if line.startswith("Next: ")]
    run(*shlex.split(following.removeprefix("Next: vecmigrate ")))
    assert told()["pending"] == {"arrived": 0, "vanished": 0, "left_out": 2}


def other_model(body: dict[str, Any]) -> Reply:
    """As an endpoint that serves another model of the same name."""
    texts = [f"otherwise {text}" for text in body["input"]]
    return Reply(body={"data": embeddings({**body, "input": texts}), "model": body["model"]})


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_another_model_behind_the_same_name_writes_nothing(
    store: str, server: EmbeddingServer, tmp_path: Path
) -> None:
    job = native(tmp_path, store, store, server)
    change(job)
    before = raw_contents(job.target)
    server.rule = other_model
    with pytest.raises(MismatchError, match=r"cosine -?0\.\d+"):
        bring(job, server)
    assert len(server.asked()) == 2
    assert raw_contents(job.target) == before
    server.rule = lambda body: None
    server.seen.clear()
    assert bring(job, server).native == 3
    # Two texts of points that are there already show that it is the same model.
    assert server.asked().total() == 3 + COMPARED
    check_native(job)


def test_it_tells_what_it_paid_by_what_the_server_counts(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    job = native(tmp_path, "faiss", "faiss", server)
    change(job)
    server.rule = lambda body: Reply(
        body={"data": embeddings(body), "usage": {"total_tokens": 11 * len(body["input"])}}
    )
    told = bring(job, server, price_per_million_tokens=1.0).embedded
    assert told is not None
    assert (told.texts, told.tokens, told.estimated) == (3, 33, False)
    assert told.compared_texts == COMPARED
    assert told.money == pytest.approx(11e-6 * (3 + COMPARED))


def test_a_budget_is_not_spent_on_another_model(server: EmbeddingServer, tmp_path: Path) -> None:
    job = make(tmp_path)
    assert job.run(encoder=encoder(server), reembed_budget=5).reembedded == 5
    before = raw_contents(job.target)
    server.rule = other_model
    with pytest.raises(MismatchError):
        job.run(encoder=encoder(server), reembed_budget=5)
    assert raw_contents(job.target) == before
    server.rule = lambda body: None
    server.seen.clear()
    assert job.run(encoder=encoder(server), reembed_budget=5).reembedded == 5
    assert server.asked().total() == 5 + COMPARED


def test_a_bad_vector_that_was_mended_is_pending(tmp_path: Path) -> None:
    job = make(tmp_path, "faiss", "faiss")
    with editing(job.source) as source:
        nothing = np.zeros((1, job.old.shape[1]), np.float32)
        source.upsert(points(job.old, [N]).with_vectors(nothing))
    job = replace(job, target=place("faiss", tmp_path, "again"))
    given: dict[str, Any] = {"on_bad_vector": "skip"}
    migrate(job.source, job.target, job.translator, state=job.state, **given)
    found = verify(job.source, job.target, job.translator, state=job.state, **given)
    assert found.passed, found.failures
    with editing(job.source) as source:
        source.upsert(points(job.old, [N]))
    found = verify(job.source, job.target, job.translator, state=job.state, **given)
    [pending] = [check for check in found.checks if check.name == "pending"]
    assert pending.figures["arrived"] == 1
    assert job.run(**given).arrived == 1


def refusing(*texts: str) -> Callable[[dict[str, Any]], Reply | None]:
    too_long = Reply(400, {"error": {"message": "maximum context length is 3 tokens"}})
    return lambda body: too_long if set(texts) & set(body["input"]) else None


def test_a_text_that_the_encoder_does_not_take_is_left_out(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    job = native(tmp_path, "faiss", "faiss", server)
    server.rule = refusing("much too long", f"text number {N + 3}")
    with editing(job.source) as source:
        source.upsert(points(job.old, [N, N + 1]))
        source.upsert(points(job.old, [N + 2], text="much too long"))
    with pytest.raises(InputError, match=f"{N + 2}") as raised:
        bring(job, server)
    assert "--on-missing-text skip" in raised.value.remedy
    done = bring(job, server, on_missing_text="skip")
    assert (done.arrived, done.skipped_ids, done.refused_ids) == (2, (N + 2,), (N + 2,))
    paid = {text: n for text, n in server.asked().items() if not is_compared(text)}
    assert paid == {f"text number {N}": 1, f"text number {N + 1}": 1}
    # One alone is no reason to think that the encoder takes none.
    with editing(job.source) as source:
        source.upsert(points(job.old, [N + 3]))
    done = bring(job, server, on_missing_text="skip")
    assert (done.arrived, set(done.refused_ids)) == (0, {N + 2, N + 3})
    given: dict[str, Any] = {"encoder": encoder(server), "state": job.state}
    found = verify(job.source, job.target, on_missing_text="skip", **given)
    assert found.passed, found.failures
    status = job.status(job.source).pending
    assert status is not None
    assert (status.arrived, status.left_out) == (0, 2)
    # It is looked at again once it has another text.
    with editing(job.source) as source:
        source.upsert(points(job.old, [N + 2], text="shorter"))
    found = verify(job.source, job.target, on_missing_text="skip", **given)
    [pending] = [check for check in found.checks if check.name == "pending"]
    assert pending.figures["arrived"] == 1
    done = bring(job, server, on_missing_text="skip")
    assert (done.arrived, done.refused_ids) == (1, (N + 3,))
    server.rule = lambda body: Reply(401, {"error": {"message": "no"}})
    with pytest.raises(InputError, match="401"):
        bring(job, server, on_missing_text="skip")


def test_a_text_that_the_encoder_does_not_take_stays_translated(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    job = make(tmp_path)
    server.rule = refusing("much too long", "text number 7")
    with editing(job.source) as source:
        source.upsert(points(job.old, [N]))
        source.upsert(points(job.old, [N + 1], text="much too long"))
    done = job.run(encoder=encoder(server), reembed_budget=2 * N)
    assert (done.arrived, done.native, done.reembedded) == (2, 1, N - 1)
    assert set(done.refused_ids) == {7, N + 1}
    assert done.skipped_ids == ()
    marks = {i: payload.get(ORIGIN_FIELD) for i, (_, payload) in contents(job.target).items()}
    assert {i for i, mark in marks.items() if mark != "encoded"} == {7, N + 1}


def test_what_made_a_target_is_to_be_named(server: EmbeddingServer, tmp_path: Path) -> None:
    job = native(tmp_path, "faiss", "faiss", server)
    with pytest.raises(MismatchError, match="encoder"):
        job.run()
    with pytest.raises(UsageError):
        sync(job.source, job.target, None, job.state)
    translated = replace(job, target=place("faiss", tmp_path, "new"))
    with pytest.raises(MismatchError, match="translator"):
        bring(translated, server)
    change(job)
    with pytest.raises(MismatchError):
        sync(job.source, job.target, None, job.state, encoder=server.name(f"&dimensions={NEW}"))
    assert bring(job, server).wrote


def test_readers_are_led_to_a_native_target_in_step(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    job = native(tmp_path, "qdrant", "qdrant", server)
    live = job.target.rpartition("/")[0] + "/live"
    given = ["--state", str(job.state)]
    by = ["--encoder", encoder(server)]

    def run(*command: str) -> None:
        result = CliRunner().invoke(app, [*command, *given])
        assert result.exit_code == ExitCode.OK, result.output

    run("verify", job.source, job.target, *by)
    change(job)
    run("sync", job.source, job.target, *by)
    run("verify", job.source, job.target, *by)
    with editing(job.source) as source:
        source.upsert(points(job.old, [N + 9]))
    run("cutover", live, "--to", job.target, "--catch-up", *by)
    assert N + 9 in contents(live)


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_killed_before_some_of_its_steps_it_pays_for_no_text_twice(
    store: str, server: EmbeddingServer, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    job = native(folder, store, store, server)
    change(job)
    pristine = tmp_path / "pristine"
    shutil.copytree(folder, pristine)
    argv = [
        "sync", job.source, job.target, "--encoder", encoder(server), "--state", str(job.state),
        "--batch-size", "2",
    ]  # fmt: skip
    landed = 0
    with stepper(syncs=True) as killer:
        for step in range(1, 400, 45):
            shutil.rmtree(folder)
            shutil.copytree(pristine, folder)
            server.seen.clear()
            code = killer.run(step, argv)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            landed += 1
            bring(job, server)
            # A kill comes when nothing is in flight.
            paid = {text: n for text, n in server.asked().items() if not is_compared(text)}
            assert paid == {f"text number {N}": 1, f"text number {N + 1}": 1, "another text": 1}
            assert server.asked().total() <= 3 + 2 * COMPARED
            check_native(job)
            assert bring(job, server).wrote == 0
    assert landed > 2
