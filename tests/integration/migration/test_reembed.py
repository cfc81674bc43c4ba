"""Points get the new encoder's own vectors, and no text is paid for twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from support.crash import (
    NEW_DIM,
    PAIRS,
    contents,
    make_source,
    make_translator,
    migrate_with_kills,
    place,
)
from support.embedding_server import (
    EmbeddingServer,
    Reply,
    embeddings,
    vectors_of,
)
from support.qdrant import in_place
from support.qdrant.places import PLACES, SERVED, open_place
from typer.testing import CliRunner

from vecmigrate import migrate, open_sink, open_source
from vecmigrate.anchors import draw_anchors
from vecmigrate.cli import app
from vecmigrate.connector import ORIGIN_FIELD, Metric, TargetSpec, VectorBatch
from vecmigrate.encoders import BudgetSpentError, EmbeddingStore, MeteredEncoder, open_encoder
from vecmigrate.encoders.constancy import COMPARED
from vecmigrate.errors import (
    ExitCode,
    InputError,
    MismatchError,
    TerminatedError,
    UnreachableError,
    UsageError,
)
from vecmigrate.forget import forget
from vecmigrate.migration import MigrationResult
from vecmigrate.state.ledger import Origin, ledger_path, open_ledger
from vecmigrate.sync import sync
from vecmigrate.verification import verify

POINTS = {"faiss": 1200, "qdrant": 250}
REQUEST, IN_FLIGHT = 10, 2
OPTIONS = f"&batch_size={REQUEST}&in_flight={IN_FLIGHT}&max_retries=0&normalize=true"


def embed(source: str, target: str, server: EmbeddingServer, **more: Any) -> MigrationResult:
    given = {"encoder": server.name(OPTIONS), "on_missing_text": "skip", "batch_size": 50, **more}
    return migrate(source, target, **given)


def texts_of(uri: str) -> dict[object, str | None]:
    with open_source(uri) as source:
        return {
            point: payload.get("text")
            for batch in source.batches(1000)
            for point, payload in zip(batch.ids.tolist(), batch.each_payload(), strict=True)
        }


def check_native(source: str, target: str) -> None:
    """The target has the points that have texts, with the encoder's vectors and marked so."""
    texts = {point: text for point, text in texts_of(source).items() if text}
    with open_source(target) as opened:
        [found] = opened.batches(10_000)
    assert set(found.ids.tolist()) == set(texts)
    expected = vectors_of(*(texts[point] or "" for point in found.ids.tolist()))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-6)
    assert {payload[ORIGIN_FIELD] for payload in found.each_payload()} == {"encoded"}


