"""``vecmigrate inspect --diff``: what two collections differ in, and which of it a map makes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from qdrant_client import models
from support.faiss.indexes import save
from support.qdrant.cases import dense, params
from support.qdrant.places import PLACES, Place, open_place
from typer.testing import CliRunner

from vecmigrate import Procrustes, migrate, save_translator
from vecmigrate.cli import app
from vecmigrate.cli.inspect import show_differences
from vecmigrate.cli.output import Output
from vecmigrate.connector import EncoderIdentity

NEW = EncoderIdentity(name="new-model", dimension=12, normalized=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def translator(tmp_path: Path) -> Path:
    X = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    path = tmp_path / "t.safetensors"
    save_translator(Procrustes().fit(X, np.c_[X, X[:, :4]]), path, target_encoder=NEW)
    return path


def diff(source: str, target: str) -> dict[str, Any]:
    ended = CliRunner().invoke(app, ["inspect", "--diff", source, target, "--json"])
    assert ended.exit_code == 0, ended.output
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def by_name(found: dict[str, Any], *, expected: bool) -> dict[str, tuple[Any, Any]]:
    return {
        each["setting"]: (each["source"], each["target"])
        for each in found["differences"]
        if (each["expected"] is not None) is expected
    }


def test_a_migration_differs_by_what_it_is_for(place: Place, translator: Path) -> None:
    old, new = place.name("old"), place.name("new")
    with place.client() as client:
        client.create_collection(
            old,
            {"text": params(), "image": params(5)},
            hnsw_config=models.HnswConfigDiff(m=24),
            metadata={"owner": {"team": "search"}},
        )
        client.upsert(
            old, [models.PointStruct(id=i, vector={"text": dense(i)}, payload={}) for i in range(9)]
        )
    source, target = place.uri(old, "vector=text"), place.uri(new)
    migrate(source, target, translator)
    found = diff(source, target)
    assert by_name(found, expected=False) == {}
    expected = by_name(found, expected=True)
    assert expected.pop("dimension") == (8, 12)
    assert expected.pop("encoder") == (None, str(NEW))
    assert expected.keys() == {"made by vecmigrate"}
    assert found["alike"] > 12
    shown = CliRunner().invoke(app, ["inspect", "--diff", source, target]).output
    assert "the new encoder's" in shown
    assert "nothing differs but what a translation changes" in shown


def test_what_no_translation_makes_is_named(place: Place) -> None:
    old, new = place.name("old"), place.name("new")
    with place.client() as client:
        client.create_collection(
            old, params(on_disk=True), hnsw_config=models.HnswConfigDiff(m=24), metadata={"a": 1}
        )
        client.create_collection(new, params(), hnsw_config=models.HnswConfigDiff(m=32))
    found = diff(place.uri(old), place.uri(new))
    unexpected = by_name(found, expected=False)
    assert unexpected["settings.vector_params.on_disk"] == (True, None)
    assert unexpected["settings.metadata.a"] == (1, None)
    if place.kind != "embedded":
        assert unexpected["settings.hnsw_config.m"] == (24, 32)
        assert unexpected["index_type"][0] == "HNSW(m=24, ef_construct=100)"
    shown = CliRunner().invoke(app, ["inspect", "--diff", place.uri(old), place.uri(new)]).output
    assert f"see to the {len(unexpected):,} marked NO" in shown


def test_a_pipe_gets_every_cell_whole_and_a_narrow_terminal_in_more_lines(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = place.name("old"), place.name("new")
    long = {name: "x" * 20_000 + name for name in ("a", "b")}
    with place.client() as client:
        client.create_collection(old, params(), metadata={"said": long["a"]})
        client.create_collection(new, params(), metadata={"said": long["b"]})
    shown = CliRunner().invoke(app, ["inspect", "--diff", place.uri(old), place.uri(new)]).stdout
    rows = [line.split() for line in shown.splitlines()]
    assert ["settings.metadata.said", long["a"], long["b"], "NO"] in rows

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    with Output(as_json=False, quiet=False) as out:
        show_differences(out, place.uri(old), place.uri(new))
    table = terminal.getvalue().partition(" settings are alike")[0].splitlines()[1:-1]
    assert max(map(len, table)) <= 60
    assert sum(line.count("x") for line in table) >= 2 * 20_000
    assert not any("…" in line for line in table)


def test_faiss_indexes(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    uris = []
    for name, probes in (("one", 1), ("two", 3)):
        index = faiss.index_factory(8, "IVF4,Flat")
        index.train(vectors)
        index.add(vectors)
        index.nprobe = probes
        uris.append(save(index, tmp_path / f"{name}.faiss"))
    assert diff(uris[0], uris[0])["differences"] == []
    unexpected = by_name(diff(*uris), expected=False)
    assert list(unexpected.values()) == [(1, 3)]
    assert "nprobe" in next(iter(unexpected))


def test_two_stores_are_compared_by_what_both_have(place: Place, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((9, 8)).astype(np.float32)
    index = faiss.IndexFlatIP(8)
    index.add(vectors)
    name = place.name("new")
    with place.client() as client:
        client.create_collection(name, params())
    found = diff(save(index, tmp_path / "old.faiss"), place.uri(name))
    assert found["settings_compared"] is False
    assert {"store", "count"} <= set(by_name(found, expected=False))
    assert not any(each["setting"].startswith("settings.") for each in found["differences"])


@pytest.mark.parametrize("arguments", [["--diff", "faiss:a"], ["faiss:a", "faiss:b"]])
def test_one_without_the_other_is_refused(arguments: list[str]) -> None:
    ended = CliRunner().invoke(app, ["inspect", *arguments])
    assert ended.exit_code == 2
    assert "vecmigrate inspect --diff SOURCE TARGET" in ended.output
