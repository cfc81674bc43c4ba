"""A verification finds what is wrong with a collection, and names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import models
from support.corpus import NEW_DIM, OLD_DIM, Corpus, N, unit
from support.qdrant.places import open_place
from typer.testing import CliRunner

from vecmigrate import Procrustes, migrate, open_sink, open_source, save_translator
from vecmigrate.anchors import load_anchors
from vecmigrate.cli import app
from vecmigrate.connector import Metric, TargetSpec, VectorBatch, id_array
from vecmigrate.errors import BadVectorError, InputError, MismatchError
from vecmigrate.points.checksums import BUCKETS, Tally, id_hashes
from vecmigrate.points.screening import OnBadVector
from vecmigrate.verification import CheckResult, Verification, VerifyOptions, verify

Change = Callable[[VectorBatch], VectorBatch]


@pytest.fixture
def translator(corpus: Corpus) -> Path:
    path = corpus.folder / "t.safetensors"
    fitted = Procrustes().fit(corpus.old[:100], corpus.new[:100])
    save_translator(fitted, path)
    return path


def rewrite(source: str, target: str, change: Change) -> None:
    """Copy a collection with a change."""
    with open_source(source) as old:
        spec = TargetSpec.like(old.describe())
        with open_sink(target, spec) as sink:
            for batch in old.batches(10_000):
                sink.write(change(batch))
            sink.finish()


def outcomes(found: Verification) -> dict[str, str]:
    return {check.name: check.outcome.value for check in found.checks}


def failed(found: Verification) -> list[str]:
    return [check.name for check in found.failures]


def summary(found: Verification, name: str) -> str:
    return next(check.summary for check in found.checks if check.name == name)


@pytest.mark.parametrize("kind", ["embedded", "rest", "grpc"])
def test_what_migrate_wrote_passes_in_every_store(
    corpus: Corpus, translator: Path, kind: str
) -> None:
    with open_place(kind, corpus.folder) as place:
        targets = [place.uri(place.name()), f"faiss:{corpus.folder}/new.faiss"]
        for target in targets:
            migrate(corpus.source, target, translator)
            for sample in (100, None):
                found = verify(
                    corpus.source,
                    target,
                    translator,
                    VerifyOptions(full=sample is None, sample=sample),
                )
                assert found.passed, found.failures
                ended = outcomes(found)
                # A server indexes no collection as small as this, so that there is no index.
                unindexed = kind != "embedded" and target != targets[-1]
                assert ended.pop("index recall") == ("skipped" if unindexed else "passed")
                assert set(ended.values()) == {"passed"}, found.checks
                assert found.full is (sample is None)
                compared = next(c for c in found.checks if c.name == "vectors")
                assert compared.figures["compared"] == (sample or N)
                assert compared.figures["worst"] < 1e-6


@pytest.mark.parametrize("words", ["IVF9,Flat", "HNSW12,Flat", "IDMap2,Flat"])
@pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
def test_every_kind_of_index_passes(
    corpus: Corpus, translator: Path, words: str, metric: int
) -> None:
    index = faiss.index_factory(OLD_DIM, words, metric)
    if "IVF" in words:
        index.cp.min_points_per_centroid = 1
        index.nprobe = 9
    index.train(corpus.old)
    if "IDMap" in words:
        index.add_with_ids(corpus.old, np.arange(N)[::-1].copy() * 3)
    else:
        index.add(corpus.old)
    faiss.write_index(index, str(corpus.folder / "other.faiss"))
    source, target = f"faiss:{corpus.folder}/other.faiss", f"faiss:{corpus.folder}/new.faiss"
    migrate(source, target, translator)
    found = verify(source, target, translator, VerifyOptions(full=True))
    assert set(outcomes(found).values()) == {"passed"}, found.checks


def test_kept_anchors_pass_with_their_file_only(corpus: Corpus) -> None:
    folder = corpus.folder
    for arguments in (
        ["anchors", corpus.source, "--encoder", corpus.encoder, "--size", "200", "--out",
         f"{folder}/a.parquet"],
        ["fit", "--anchors", f"{folder}/a.parquet", "--out", f"{folder}/t.safetensors"],
    ):  # fmt: skip
        assert CliRunner().invoke(app, arguments).exit_code == 0
    target = f"qdrant:{folder}/q/new"
    migrate(corpus.source, target, folder / "t.safetensors", keep_anchors=folder / "a.parquet")
    asked = VerifyOptions(full=True, keep_anchors=folder / "a.parquet")
    found = verify(corpus.source, target, folder / "t.safetensors", asked)
    assert set(outcomes(found).values()) == {"passed"}, found.checks
    without = verify(corpus.source, target, folder / "t.safetensors", VerifyOptions(full=True))
    vectors = next(check for check in without.checks if check.name == "vectors")
    assert vectors.figures["native"] == len(load_anchors(folder / "a.parquet").ids)
    assert vectors.outcome is CheckResult.FAILED
    assert "give --keep-anchors" in vectors.summary


def swap_two_payloads(batch: VectorBatch) -> VectorBatch:
    payloads = list(batch.payloads or ())
    payloads[3], payloads[5] = payloads[5], payloads[3]
    return VectorBatch(batch.ids, batch.vectors, payloads)


def swap_two_vectors(batch: VectorBatch) -> VectorBatch:
    vectors = batch.vectors.copy()
    vectors[[3, 5]] = vectors[[5, 3]]
    return batch.with_vectors(vectors)


def leave_two_out(batch: VectorBatch) -> VectorBatch:
    return batch.take(np.delete(np.arange(len(batch)), [3, 5]))


def rename_one(batch: VectorBatch) -> VectorBatch:
    ids = batch.ids.copy()
    ids[3] = 123_456
    return VectorBatch(ids, batch.vectors, batch.payloads)


def stretch_one(batch: VectorBatch) -> VectorBatch:
    vectors = batch.vectors.copy()
    vectors[3] *= 1.01
    return batch.with_vectors(vectors)


def spoil_one(batch: VectorBatch) -> VectorBatch:
    vectors = batch.vectors.copy()
    vectors[3] = np.nan
    vectors[5] = 0
    return batch.with_vectors(vectors)


@pytest.mark.parametrize(
    ("change", "names", "where", "says"),
    [
        (swap_two_payloads, ["payloads"], "payloads", "2 payloads are not the source's: ids 3, 5"),
        (swap_two_vectors, ["vectors"], "vectors", "2 of 400 vectors are not what"),
        (leave_two_out, ["count", "ids"], "ids", "2 missing: 3, 5"),
        (rename_one, ["ids"], "ids", "1 missing: 3; 1 extra: 123456"),
        (stretch_one, ["vectors", "norms"], "norms", "1 vectors are not of unit length"),
        (spoil_one, ["vectors", "finite"], "finite", "1 NaN or infinite and 1 zero vectors"),
    ],
)
def test_what_is_wrong_is_found_and_named(
    corpus: Corpus, translator: Path, change: Change, names: list[str], where: str, says: str
) -> None:
    folder = corpus.folder
    migrate(corpus.source, f"faiss:{folder}/good.faiss", translator)
    rewrite(f"faiss:{folder}/good.faiss", f"faiss:{folder}/bad.faiss", change)
    found = verify(corpus.source, f"faiss:{folder}/bad.faiss", translator, VerifyOptions(full=True))
    assert failed(found) == names, found.checks
    assert says in summary(found, where)


def test_a_target_of_another_source_fails_without_naming_everything(
    corpus: Corpus, translator: Path
) -> None:
    def shift(batch: VectorBatch) -> VectorBatch:
        return VectorBatch(batch.ids + 10**6, batch.vectors, batch.payloads)

    folder = corpus.folder
    migrate(corpus.source, f"faiss:{folder}/good.faiss", translator)
    rewrite(f"faiss:{folder}/good.faiss", f"faiss:{folder}/bad.faiss", shift)
    found = verify(corpus.source, f"faiss:{folder}/bad.faiss", translator)
    assert failed(found) == ["ids"]
    assert "at least" in summary(found, "ids")
    assert len(summary(found, "ids")) < 400
    assert outcomes(found)["vectors"] == outcomes(found)["index recall"] == "skipped"


def test_an_index_that_loses_recall_is_told_from_a_wrong_one(
    corpus: Corpus, translator: Path
) -> None:
    folder = corpus.folder
    index = faiss.index_factory(OLD_DIM, "IVF50,Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.train(corpus.old)
    index.add(corpus.old)
    faiss.write_index(index, str(folder / "ivf.faiss"))
    source, target = f"faiss:{folder}/ivf.faiss", f"faiss:{folder}/new.faiss"
    migrate(source, target, translator)
    found = verify(source, target, translator)
    assert found.passed
    assert outcomes(found)["index recall"] == "warning"
    assert "raise nprobe (now 1 of 50 lists)" in summary(found, "index recall")
    strict = verify(source, target, translator, VerifyOptions(min_index_recall=0.9))
    assert failed(strict) == ["index recall"]
    np.save(folder / "queries.npy", corpus.new[:50].astype(np.float64))
    asked = VerifyOptions(queries=folder / "queries.npy")
    assert "50 queries" in summary(verify(source, target, translator, asked), "index recall")


@pytest.mark.parametrize("words", ["SQ8", "IVF9,PQ8x4", "HNSW8,SQ6", "OPQ4,IVF9,PQ8x4"])
def test_what_a_lossy_index_loses_is_told_from_a_wrong_vector(
    corpus: Corpus, translator: Path, words: str
) -> None:
    folder = corpus.folder
    source, target = corpus.source, f"faiss:{folder}/new.faiss"
    migrate(source, f"{target}?index={words}", translator)
    found = verify(source, target, translator, VerifyOptions(full=True))
    assert outcomes(found)["vectors"] == "passed", found.checks
    assert "loses of each" in summary(found, "vectors")
    # The same kind of index, of which ten vectors are others'.
    with open_source(target) as made:
        spec = TargetSpec.like(made.describe())
    translated = Procrustes().fit(corpus.old[:100], corpus.new[:100]).transform(corpus.old)
    translated[:10] = translated[10:20]
    with open_source(source) as old, open_sink(f"faiss:{folder}/bad.faiss", spec) as sink:
        [batch] = old.batches(N)
        sink.write(VectorBatch(batch.ids, translated, batch.payloads))
        sink.finish()
    bad = verify(source, f"faiss:{folder}/bad.faiss", translator, VerifyOptions(full=True))
    assert failed(bad) == ["vectors"]
    wrong = next(check for check in bad.checks if check.name == "vectors").figures["wrong"]
    assert wrong == pytest.approx(10, abs=2)


def test_equal_vectors_are_not_held_against_an_index(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(unit(rng.standard_normal((20, OLD_DIM))), 40, axis=0)
    index = faiss.index_factory(OLD_DIM, "IVF9,Flat", faiss.METRIC_INNER_PRODUCT)
    index.nprobe = 9
    index.train(rows)
    index.add(rows)
    faiss.write_index(index, str(tmp_path / "old.faiss"))
    path = tmp_path / "t.safetensors"
    turned = rng.standard_normal((OLD_DIM, NEW_DIM)).astype(np.float32)
    save_translator(Procrustes().fit(rows, unit(rows @ turned)), path)
    source, target = f"faiss:{tmp_path}/old.faiss", f"faiss:{tmp_path}/new.faiss"
    migrate(source, target, path)
    check = next(c for c in verify(source, target, path).checks if c.name == "index recall")
    assert check.figures["recall"] == 1, check


def test_bad_vectors_of_the_source_are_expected_to_be_missing(
    corpus: Corpus, translator: Path
) -> None:
    rows = corpus.old.copy()
    rows[7] = 0
    index = faiss.IndexFlatIP(OLD_DIM)
    index.add(rows)
    faiss.write_index(index, str(corpus.folder / "old.faiss"))
    target = f"faiss:{corpus.folder}/new.faiss"
    migrate(corpus.source, target, translator, on_bad_vector="skip")
    with pytest.raises(BadVectorError):
        verify(corpus.source, target, translator)
    asked = VerifyOptions(full=True, on_bad_vector=OnBadVector.SKIP)
    found = verify(corpus.source, target, translator, asked)
    assert found.passed, found.failures
    assert "1 with a bad vector or no text, left out" in summary(found, "count")


def test_a_collection_that_changes_meanwhile_is_told(corpus: Corpus, translator: Path) -> None:
    target = f"qdrant:{corpus.folder}/q/new"
    migrate(corpus.source, target, translator)
    added: list[int] = []

    def meddle(_: int) -> None:
        if not added:
            added.append(1)
            from vecmigrate_qdrant.connect import open_access
            from vecmigrate_qdrant.location import parse_location

            from vecmigrate.connector import parse_uri

            location = parse_location(parse_uri(target))
            access = open_access(location, refusal=InputError)
            point = models.PointStruct(
                id=5000, vector=corpus.new[0].tolist(), payload={"text": "x"}
            )
            access.run(lambda client: client.upsert(location.collection, [point]))
            access.close()

    found = verify(corpus.source, target, translator, progress=meddle)
    assert "unchanged" in failed(found)


def test_what_does_not_belong_together_is_refused(corpus: Corpus, translator: Path) -> None:
    folder = corpus.folder
    target = f"faiss:{folder}/new.faiss"
    migrate(corpus.source, target, translator)
    with pytest.raises(MismatchError, match="leads to 24"):
        verify(corpus.source, corpus.source, translator)
    np.save(folder / "wide.npy", np.ones((3, 7), np.float32))
    with pytest.raises(MismatchError, match="7 dimensions"):
        verify(corpus.source, target, translator, VerifyOptions(queries=folder / "wide.npy"))
    (folder / "no.npy").write_text("no")
    with pytest.raises(InputError, match=r"no\.npy"):
        verify(corpus.source, target, translator, VerifyOptions(queries=folder / "no.npy"))


def test_a_tally_does_not_go_by_order_or_batches() -> None:
    rng = np.random.default_rng(0)
    ids = rng.permutation(5000).astype(np.int64)
    vectors = rng.standard_normal((5000, 8), dtype=np.float32)
    payloads: list[dict[str, Any]] = [{"b": int(i), "a": {"é": None}} for i in ids]

    def tally() -> Tally:
        made = Tally()
        made.add(VectorBatch(ids, vectors, payloads))
        return made

    whole, parts = tally(), Tally()
    order = np.argsort(ids)
    for start in range(0, 5000, 700):
        rows = order[start : start + 700]
        turned = [dict(reversed(payloads[r].items())) for r in rows]
        parts.add(VectorBatch(ids[rows].astype(object), vectors[rows], turned))
    assert (whole.ids == parts.ids).all()
    assert (whole.contents == parts.contents).all()
    assert whole.digest() == parts.digest()
    payloads[17]["vecmigrate_origin"] = "encoded"
    assert whole.digest() == tally().digest()
    payloads[17]["b"] = -1
    [bucket] = np.flatnonzero(whole.contents != tally().contents)
    assert bucket == int(id_hashes(ids[17:18])[0]) * BUCKETS >> 64
    payloads[17]["b"] = int(ids[17])
    vectors[3, 3] += 1
    assert (whole.contents == tally().contents).all()
    assert whole.digest() != tally().digest()


def test_string_ids_and_manhattan(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    old = unit(rng.standard_normal((60, OLD_DIM)))
    names = id_array([f"document {i}" for i in range(60)])
    spec = TargetSpec(dimension=OLD_DIM, metric=Metric.MANHATTAN)
    with open_sink(f"faiss:{tmp_path}/old.faiss", spec) as sink:
        sink.write(VectorBatch(names, old, [{"n": i} for i in range(60)]))
        sink.finish()
    new = unit(rng.standard_normal((60, NEW_DIM)))
    save_translator(Procrustes().fit(old, new), tmp_path / "t.safetensors")
    source, target = f"faiss:{tmp_path}/old.faiss", f"faiss:{tmp_path}/new.faiss"
    migrate(source, target, tmp_path / "t.safetensors")
    found = verify(source, target, tmp_path / "t.safetensors", VerifyOptions(batch_size=7))
    assert set(outcomes(found).values()) == {"passed"}, found.checks
    assert Verification.model_validate_json(found.model_dump_json()) == found
    assert json.loads(found.model_dump_json())["checks"][0]["figures"]["target"] == 60


def command(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_what_is_pending_alone_is_next_brought_by_sync(
    corpus: Corpus, translator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VECMIGRATE_STATE", raising=False)
    monkeypatch.chdir(corpus.folder)
    rewrite(corpus.source, "faiss:mine.faiss", lambda batch: batch)
    pair = ["faiss:mine.faiss", "faiss:new.faiss", "--translator", translator]
    command("migrate", *pair, "-q")
    for path in corpus.folder.glob("mine.faiss*"):
        path.unlink()
    rewrite(corpus.source, "faiss:mine.faiss", lambda batch: batch.take(np.arange(40, len(batch))))
    out, _ = command("verify", *pair, code=6)
    assert out.splitlines()[-1].startswith("Next: vecmigrate sync '")


def test_the_command_says_what_failed_and_what_is_next(
    corpus: Corpus, translator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus.folder
    monkeypatch.chdir(folder)
    monkeypatch.delenv("VECMIGRATE_STATE", raising=False)
    command("migrate", corpus.source, "faiss:good.faiss", "--translator", translator, "-q")
    arguments = ["--translator", translator, "--full"]
    out, err = command("verify", corpus.source, "faiss:good.faiss", *arguments)
    assert err == ""
    assert out.splitlines()[-1] == (
        "Next: vecmigrate cutover NAME --to 'faiss:good.faiss', NAME being what readers open"
    )
    rewrite(f"faiss:{folder}/good.faiss", f"faiss:{folder}/bad.faiss", leave_two_out)
    out, err = command("verify", corpus.source, "faiss:bad.faiss", *arguments, code=6)
    assert err.splitlines() == [
        "error: faiss:bad.faiss: count: 398 points, the source has 400",
        "error: faiss:bad.faiss: ids: 2 missing: 3, 5",
    ]
    assert out.splitlines()[-1].startswith("Next: do not let readers have it")
    out, _ = command("verify", corpus.source, "faiss:bad.faiss", *arguments, "--json", code=6)
    assert [c["name"] for c in json.loads(out)["checks"] if c["outcome"] == "failed"] == [
        "count",
        "ids",
    ]
    assert command("verify", corpus.source, "faiss:good.faiss", *arguments, "-q") == ("", "")
    command("verify", corpus.source, "faiss:good.faiss", *arguments, "--sample", 3, code=2)
    assert (folder / ".vecmigrate" / "state.sqlite").exists()


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner,
                                                                max_size=3),
    max_leaves=6,
)  # fmt: skip
_payload = st.dictionaries(st.sampled_from("abcdé漢"), _json, max_size=4)
_ids = st.lists(st.integers(0, 2**62), min_size=30, max_size=30, unique=True) | st.lists(
    st.uuids().map(str), min_size=30, max_size=30, unique=True
)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(ids=_ids, payloads=st.lists(_payload, min_size=30, max_size=30), store=st.booleans(),
       at=st.integers(0, 29))  # fmt: skip
def test_any_collection_passes_and_any_change_is_found(
    tmp_path_factory: pytest.TempPathFactory,
    ids: list[int | str],
    payloads: list[dict[str, Any]],
    store: bool,
    at: int,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    rng = np.random.default_rng(at)
    old, new = unit(rng.standard_normal((30, OLD_DIM))), unit(rng.standard_normal((30, NEW_DIM)))
    save_translator(Procrustes().fit(old, new), folder / "t.safetensors")
    batch = VectorBatch(id_array(ids), old, payloads)
    source = f"faiss:{folder}/old.faiss" if store else f"qdrant:{folder}/q/old"
    target = f"qdrant:{folder}/q/new" if store else f"faiss:{folder}/new.faiss"
    with open_sink(source, TargetSpec(dimension=OLD_DIM, metric=Metric.COSINE)) as sink:
        sink.write(batch)
        sink.finish()
    migrate(source, target, folder / "t.safetensors")
    asked = VerifyOptions(full=True, batch_size=11)
    found = verify(source, target, folder / "t.safetensors", asked)
    assert found.passed, found.failures

    def change(copied: VectorBatch) -> VectorBatch:
        changed = [dict(p) for p in copied.payloads or [{}] * 30]
        changed[at]["another field"] = 1
        return VectorBatch(copied.ids, copied.vectors, changed)

    rewrite(target, f"faiss:{folder}/changed.faiss", change)
    worse = verify(source, f"faiss:{folder}/changed.faiss", folder / "t.safetensors", asked)
    assert failed(worse) == ["payloads"]
    check = next(check for check in worse.checks if check.name == "payloads")
    assert check.figures["differing"] == 1