@pytest.mark.parametrize(("old", "new"), [("faiss", "qdrant"), ("qdrant", "faiss")])
def test_every_text_is_embedded_once(
    old: str, new: str, server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source(old, tmp_path, 200), place(new, tmp_path, "new")
    done: list[int] = []
    result = embed(
        source, target, server,
        state=tmp_path / "s.sqlite", progress=done.append, price_per_million_tokens=2.0,
    )  # fmt: skip
    check_native(source, target)
    assert result.written == result.kept_anchors == 160
    assert len(result.skipped_ids) == 40
    assert sum(done) == 200
    assert result.embedded is not None
    assert (result.embedded.texts, result.embedded.reused) == (160, 0)
    assert result.embedded.money == pytest.approx(result.embedded.tokens * 2e-6)
    assert server.asked().total() == len(server.asked()) == 160
    described = result.target.provenance
    assert described is not None
    assert described.encoder is not None
    assert described.encoder.name == "model-a"
    with open_ledger(ledger_path(tmp_path / "s.sqlite", target)) as ledger:
        assert ledger.origins()[Origin.ENCODED] == 160
    assert not (tmp_path / "bought").exists()


def test_texts_of_like_length_go_together(server: EmbeddingServer, tmp_path: Path) -> None:
    source = make_source("faiss", tmp_path, 500)
    embed(source, f"faiss:{tmp_path}/new.faiss", server, batch_size=500)
    requests = [[len(text) for text in seen.body["input"]] for seen in server.seen[1:]]
    assert len(requests) == 40
    assert max(max(lengths) - min(lengths) for lengths in requests) <= 1
    assert len({length for lengths in requests for length in lengths}) == 3


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_killed_at_random_it_pays_again_for_at_most_what_was_in_flight(
    old: str, new: str, server: EmbeddingServer, tmp_path: Path
) -> None:
    source, state = make_source(old, tmp_path, POINTS[old]), tmp_path / "state.sqlite"
    whole, killed = place(new, tmp_path, "whole"), place(new, tmp_path, "killed")
    embed(source, whole, server)
    once = server.asked().total()
    server.seen.clear()
    landed, result = migrate_with_kills(
        source, killed, None, state, kills=3, points=POINTS[old] * 4 // 5, seed=5, batch=50,
        more=["--encoder", server.name(OPTIONS), "--on-missing-text", "skip"],
    )  # fmt: skip
    assert landed
    assert contents(killed) == contents(whole)
    assert once <= server.asked().total() <= once + landed * (IN_FLIGHT * REQUEST + COMPARED)
    assert result["embedded"]["texts"] == once
    assert not (tmp_path / "bought").exists()


def test_a_budget_stops_it_and_a_larger_one_continues(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 200), f"faiss:{tmp_path}/new.faiss"
    given = {"state": tmp_path / "s.sqlite", "checkpoint_seconds": 0}
    for run in range(2):
        with pytest.raises(BudgetSpentError):
            embed(source, target, server, budget="95 texts", **given)
        assert server.asked().total() == 95 + run * COMPARED
    with pytest.raises(BudgetSpentError):
        embed(source, target, server, budget="300 tokens", **given)
    assert server.asked().total() < 160
    result = embed(source, target, server, budget=160, **given)
    assert server.asked().total() == 160 + 3 * COMPARED
    assert len(server.asked()) == 160
    assert result.continued_after
    check_native(source, target)


def test_a_run_that_is_asked_to_end_ends_between_two_requests(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 500), f"faiss:{tmp_path}/new.faiss"
    given: dict[str, Any] = {"state": tmp_path / "s.sqlite", "batch_size": 500}
    with pytest.raises(TerminatedError):
        embed(source, target, server, stop=lambda: server.asked().total() >= 50, **given)
    assert server.asked().total() <= 50 + IN_FLIGHT * REQUEST
    embed(source, target, server, **given)
    assert server.asked().total() == 400 + COMPARED
    check_native(source, target)


def test_a_server_that_fails_costs_no_text_twice(server: EmbeddingServer, tmp_path: Path) -> None:
    source, target = make_source("faiss", tmp_path, 300), f"faiss:{tmp_path}/new.faiss"
    given = {"state": tmp_path / "s.sqlite"}
    server.rule = lambda body: Reply(status=503) if server.asked().total() >= 100 else None
    with pytest.raises(UnreachableError):
        embed(source, target, server, **given)
    server.rule = lambda body: None
    assert embed(source, target, server, **given).written == 240
    assert server.asked().total() == len(server.asked()) + COMPARED == 240 + COMPARED
    check_native(source, target)


def test_another_encoder_does_not_continue_it(server: EmbeddingServer, tmp_path: Path) -> None:
    source, target = make_source("faiss", tmp_path, 200), f"faiss:{tmp_path}/new.faiss"
    given = {"state": tmp_path / "s.sqlite", "checkpoint_seconds": 0}
    with pytest.raises(BudgetSpentError):
        embed(source, target, server, budget=95, **given)
    other = server.name(OPTIONS).replace("model-a", "model-b")
    with pytest.raises(MismatchError, match="encoder"):
        embed(source, target, server, encoder=other, **given)
    with pytest.raises(MismatchError, match="encoder"):
        migrate(source, target, make_translator(tmp_path), **given)
    assert embed(source, target, server, encoder=other, restart=True, **given).written == 160
    with open_source(target) as opened:
        provenance = opened.describe().provenance
    assert provenance is not None
    assert provenance.encoder is not None
    assert provenance.encoder.name == "model-b"


def test_a_point_without_text(server: EmbeddingServer, tmp_path: Path) -> None:
    source, target = make_source("faiss", tmp_path, 100), f"faiss:{tmp_path}/new.faiss"
    with pytest.raises(InputError, match="no text for ids 1, "):
        embed(source, target, server, on_missing_text="fail")
    translator = make_translator(tmp_path)
    given = {"encoder": server.name(f"{OPTIONS}&dimensions={NEW_DIM}")}
    result = migrate(source, target, translator, on_missing_text="translate", **given)
    assert (result.written, result.kept_anchors) == (100, 80)
    migrate(source, f"faiss:{tmp_path}/translated.faiss", translator)
    translated = contents(f"faiss:{tmp_path}/translated.faiss")
    for point, (vector, payload) in contents(target).items():
        told = json.loads(payload)
        assert told[ORIGIN_FIELD] == ("encoded" if "text" in told else "translated")
        assert (vector == translated[point][0]) == ("text" not in told)


def test_another_model_behind_the_same_name_does_not_continue_it(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 200), f"faiss:{tmp_path}/new.faiss"
    state = tmp_path / "s.sqlite"
    with pytest.raises(BudgetSpentError):
        embed(source, target, server, state=state, budget=35)
    server.seen.clear()
    server.rule = lambda body: Reply(
        body={"data": embeddings({"input": [f"other {text}" for text in body["input"]]})}
    )
    with pytest.raises(MismatchError, match="cosine"):
        embed(source, target, server, state=state)
    assert len(server.asked()) == 2
    server.rule = lambda body: None
    embed(source, target, server, state=state)
    check_native(source, target)


REFUSED = ("text 7", "text 101")


def refuse(body: dict[str, Any]) -> Reply | None:
    """As an endpoint of which a context is too short."""
    if set(REFUSED) & set(body["input"]):
        return Reply(400, {"error": {"message": "maximum context length is 3 tokens"}})
    return None


def not_a_number(body: dict[str, Any]) -> Reply | None:
    made = embeddings(body)
    for text, item in zip(body["input"], made, strict=True):
        if text in REFUSED:
            item["embedding"] = [float("nan")] * len(item["embedding"])
    return Reply(body={"data": made, "model": body["model"]})


Rule = Callable[[dict[str, Any]], Reply | None]


@pytest.mark.parametrize(("rule", "paid"), [(refuse, 0), (not_a_number, 2)])
def test_texts_that_the_encoder_does_not_take_are_left_out(
    rule: Rule, paid: int, server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 200), f"faiss:{tmp_path}/new.faiss"
    state = tmp_path / "s.sqlite"
    encoder = server.name(OPTIONS)
    server.rule = rule
    points = {point for point, text in texts_of(source).items() if text in REFUSED}
    texts = {point: text for point, text in texts_of(source).items() if text}
    command = ["migrate", source, target, "--encoder", encoder, "--state", str(state)]
    # Only those texts stop it: those without one are no points of this run.
    named = CliRunner().invoke(app, [*command, "--batch-size", "50", "--on-missing-text", "fail"])
    assert named.exit_code == ExitCode.BAD_INPUT
    server.seen.clear()
    result = embed(source, target, server, state=state)
    assert set(result.refused_ids) == points
    assert len(points) == 2
    assert result.written == len(texts) - 2
    assert points <= set(result.skipped_ids)
    asked = server.asked()
    assert {text: times for text, times in asked.items() if times > 1} == {}
    assert result.embedded is not None
    assert result.embedded.texts == len(texts) - 2 + paid
    assert set(contents(target)) == texts.keys() - points
    server.rule = lambda body: None
    given: dict[str, Any] = {"encoder": encoder, "state": state}
    found = verify(source, target, on_missing_text="skip", **given)
    assert found.passed, found.failures
    assert [check.name for check in verify(source, target, **given).failures] == ["pending"]


@pytest.mark.parametrize("rule", [refuse, not_a_number])
def test_an_error_names_the_text_that_is_not_taken_and_the_option(
    rule: Rule, server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = f"faiss:{tmp_path}/old.faiss", f"faiss:{tmp_path}/new.faiss"
    texts = [f"some text {number}" for number in range(40)]
    texts[17] = REFUSED[0]
    with open_sink(source, TargetSpec(dimension=6, metric=Metric.COSINE, text_field="text")) as old:
        rows = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
        old.write(VectorBatch(np.arange(40), rows, [{"text": text} for text in texts]))
        old.finish()
    state = tmp_path / "s.sqlite"
    encoder = server.name(OPTIONS)
    server.rule = rule
    with pytest.raises(InputError) as raised:
        migrate(source, target, encoder=encoder, state=state)
    assert "id 17" in raised.value.message
    assert "--on-missing-text skip" in raised.value.remedy
    result = migrate(source, target, encoder=encoder, state=state, on_missing_text="skip")
    assert (result.written, result.refused_ids, result.skipped_ids) == (39, [17], [17])
    asked = server.asked()
    # What an answer holds beside a vector that is of no use is kept.
    assert len({text for text, times in asked.items() if times > 1} - {REFUSED[0]}) == COMPARED


def test_an_encoder_that_takes_no_text_ends_the_run(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 100), f"faiss:{tmp_path}/new.faiss"
    encoder = open_encoder(server.name(OPTIONS))
    server.rule = lambda body: Reply(400, {"error": {"message": "no credit"}})
    with pytest.raises(InputError, match="no credit"):
        embed(source, target, server, encoder=encoder)
    # Each text alone would be 150.
    assert len(server.seen) < 60
    # The endpoint works, and takes none of the points' texts.
    server.rule = lambda body: (
        Reply(400, {"error": {"message": "too long"}})
        if any(text.startswith("text") for text in body["input"])
        else None
    )
    with pytest.raises(InputError, match="too long"):
        embed(source, target, server, encoder=encoder)
    server.rule = lambda body: Reply(404, {"error": {"message": "no such model"}})
    server.seen.clear()
    with pytest.raises(InputError, match="no such model"):
        embed(source, target, server, encoder=encoder)
    assert len(server.seen) < 10


def test_texts_that_the_encoder_does_not_take_are_translated(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 100), f"faiss:{tmp_path}/new.faiss"
    translator = make_translator(tmp_path)
    encoder = server.name(f"{OPTIONS}&dimensions={NEW_DIM}")
    migrate(source, f"faiss:{tmp_path}/all.faiss", translator)
    server.rule = refuse
    result = migrate(source, target, translator, encoder=encoder, on_missing_text="translate")
    [point] = result.refused_ids
    assert (result.written, result.skipped_ids) == (100, [])
    assert contents(target)[point][0] == contents(f"faiss:{tmp_path}/all.faiss")[point][0]
    found = verify(source, target, translator, encoder=encoder)
    assert found.passed, found.failures


@pytest.mark.parametrize("kept", [True, False])
def test_what_anchors_and_dry_runs_bought_is_not_paid_for_again(
    kept: bool, server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 300), f"faiss:{tmp_path}/new.faiss"
    anchors, folder = tmp_path / "anchors.parquet", tmp_path / "report"
    encoder = open_encoder(server.name(OPTIONS))
    with open_source(source) as opened:
        drawn = draw_anchors(opened, encoder, anchors, size=40, on_missing_text="skip")
        some = next(opened.batches(60))
    texts, ids = some.texts("text"), some.ids
    assert texts is not None
    there = np.array([text is not None for text in texts])
    store = EmbeddingStore(folder / "embeddings", encoder.identity, "document")
    MeteredEncoder(encoder, store=store).encode([t for t in texts if t], ids=ids[there])
    bought = len(server.asked())
    server.seen.clear()
    given: dict[str, Any] = {"reuse": [folder, *([] if kept else [anchors])]}
    result = embed(source, target, server, keep_anchors=anchors if kept else None, **given)
    assert result.embedded is not None
    assert result.embedded.reused == bought == 240 - server.asked().total()
    assert len(drawn) < bought
    check_native(source, target)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoder": "all-MiniLM-L6-v2", "engine": "ray", "budget": 7},
        {"encoder": "all-MiniLM-L6-v2", "on_missing_text": "translate"},
        {"encoder": "all-MiniLM-L6-v2", "budget": "a lot"},
        {"budget": 7},
    ],
)
def test_what_cannot_be_done_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    source = make_source("faiss", tmp_path, 20)
    with pytest.raises(UsageError):
        migrate(source, f"faiss:{tmp_path}/new.faiss", **options)
    assert not (tmp_path / "new.faiss").exists()


