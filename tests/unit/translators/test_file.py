"""Translator files: what was fitted comes back; what does not add up is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from vecmigrate import KernelRidge, Procrustes, load_translator, save_translator
from vecmigrate.connector import EncoderIdentity
from vecmigrate.errors import InputError, MismatchError, TargetExistsError, WriteError
from vecmigrate.translators import read_card, translator_sha256

OLD = EncoderIdentity(name="old", dimension=5, normalized=True)
NEW = EncoderIdentity(name="new", revision="abc", dimension=3, prompt="query: ", normalized=False)


def fitted(seed: int = 0, d_x: int = 5, d_y: int = 3) -> Procrustes:
    rng = np.random.default_rng(seed)
    return Procrustes().fit(rng.standard_normal((50, d_x)), rng.standard_normal((50, d_y)))


@given(seed=st.integers(0, 1000), d_x=st.integers(1, 9), d_y=st.integers(1, 9))
@settings(deadline=None, max_examples=25)
def test_a_translator_comes_back_bit_for_bit(
    seed: int, d_x: int, d_y: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.safetensors"
    translator = fitted(seed, d_x, d_y)
    save_translator(translator, path)
    X = np.random.default_rng(seed + 1).standard_normal((7, d_x)).astype(np.float32)
    np.testing.assert_array_equal(load_translator(path).transform(X), translator.transform(X))


def test_the_card_tells_where_a_translator_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    card = save_translator(fitted(), path, seed=4, source_encoder=OLD, target_encoder=NEW)
    assert read_card(path) == card
    assert (card.method, card.source_dimension, card.target_dimension) == ("procrustes", 5, 3)
    assert (card.anchors, card.seed) == (50, 4)
    assert (card.source_encoder, card.target_encoder) == (OLD, NEW)
    assert set(card.versions) == {"vecmigrate", "numpy"}


def test_equal_fits_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_translator(fitted(), tmp_path / name, seed=1)
    assert translator_sha256(tmp_path / "a") == translator_sha256(tmp_path / "b")


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    save_translator(Procrustes().fit(np.eye(4), np.eye(4)), tmp_path / "t")
    assert (tmp_path / "t").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_an_existing_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    path.write_text("precious")
    with pytest.raises(TargetExistsError, match=r"t\.safetensors exists"):
        save_translator(fitted(), path)
    assert path.read_text() == "precious"


def test_an_encoder_of_another_dimension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="source encoder new@abc"):
        save_translator(fitted(), tmp_path / "t", source_encoder=NEW)


def test_an_unwritable_folder_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="cannot be written"):
        save_translator(fitted(), tmp_path / "missing" / "t.safetensors")


def test_a_file_that_is_no_translator_is_refused(tmp_path: Path) -> None:
    garbage, foreign = tmp_path / "garbage", tmp_path / "foreign"
    garbage.write_bytes(os.urandom(100))
    save_file({"weights": np.eye(2, dtype=np.float32)}, foreign)
    for path in (garbage, foreign, tmp_path):
        with pytest.raises(InputError, match="not a translator file"):
            load_translator(path)
    with pytest.raises(InputError, match="does not exist"):
        load_translator(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format_version": 99}, MismatchError),
        ({"format_version": 0}, MismatchError),
        ({"method": "unheard-of"}, MismatchError),
        ({"source_dimension": 6}, MismatchError),
        ({"target_dimension": 6}, MismatchError),
        ({"parameters": {}}, InputError),
        ({"anchors": "many"}, InputError),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, object], error: type[Exception]
) -> None:
    path = tmp_path / "t.safetensors"
    translator = fitted()
    card = save_translator(translator, path).model_dump(mode="json")
    tensors, _ = translator.state()
    save_file(tensors, path, metadata={"vecmigrate": json.dumps({**card, **change})})
    with pytest.raises(error):
        load_translator(path)


def test_tensors_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    card = save_translator(fitted(), path)
    tensors = {"weights": np.zeros((5, 3), np.float32), "offset": np.zeros(4, np.float32)}
    save_file(tensors, path, metadata={"vecmigrate": card.model_dump_json()})
    with pytest.raises(InputError, match="damaged"):
        load_translator(path)


WRITTEN_BEFORE = Path(__file__).parents[2] / "data" / "translators"
"""Files of the version before translators registered themselves: data/make_translators.py."""


@pytest.mark.parametrize("method", ["procrustes", "ridge", "kernel-ridge"])
def test_a_file_written_before_translates_the_same_and_is_written_the_same(
    method: str, tmp_path: Path
) -> None:
    path = WRITTEN_BEFORE / f"{method}.safetensors"
    expected = np.load(WRITTEN_BEFORE / "expected.npz")
    translator, card = load_translator(path), read_card(path)
    np.testing.assert_allclose(
        translator.transform(expected["rows"]), expected[method], rtol=1e-6, atol=1e-6
    )
    tensors, parameters = translator.state()
    save_file(tensors, tmp_path / "t", metadata={"vecmigrate": card.model_dump_json()})
    assert (tmp_path / "t").read_bytes() == path.read_bytes()
    assert json.dumps(parameters) == json.dumps(card.parameters)


def test_a_file_written_before_that_reads_texts_translates_the_same() -> None:
    expected = np.load(WRITTEN_BEFORE / "expected.npz")
    translator = load_translator(WRITTEN_BEFORE / "texts.safetensors")
    texts = ["w51 w38 w30 w16 w18", "w2 w4 w0 w10 w48", "w38 w54 w30 w36 w58"]
    translated = translator.transform(translator.inputs(expected["texts rows"], texts))
    np.testing.assert_allclose(translated, expected["texts"], rtol=1e-6, atol=1e-6)


def test_a_file_has_the_oldest_version_that_can_tell_what_it_holds(tmp_path: Path) -> None:
    """So that an older vecmigrate refuses what it would translate otherwise, and only that."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 5))
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    for name, version, translator in (
        ("linear", 1, Procrustes().fit(X, unit)),
        ("free", 1, KernelRidge().fit(X, X)),
        ("unit", 2, KernelRidge().fit(X, unit)),
        ("left", 1, KernelRidge(restore_length=False).fit(X, unit)),
        ("before", 1, load_translator(WRITTEN_BEFORE / "kernel-ridge.safetensors")),
    ):
        assert save_translator(translator, tmp_path / name).format_version == version
        rows = rng.standard_normal((9, 5)).astype(np.float32)
        again = load_translator(tmp_path / name)
        np.testing.assert_array_equal(again.transform(rows), translator.transform(rows))
        assert save_translator(again, tmp_path / f"{name}, again").format_version == version


@pytest.mark.parametrize("lost", ["text_dim", "gamma"])
def test_only_what_older_files_never_had_may_be_missing(lost: str, tmp_path: Path) -> None:
    path = WRITTEN_BEFORE / "kernel-ridge.safetensors"
    translator, card = load_translator(path), read_card(path)
    left = {name: value for name, value in card.parameters.items() if name != lost}
    changed = card.model_copy(update={"parameters": left}).model_dump_json()
    save_file(translator.state()[0], tmp_path / "t", metadata={"vecmigrate": changed})
    if lost == "gamma":
        with pytest.raises(InputError):
            load_translator(tmp_path / "t")
    else:
        rows = np.eye(5, dtype=np.float32)
        again = load_translator(tmp_path / "t").transform(rows)
        np.testing.assert_array_equal(again, translator.transform(rows))
