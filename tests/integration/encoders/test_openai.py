"""The OpenAI-compatible encoder, against a real HTTP server on the loopback interface."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.embedding_server import (
    DIMENSION,
    EmbeddingServer,
    Reply,
    embeddings,
    vectors_of,
)

from vecmigrate.encoders import Budget, EmbeddingStore, Meter, MeteredEncoder, open_encoder
from vecmigrate.errors import (
    BadVectorError,
    InputError,
    MismatchError,
    UnreachableError,
    UsageError,
)
from vecmigrate.migration.bought import UnkeptVectors


def test_texts_become_vectors_in_batches(server: EmbeddingServer) -> None:
    encoder = open_encoder(server.name("&batch_size=3"))
    assert encoder.needs_texts
    assert encoder.identity.model_dump() == {
        "name": "model-a",
        "revision": None,
        "dimension": DIMENSION,
        "prompt": None,
        "normalized": False,
    }
    texts = [f"text {i}" for i in range(7)]
    got = encoder.encode(texts)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert np.array_equal(got, vectors_of(*texts))
    probe, *requests = server.seen
    assert len(probe.body["input"]) == 2
    assert [len(r.body["input"]) for r in requests] == [3, 3, 1]
    assert {(r.path, r.authorization) for r in server.seen} == {("/v1/embeddings", None)}
    assert requests[0].body == {
        "model": "model-a",
        "input": texts[:3],
        "encoding_format": "float",
    }
    assert encoder.encode([]).shape == (0, DIMENSION)


def test_prompts_go_before_documents_and_queries(server: EmbeddingServer) -> None:
    encoder = open_encoder(server.name("&prompt=passage:%20&query_prompt=query:+"))
    assert encoder.identity.prompt == "passage: "
    assert np.array_equal(encoder.encode(["a"]), vectors_of("passage: a"))
    assert np.array_equal(encoder.encode(["a"], role="query"), vectors_of("query: a"))


def test_normalisation(server: EmbeddingServer) -> None:
    encoder = open_encoder(server.name("&normalize=true"))
    assert encoder.identity.normalized
    truth = vectors_of("a", "b")
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    assert np.allclose(encoder.encode(["a", "b"]), truth, atol=1e-6)


def test_unit_length_is_detected(server: EmbeddingServer) -> None:
    def unit(body: dict[str, Any]) -> Reply:
        data = embeddings(body)
        for item in data:
            item["embedding"] = (item["embedding"] / np.linalg.norm(item["embedding"])).tolist()
        return Reply(body={"data": data})

    server.rule = unit
    assert open_encoder(server.name()).identity.normalized


def test_dimensions_are_asked_for(server: EmbeddingServer) -> None:
    encoder = open_encoder(server.name("&dimensions=4"))
    assert encoder.identity.dimension == 4
    assert encoder.encode(["a"]).shape == (1, 4)
    assert {r.body["dimensions"] for r in server.seen} == {4}


def test_a_server_that_ignores_dimensions_is_refused(server: EmbeddingServer) -> None:
    server.rule = lambda body: Reply(body={"data": embeddings({"input": body["input"]})})
    with pytest.raises(MismatchError, match="answers with 8 dimensions, though 4 were asked for"):
        open_encoder(server.name("&dimensions=4"))


def test_shuffled_answers_are_put_in_order(server: EmbeddingServer) -> None:
    server.rule = lambda body: Reply(body={"data": embeddings(body)[::-1]})
    texts = ["a", "b", "c"]
    assert np.array_equal(open_encoder(server.name()).encode(texts), vectors_of(*texts))


def test_base64_answers(server: EmbeddingServer) -> None:
    def packed(body: dict[str, Any]) -> Reply:
        data = embeddings(body)
        for item in data:
            raw = np.array(item["embedding"], "<f4").tobytes()
            item["embedding"] = base64.b64encode(raw).decode()
        return Reply(body={"data": data})

    server.rule = packed
    got = open_encoder(server.name()).encode(["a", "b"])
    assert got.flags.c_contiguous
    assert np.array_equal(got, vectors_of("a", "b"))


def test_retry_after_in_seconds_is_waited_for(server: EmbeddingServer) -> None:
    encoder = open_encoder(server.name())
    server.script = [Reply(429, {"error": {"message": "slow"}}, {"Retry-After": "1"})]
    assert np.array_equal(encoder.encode(["a"]), vectors_of("a"))
    first, second = server.seen[-2:]
    assert 1.0 <= second.at - first.at < 60


def test_retry_after_as_a_date_is_waited_for(server: EmbeddingServer) -> None:
    encoder = open_encoder(server.name())
    until = datetime.now(UTC) + timedelta(seconds=2)  # the header has no fractions
    server.script = [Reply(503, b"", {"Retry-After": format_datetime(until, usegmt=True)})]
    assert np.array_equal(encoder.encode(["a"]), vectors_of("a"))
    assert datetime.now(UTC) >= until.replace(microsecond=0)
    first, second = server.seen[-2:]
    assert second.at - first.at < 60


def test_passing_failures_are_retried(server: EmbeddingServer) -> None:
    encoder = open_encoder(server.name())
    now = {"Retry-After": "0"}
    past = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    server.script = [Reply(500, b"", now), Reply(408, b"", now), Reply(502, b"<html>", past)]
    assert np.array_equal(encoder.encode(["a"]), vectors_of("a"))
    assert len(server.seen) == 1 + 4


def test_retries_are_logged_with_their_cause(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    encoder = open_encoder(server.name())
    server.script = [Reply(500, {"error": {"message": f"not with {SECRET}"}}, {"Retry-After": "0"})]
    with caplog.at_level("INFO", "vecmigrate"):
        encoder.encode(["a"])
    [record] = [r for r in caplog.records if getattr(r, "event", None) == "vecmigrate.retry"]
    assert "answers 500: not with ***" in record.getMessage()
    assert record.__dict__["attributes"]["vecmigrate.attempt"] == 1


def test_a_failure_without_retry_after_is_backed_off_from(server: EmbeddingServer) -> None:
    server.script = [Reply(500, b"", {"Retry-After": "soon"})]
    started = time.monotonic()
    assert open_encoder(server.name()).identity.dimension == DIMENSION
    assert len(server.seen) == 2
    assert time.monotonic() - started < 60


def test_retries_end(server: EmbeddingServer) -> None:
    server.rule = lambda body: Reply(503, {"error": {"message": "loading"}}, {"Retry-After": "0"})
    said = rf"127\.0\.0\.1:{server.server_port}/v1/embeddings answers 503: loading \(attempts: 3\)"
    with pytest.raises(UnreachableError, match=said):
        open_encoder(server.name("&max_retries=2"))
    assert len(server.seen) == 3


def test_a_wait_of_an_hour_is_not_waited_for(server: EmbeddingServer) -> None:
    server.rule = lambda body: Reply(429, {"message": "no more today"}, {"Retry-After": "3600"})
    with pytest.raises(UnreachableError, match=r"429: no more today \(attempts: 1\)"):
        open_encoder(server.name())


def test_nobody_there(server: EmbeddingServer) -> None:
    name = server.name("&max_retries=1")
    server.server_close()
    with pytest.raises(UnreachableError, match=r"does not answer: .* \(attempts: 2\)"):
        open_encoder(name)


def test_a_server_that_hangs(server: EmbeddingServer) -> None:
    done = threading.Event()

    def hang(body: dict[str, Any]) -> Reply:
        done.wait(10)
        return Reply(500, b"")

    server.script = [hang]
    try:
        with pytest.raises(UnreachableError, match="does not answer: timed out"):
            open_encoder(server.name("&timeout=0.2&max_retries=0"))
    finally:
        done.set()


def test_requests_are_spaced(server: EmbeddingServer) -> None:
    begun = time.monotonic()
    encoder = open_encoder(server.name("&requests_per_minute=300&batch_size=1"))
    encoder.encode(["a", "b", "c"])
    assert len(server.seen) == 4
    # By the client's clock: a busy machine may take a request long after it was sent.
    assert time.monotonic() - begun >= 3 * 60 / 300


def test_tokens_are_spaced(server: EmbeddingServer) -> None:
    begun = time.monotonic()
    # The probe's two texts are 18 tokens, at four characters each, and those that follow ten each.
    encoder = open_encoder(server.name("&tokens_per_minute=3000&batch_size=1"))
    encoder.encode(["a" * 40, "b" * 40, "c" * 40])
    assert len(server.seen) == 4
    assert time.monotonic() - begun >= (18 + 10 + 10) * 60 / 3000


@pytest.mark.parametrize("most", [1, 3])
def test_as_many_requests_are_under_way_as_is_said(server: EmbeddingServer, most: int) -> None:
    lock, under_way, seen = threading.Lock(), 0, set[int]()
    all_there = threading.Barrier(most)

    def busy(body: dict[str, Any]) -> Reply | None:
        nonlocal under_way
        with lock:
            under_way += 1
            seen.add(under_way)
        if len(body["input"]) == 1:
            all_there.wait(30)
        with lock:
            under_way -= 1
        return None

    encoder = open_encoder(server.name(f"&batch_size=1&in_flight={most}"))
    server.rule = busy
    metered = MeteredEncoder(encoder, store=UnkeptVectors(1, []))
    texts = [f"text {n}" for n in range(6)]
    np.testing.assert_array_equal(metered.encode(texts), vectors_of(*texts))
    assert max(seen) == most


def test_threads_share_an_endpoint_its_pace_and_a_budget(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    encoder = open_encoder(server.name("&requests_per_minute=600&batch_size=2"))
    begun = time.monotonic()
    store = EmbeddingStore(tmp_path, encoder.identity, "document")
    metered = MeteredEncoder(encoder, Meter(Budget(texts=11)), store)
    batches = [[f"{batch}.{i}" for i in range(2)] for batch in range(8)]

    def ask(texts: list[str]) -> list[str]:
        vectors = metered.encode(texts, ids=texts, partly=True)
        np.testing.assert_array_equal(vectors, vectors_of(*texts)[: len(vectors)])
        return texts[: len(vectors)]

    with ThreadPoolExecutor(len(batches)) as pool:
        embedded = [text for texts in pool.map(ask, batches) for text in texts]
    assert len(embedded) == metered.meter.texts == metered.meter.encoded == 11
    assert time.monotonic() - begun >= 5 * 60 / 600
    sent = [text for seen in server.seen[1:] for text in seen.body["input"]]
    assert sorted(sent) == sorted(embedded)
    again = MeteredEncoder(encoder, store=EmbeddingStore(tmp_path, encoder.identity, "document"))
    np.testing.assert_array_equal(again.encode(embedded, ids=embedded), vectors_of(*embedded))
    assert again.meter.reused == 11


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda data: {"data": data[:-1]}, "1 vectors for 2 texts"),
        (lambda data: {"data": [data[0], data[0]]}, "not numbered 0 to 1"),
        (lambda data: {"data": [data[0], {**data[1], "embedding": [1.0]}]}, "of 1, 8 dimensions"),
        (lambda data: {"data": [{**item, "embedding": []} for item in data]}, "of 0 dimensions"),
        (lambda data: {"data": [data[0], {**data[1], "embedding": ["1"]}]}, r"data\.1\.embedding"),
        (lambda data: {"data": [data[0], {**data[1], "embedding": "?"}]}, "base64"),
        (lambda data: {"data": [data[0], {"embedding": [1.0]}]}, r"data\.1\.index"),
        (lambda data: {"vectors": []}, "data: Field required"),
        (lambda data: b"<html>hello</html>", "JSON"),
    ],
)
def test_answers_that_are_none_are_refused(
    server: EmbeddingServer, content: Callable[[list], Any], said: str
) -> None:
    server.script = [lambda body: Reply(body=content(embeddings(body)))]
    with pytest.raises(InputError, match=rf"/v1/embeddings is not usable: .*{said}"):
        open_encoder(server.name())
    assert len(server.seen) == 1


@pytest.mark.parametrize("value", ["NaN", "1e400", "1e39", None])
def test_vectors_that_cannot_be_compared_are_named(
    server: EmbeddingServer, value: str | None
) -> None:
    def hurt(body: dict[str, Any]) -> Reply:
        data = embeddings(body)
        data[1]["embedding"] = [0.0] * DIMENSION if value is None else ["X"] * DIMENSION
        return Reply(body=json.dumps({"data": data}).replace('"X"', str(value)).encode())

    encoder = open_encoder(server.name("&normalize=true"))
    server.script = [hurt]
    with pytest.raises(BadVectorError, match=r"/v1/embeddings gives .* vectors for id b\."):
        encoder.encode(["first", "second"], ids=["a", "b"])


def test_another_dimension_later_is_refused(server: EmbeddingServer) -> None:
    encoder = open_encoder(server.name())
    server.script = [lambda body: Reply(body={"data": embeddings({**body, "dimensions": 3})})]
    with pytest.raises(InputError, match="answers with 3 dimensions, after 8 before"):
        encoder.encode(["a"])


def refuse_long(body: dict[str, Any]) -> Reply | None:
    if any(len(text) > 20 for text in body["input"]):
        return Reply(400, {"error": {"message": "maximum context length is 20.", "code": 1}})
    return None


def test_a_refused_text_is_named(server: EmbeddingServer) -> None:
    server.rule = refuse_long
    server.script = [lambda body: Reply(body={"data": embeddings(body)})]  # the probe is long
    encoder = open_encoder(server.name())
    texts = ["short"] * 11
    texts[6] = "a text that is longer than twenty letters"
    with pytest.raises(InputError, match=r"^text 6: .*answers 400: maximum context length is 20\."):
        encoder.encode(texts)
    assert len(server.seen) < 12
    with pytest.raises(InputError, match=r"^id p6: "):
        encoder.encode(texts, ids=[f"p{i}" for i in range(11)])


@pytest.mark.parametrize("status", [413, 422])
def test_batches_too_large_for_the_server_are_halved(server: EmbeddingServer, status: int) -> None:
    server.rule = lambda body: (
        Reply(status, {"error": "batch size > maximum 4", "error_type": "Validation"})
        if len(body["input"]) > 4
        else None
    )
    texts = [f"text {i}" for i in range(13)]
    assert np.array_equal(open_encoder(server.name()).encode(texts), vectors_of(*texts))


SECRET = "sk-very-secret-0123456789"


def test_the_key_comes_from_the_environment(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET + "\n")
    open_encoder(server.name())
    assert server.seen[-1].authorization == f"Bearer {SECRET}"
    monkeypatch.setenv("OTHER_KEY", "other")
    open_encoder(server.name("&api_key_env=OTHER_KEY"))
    assert server.seen[-1].authorization == "Bearer other"


def test_a_missing_key_is_named(server: EmbeddingServer) -> None:
    server.rule = lambda body: Reply(401, {"error": {"message": "no key"}})
    with pytest.raises(InputError, match="answers 401, and MY_KEY is not set") as caught:
        open_encoder(server.name("&api_key_env=MY_KEY"))
    assert "Set the environment variable MY_KEY" in caught.value.remedy
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_the_key_is_never_shown(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server.rule = lambda body: Reply(status, {"error": {"message": f"not with {SECRET}"}})
    with pytest.raises((InputError, UnreachableError)) as caught:
        open_encoder(server.name("&max_retries=0"))
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel"])
def test_what_is_no_key_is_refused_without_showing_it(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UsageError, match="OPENAI_API_KEY does not hold a key") as caught:
        open_encoder(server.name())
    assert key not in str(caught.value)


def test_secrets_in_the_name_are_refused_without_showing_them(server: EmbeddingServer) -> None:
    for name in (
        server.name(f"&api_key={SECRET}"),
        f"openai:m?base_url=http://user:{SECRET}@127.0.0.1/v1",
        f"openai:m?base_url=http://127.0.0.1/v1%3Fkey={SECRET}&wrong=1",
    ):
        with pytest.raises(UsageError) as caught:
            open_encoder(name)
        assert SECRET not in str(caught.value)


def test_redirects_are_not_followed(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with EmbeddingServer() as elsewhere:
        thread = threading.Thread(target=elsewhere.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        place = f"http://127.0.0.1:{elsewhere.server_port}/v1/embeddings"
        server.rule = lambda body: Reply(307, b"", {"Location": place})
        with pytest.raises(InputError, match=f"answers 307: it has moved to {place}"):
            open_encoder(server.name())
        elsewhere.shutdown()
        thread.join()
        assert elsewhere.seen == []


def test_other_refusals_pass_on_what_the_server_says(server: EmbeddingServer) -> None:
    server.rule = lambda body: Reply(404, {"error": {"message": "no model model-a"}})
    with pytest.raises(InputError, match="answers 404: no model model-a"):
        open_encoder(server.name())
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "options",
    [
        "base_url=ftp://host/v1",
        "base_url=host:80",
        "base_url=http://",
        "batch_size=0",
        "batch_size=many",
        "dimensions=-1",
        "max_retries=-1",
        "timeout=0",
        "timeout=nan",
        "requests_per_minute=inf",
        "normalize=yes",
        "unknown=1",
    ],
)
def test_options_that_cannot_be_understood(options: str) -> None:
    with pytest.raises(UsageError, match=options.partition("=")[0]):
        open_encoder(f"openai:model-a?{options}")


def test_no_texts(server: EmbeddingServer) -> None:
    with pytest.raises(InputError, match="model-a was given no texts"):
        open_encoder(server.name()).encode(None, ids=[1])