def test_a_source_without_texts_is_refused(server: EmbeddingServer, tmp_path: Path) -> None:
    np.save(tmp_path / "old.npy", np.eye(4, dtype=np.float32))
    with pytest.raises(InputError, match="text"):
        embed(f"npy:{tmp_path}/old.npy", f"npy:{tmp_path}/new.npy", server)


def test_the_command_line_tells_what_was_paid(server: EmbeddingServer, tmp_path: Path) -> None:
    source = make_source("faiss", tmp_path, 50)
    command = [
        "migrate", source, f"faiss:{tmp_path}/new.faiss", "--encoder", server.name(OPTIONS),
        "--on-missing-text", "skip", "--price-per-million-tokens", "1000",
        "--state", str(tmp_path / "s.sqlite"),
    ]  # fmt: skip
    result = CliRunner().invoke(app, command)
    assert result.exit_code == ExitCode.OK, result.output
    assert "40 texts of about 80 tokens were embedded" in result.output
    assert "for about 0.08" in result.output
    assert "--on-missing-text skip" in result.output.splitlines()[-1]


def counted(body: dict[str, Any]) -> Reply:
    """As an endpoint that says that each text has 11 tokens."""
    usage = {"prompt_tokens": 11 * len(body["input"]), "total_tokens": 11 * len(body["input"])}
    return Reply(body={"data": embeddings(body), "model": body["model"], "usage": usage})


def test_what_this_run_paid_is_told_apart_from_earlier_runs(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 200), f"faiss:{tmp_path}/new.faiss"
    given: dict[str, Any] = {"state": tmp_path / "s.sqlite", "price_per_million_tokens": 0.02}
    server.rule = counted
    with pytest.raises(BudgetSpentError):
        embed(source, target, server, budget=95, **given)
    result = embed(source, target, server, **given)
    told = result.embedded
    assert told is not None
    assert (told.texts, told.tokens, told.estimated) == (160, 160 * 11, False)
    assert (told.earlier_texts, told.earlier_tokens) == (95, 95 * 11)
    assert (told.compared_texts, told.compared_tokens) == (COMPARED, COMPARED * 11)
    assert told.money == pytest.approx((160 + COMPARED) * 11 * 0.02e-6)
    assert "65 texts of 715 tokens" in told.line()
    assert "0.000036" in told.line()


def test_a_budget_of_tokens_is_one_of_those_that_the_server_counts(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 200), f"faiss:{tmp_path}/new.faiss"
    server.rule = counted
    with pytest.raises(BudgetSpentError):
        embed(source, target, server, budget="500 tokens", state=tmp_path / "s.sqlite")
    # By characters a text has two tokens, and what is in flight is counted when it is answered.
    assert 500 <= 11 * server.asked().total() <= 500 + 11 * 2 * 40


def test_verify_tells_what_it_paid(server: EmbeddingServer, tmp_path: Path) -> None:
    source, target = make_source("faiss", tmp_path, 200), f"faiss:{tmp_path}/new.faiss"
    state, encoder = tmp_path / "s.sqlite", server.name(OPTIONS)
    server.rule = counted
    embed(source, target, server, state=state)
    server.seen.clear()
    given: dict[str, Any] = {
        "encoder": encoder, "on_missing_text": "skip", "price_per_million_tokens": 1.0,
    }  # fmt: skip
    found = verify(source, target, sample=70, state=state, **given)
    [vectors] = [check for check in found.checks if check.name == "vectors"]
    texts = server.asked().total()
    assert (vectors.figures["texts"], vectors.figures["tokens"]) == (texts, 11 * texts)
    assert vectors.figures["money"] == pytest.approx(11e-6 * texts)
    assert vectors.figures["estimated"] is False


def test_ready_made_vectors_need_no_texts(tmp_path: Path) -> None:
    source = make_source("faiss", tmp_path, 100)
    made = np.random.default_rng(0).standard_normal((100, 6)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    np.savez(tmp_path / "made.npz", ids=np.arange(100) * 3 + 1, vectors=made)
    target = f"faiss:{tmp_path}/new.faiss"
    result = migrate(source, target, encoder=f"vectors:{tmp_path}/made.npz")
    assert result.kept_anchors == 100
    assert result.embedded is None
    with open_source(target) as opened:
        [found] = opened.batches(1000)
    np.testing.assert_allclose(found.vectors, made, atol=1e-6)


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_verify_embeds_a_sample_again(store: str, server: EmbeddingServer, tmp_path: Path) -> None:
    source, target = make_source(store, tmp_path, 200), place(store, tmp_path, "new")
    embed(source, target, server)
    server.seen.clear()
    given: dict[str, Any] = {"encoder": server.name(OPTIONS), "on_missing_text": "skip"}
    found = verify(source, target, sample=70, **given)
    assert found.passed, found.failures
    assert found.translator_sha256 is None
    [vectors] = [check for check in found.checks if check.name == "vectors"]
    assert vectors.figures["wrong"] == 0
    assert isinstance(compared := vectors.figures["compared"], int)
    assert 40 < compared <= 70
    assert server.asked().total() <= 70 + 32


def test_verify_finds_vectors_that_the_encoder_did_not_make(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 200), place("faiss", tmp_path, "new")
    embed(source, target, server)
    given: dict[str, Any] = {"on_missing_text": "skip"}
    other = server.name(OPTIONS).replace("model-a", "model-b")
    with pytest.raises(MismatchError):
        verify(source, target, encoder=other, **given)
    with pytest.raises(UsageError):
        verify(source, target, **given)
    altered = {"text 7": "something else"}
    server.rule = lambda body: Reply(
        body={"data": embeddings({"input": [altered.get(t, t) for t in body["input"]]})}
    )
    found = verify(source, target, encoder=server.name(OPTIONS), full=True, **given)
    assert [check.name for check in found.failures] == ["vectors"]
    assert found.failures[0].figures["wrong"] == 1
    assert "22" in found.failures[0].summary


def test_verify_compares_translated_and_native_vectors_each_with_its_own(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 100), f"faiss:{tmp_path}/new.faiss"
    translator = make_translator(tmp_path)
    encoder = server.name(f"{OPTIONS}&dimensions={NEW_DIM}")
    migrate(source, target, translator, encoder=encoder, on_missing_text="translate")
    found = verify(source, target, translator, encoder=encoder)
    assert found.passed, found.failures
    compared = {c.name: c.figures["compared"] for c in found.checks if "vectors" in c.name}
    assert compared == {"vectors": 20, "native vectors": 80}
    with pytest.raises(MismatchError):
        verify(source, target, encoder=encoder)


@pytest.mark.parametrize("kind", PLACES)
def test_a_vector_is_made_in_place(kind: str, server: EmbeddingServer, tmp_path: Path) -> None:
    encoder = server.name(f"{OPTIONS}&dimensions={in_place.NEW}")
    state, translator = tmp_path / "s.sqlite", in_place.saved(tmp_path)
    with open_place(kind, tmp_path) as here:
        name = in_place.fill(here, lacking=(7,))
        source, target = in_place.uris(here, name)
        result = migrate(source, target, encoder=encoder, state=state)
        assert result.kept_anchors == in_place.FEW - 1
        assert server.asked().total() == in_place.FEW - 1
        record = in_place.records(here, name)[8]
        [expected] = vectors_of("text 8", dimension=in_place.NEW)
        np.testing.assert_allclose(
            record.vector["new"], expected / np.linalg.norm(expected), atol=1e-6
        )
        assert ORIGIN_FIELD not in record.payload
        found = verify(source, target, encoder=encoder, state=state)
        assert found.passed, found.failures
        server.seen.clear()
        assert sync(source, target, None, state, encoder=encoder).wrote == 0
        with here.client() as client:
            client.set_payload(name, {"text": "changed"}, points=[3])
            client.set_payload(name, {"price": 5}, points=[4])
            client.update_vectors(
                name, [models.PointVectors(id=5, vector={"old": in_place.ROWS[400].tolist()})]
            )
            client.delete(name, models.PointIdsList(points=[6]))
            client.delete_vectors(name, ["new"], points=[8])
            new = models.PointStruct(
                id=500, vector={"old": in_place.ROWS[500].tolist()}, payload={"text": "new"}
            )
            client.upsert(name, [new])
        done = sync(source, target, None, state, encoder=encoder)
        assert done.native == 3
        asked = server.asked()
        assert asked.keys() >= {"changed", "new", "text 8"}
        assert asked.total() == len(asked) == 3 + COMPARED
        there = in_place.records(here, name)
        for point, text in ((3, "changed"), (500, "new"), (8, "text 8"), (4, "text 4")):
            [expected] = vectors_of(text, dimension=in_place.NEW)
            np.testing.assert_allclose(
                there[point].vector["new"], expected / np.linalg.norm(expected), atol=1e-6
            )
        assert sync(source, target, None, state, encoder=encoder).wrote == 0
        found = verify(source, target, encoder=encoder, state=state)
        assert found.passed, found.failures
        other = in_place.fill(here)
        source, target = in_place.uris(here, other)
        with pytest.raises(MismatchError):
            migrate(
                source, target, translator, encoder=encoder, on_missing_text="translate",
                state=state,
            )  # fmt: skip
        assert "new" not in in_place.records(here, other)[8].vector


@pytest.mark.parametrize("kind", SERVED)
def test_what_changes_meanwhile_is_embedded_too_and_no_text_twice(
    kind: str, server: EmbeddingServer, tmp_path: Path
) -> None:
    encoder = server.name(f"{OPTIONS}&dimensions={in_place.NEW}")
    with open_place(kind, tmp_path) as here:
        name = in_place.fill(here)

        def edit(count: int) -> None:
            if server.asked().total() < 120 or 500 in in_place.records(here, name):
                return
            rows = in_place.ROWS
            with here.client() as client:
                client.set_payload(name, {"text": "changed"}, points=[3])
                client.set_payload(name, {"price": 5}, points=[4, 5])
                client.delete(name, models.PointIdsList(points=[6]))
                new = models.PointStruct(
                    id=500, vector={"old": rows[500].tolist()}, payload={"text": "new"}
                )
                client.upsert(name, [new])

        target = f"faiss:{tmp_path}/new.faiss"
        result = migrate(
            here.uri(name, "vector=old"), target, encoder=encoder, state=tmp_path / "s.sqlite",
            batch_size=20, progress=edit,
        )  # fmt: skip
        assert result.as_of
        texts = texts_of(target)
        assert texts.keys() == set(range(in_place.FEW)) - {6} | {500}
        assert (texts[3], texts[500]) == ("changed", "new")
        found = verify(here.uri(name, "vector=old"), target, encoder=encoder)
        assert found.passed, found.failures
    asked = server.asked()
    assert asked["changed"] >= 1
    assert result.embedded is not None
    assert result.embedded.texts == in_place.FEW + 2


def test_what_was_bought_of_a_point_is_forgotten(server: EmbeddingServer, tmp_path: Path) -> None:
    source, target = make_source("faiss", tmp_path, 200), f"faiss:{tmp_path}/new.faiss"
    state = tmp_path / "state" / "s.sqlite"
    with pytest.raises(BudgetSpentError):
        embed(source, target, server, state=state, budget=35, batch_size=200)
    [file] = (state.parent / "bought").glob("*.sqlite")
    [vector] = vectors_of("text 101")
    needle = (vector / np.linalg.norm(vector)).astype(np.float32).tobytes()
    assert needle in file.read_bytes()
    receipt = forget([304], state, still_at_source=True, folders=[state.parent])
    assert [(r.place, r.points) for r in receipt.removed if r.what == "bought vectors"] == [
        (str(file), 1)
    ]
    left = [path for path in (state.parent / "bought").iterdir() if needle in path.read_bytes()]
    assert not left
    embed(source, target, server, state=state)
    twice = {text for text, times in server.asked().items() if times > 1}
    assert "text 101" in twice
    assert len(twice) == 1 + COMPARED
    assert not [path for path in state.parent.rglob("*") if path.parent.name == "bought"]


@pytest.mark.parametrize("kind", PLACES)
def test_a_vector_in_place_is_continued(kind: str, server: EmbeddingServer, tmp_path: Path) -> None:
    encoder, state = server.name(f"{OPTIONS}&dimensions={in_place.NEW}"), tmp_path / "s.sqlite"
    given: dict[str, Any] = {"encoder": encoder, "batch_size": 20, "checkpoint_seconds": 0}
    with open_place(kind, tmp_path) as here:
        source, target = in_place.uris(here, in_place.fill(here))
        with pytest.raises(BudgetSpentError):
            migrate(source, target, state=state, budget=95, **given)
        result = migrate(source, target, state=state, **given)
        assert result.continued_after
        assert sync(source, target, None, state, encoder=encoder).wrote == 0
        with pytest.raises(UsageError):
            sync(source, target, None, state, encoder=encoder, changed_by="at")
        shutil.rmtree(tmp_path / "ledgers")
        with pytest.raises(MismatchError, match="ledger"):
            sync(source, target, None, state, encoder=encoder)
    assert server.asked().total() == len(server.asked()) + COMPARED == in_place.FEW + COMPARED


def test_equal_texts_are_embedded_once_a_batch(server: EmbeddingServer, tmp_path: Path) -> None:
    texts = ["one", "another text", "one", "two", "another text", "one"]
    source, target = f"faiss:{tmp_path}/old.faiss", f"faiss:{tmp_path}/new.faiss"
    with open_sink(source, TargetSpec(dimension=6, metric=Metric.COSINE, text_field="text")) as old:
        payloads = [{"text": text} for text in texts]
        old.write(VectorBatch(np.arange(6), np.eye(6, dtype=np.float32), payloads))
        old.finish()
    done: list[int] = []
    embed(source, target, server, progress=done.append)
    assert dict(server.asked()) == dict.fromkeys(texts, 1)
    assert sum(done) == 6
    check_native(source, target)


def test_what_anchors_bought_is_found_without_being_named(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    source, encoder = make_source("faiss", tmp_path, 200), server.name(OPTIONS)
    state, anchors = ["--state", str(tmp_path / "s.sqlite")], str(tmp_path / "a.parquet")
    bought = ["--size", "60", "--on-missing-text", "skip", "--out", anchors]
    done = CliRunner().invoke(app, ["anchors", source, "--encoder", encoder, *bought, *state])
    assert done.exit_code == ExitCode.OK, done.output
    embedding = ["--encoder", encoder, "--on-missing-text", "skip", *state]
    done = CliRunner().invoke(
        app, ["migrate", source, f"faiss:{tmp_path}/new.faiss", *embedding, "--json"]
    )
    assert done.exit_code == ExitCode.OK, done.output
    assert json.loads(done.stdout)["embedded"]["reused"] > 40
    assert server.asked().total() == len(server.asked()) == 160


@pytest.mark.parametrize("place", ["nowhere", "empty", "old.faiss"])
def test_a_place_with_nothing_to_reuse_is_refused(
    place: str, server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 50), f"faiss:{tmp_path}/new.faiss"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        embed(source, target, server, state=tmp_path / "s.sqlite", reuse=[tmp_path / place])
    assert not server.asked()
    assert not list(tmp_path.glob("new.faiss*"))


def test_a_translator_is_no_measure_of_an_encoder_s_vectors(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    source, target = make_source("faiss", tmp_path, 50), f"faiss:{tmp_path}/new.faiss"
    embed(source, target, server)
    make_translator(tmp_path)
    with pytest.raises(MismatchError):
        verify(source, target, tmp_path / "translator")
