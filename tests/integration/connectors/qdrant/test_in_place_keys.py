"""A vector is added in place to a collection with shard keys, where ids are unique within a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from support.qdrant.in_place import OLD, ROWS, SPARSE, TRANSLATOR, fill, saved
from support.qdrant.places import SERVED, Place, need_shard_keys, open_place
from typer.testing import CliRunner

from vecmigrate import migrate, open_source
from vecmigrate.cli import app
from vecmigrate.errors import ExitCode, TerminatedError

KEYS = ("eu", "us", 7)
COUNT = 40
"""Points under each key, with the same ids."""


@pytest.fixture(params=SERVED)
def move(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Move]:
    with open_place(request.param, tmp_path) as place:
        need_shard_keys(place)
        yield Move(place, tmp_path)


class Move:
    """A collection with shard keys, whose points have the vector ``old``."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder, self.name = place, folder, place.name()
        self.live = f"{self.name}-live"
        with place.client() as client:
            client.create_collection(
                self.name,
                vectors_config={
                    "old": models.VectorParams(size=OLD, distance=models.Distance.COSINE)
                },
                sparse_vectors_config={"words": models.SparseVectorParams()},
                sharding_method=models.ShardingMethod.CUSTOM,
                shard_number=1,
            )
            for at, key in enumerate(KEYS):
                client.create_shard_key(self.name, key)
                put(client, self.name, key, range(COUNT), COUNT * at)
            create = models.CreateAlias(collection_name=self.name, alias_name=self.live)
            client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])

    @property
    def pair(self) -> list[str]:
        found = [self.place.uri(self.name, o) for o in ("vector=old", "vector=new&in_place=true")]
        return [uri.replace("retries=0&", "") for uri in found]

    def run(self, command: str, *arguments: str, code: int = 0) -> dict[str, Any]:
        state = ["--state", str(self.folder / "state.sqlite"), "--json"]
        ran = CliRunner().invoke(app, [command, *arguments, *state], catch_exceptions=False)
        assert ran.exit_code == code, ran.output
        return dict(json.loads(ran.stdout))

    def both(self, command: str, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run a command that takes the source, the target and the translator."""
        translator = ["--translator", str(saved(self.folder))]
        return self.run(command, *self.pair, *translator, *arguments, code=code)

    def changes(self) -> tuple[int, ...]:
        told = self.both("sync")
        return tuple(told[name] for name in ("arrived", "changed", "vanished", "left_alone"))

    def records(self, key: str | int) -> dict[Any, Any]:
        with self.place.client() as client:
            found, _ = client.scroll(
                self.name, limit=1000, with_vectors=True, shard_key_selector=key
            )
        return {record.id: record for record in found}


def put(
    client: QdrantClient, name: str, key: str | int, ids: range | list[int], first: int
) -> None:
    """Write points whose old vectors are the rows from ``first`` on."""
    client.upsert(
        name,
        [
            models.PointStruct(
                id=i,
                vector={"old": ROWS[first + at].tolist(), "words": SPARSE},
                payload={"text": f"{key} {i}"},
            )
            for at, i in enumerate(ids)
        ],
        shard_key_selector=key,
        wait=True,
    )


def check(found: dict[Any, Any], rows: dict[int, int]) -> None:
    """Compare the new vectors with translations of the rows."""
    assert found.keys() == rows.keys()
    wanted = TRANSLATOR.transform(ROWS[list(rows.values())])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    for number, row in zip(rows, wanted, strict=True):
        assert set(found[number].vector) == {"old", "new", "words"}
        np.testing.assert_allclose(found[number].vector["new"], row, atol=1e-5)


def test_each_point_gets_the_vector_of_its_own(move: Move) -> None:
    assert move.both("migrate")["written"] == 3 * COUNT
    for at, key in enumerate(KEYS):
        found = move.records(key)
        check(found, {i: COUNT * at + i for i in range(COUNT)})
        assert all(record.payload == {"text": f"{key} {i}"} for i, record in found.items())
    assert move.both("verify", "--full")["passed"]
    with open_source(move.pair[1]) as target:
        assert target.describe().count == 3 * COUNT
    assert move.changes() == (0, 0, 0, 0)


def test_sync_keeps_equal_ids_apart(move: Move) -> None:
    """One id under three keys: written anew, changed and deleted."""
    move.both("migrate")
    with move.place.client() as client:
        put(client, move.name, "eu", [5], 500)
        client.update_vectors(
            move.name,
            [models.PointVectors(id=5, vector={"old": ROWS[501].tolist()})],
            shard_key_selector="us",
            wait=True,
        )
        client.delete(move.name, models.PointIdsList(points=[5]), shard_key_selector=7, wait=True)
        client.delete_vectors(move.name, ["old"], [6], shard_key_selector=7, wait=True)
        client.delete_vectors(move.name, ["new"], [7], shard_key_selector="us", wait=True)
        client.create_shard_key(move.name, "asia")
        put(client, move.name, "asia", range(3, 8), 600)
    told = move.run("status", move.pair[1], "--source", move.pair[0])
    assert told["pending"] == {"arrived": 7, "vanished": 1, "left_out": 0}
    assert move.changes() == (7, 1, 1, 0)
    kept = {i: i for i in range(COUNT)}
    check(move.records("eu"), kept | {5: 500})
    check(move.records("us"), {i: COUNT + i for i in kept} | {5: 501})
    seven = move.records(7)
    assert set(seven.pop(6).vector) == {"words"}
    check(seven, {i: 2 * COUNT + i for i in kept if i not in (5, 6)})
    check(move.records("asia"), {i: 597 + i for i in range(3, 8)})
    assert move.both("verify", "--full")["passed"]
    assert move.changes() == (0, 0, 0, 0)
    told = move.run("status", move.pair[1], "--source", move.pair[0])
    assert told["pending"] == {"arrived": 0, "vanished": 0, "left_out": 0}
    assert (told["translated"], told["other"], told["in_place"]) == (3 * COUNT + 3, 0, True)
    assert told["verified"]["passed"]


def test_readers_go_over_back_and_for_good(move: Move) -> None:
    move.both("migrate")
    live, target = move.place.uri(move.live), move.pair[1]
    move.run("cutover", live, "--to", target, code=ExitCode.NOT_VERIFIED)
    move.both("verify")
    told = move.run("cutover", live, "--to", target)
    assert (told["before"]["vector"], told["after"]["vector"]) == ("old", "new")
    assert move.run("status", target)["readers"]
    told = move.run("rollback", live)
    assert (told["before"]["vector"], told["after"]["vector"]) == ("new", "old")
    assert not move.run("status", target)["readers"]
    assert move.both("verify")["passed"]
    move.run("cutover", live, "--to", target)
    assert not move.run("status", target)["source_dropped"]
    dropped = move.run("drop-source", live, "--yes")
    assert move.run("status", target)["source_dropped"]
    assert (dropped["vector"], dropped["done"]) == ("old", True)
    for key in KEYS:
        found = move.records(key)
        assert len(found) == COUNT
        assert all(set(record.vector) == {"new", "words"} for record in found.values())
    move.both("sync", code=ExitCode.MISMATCH)


@pytest.mark.parametrize("kind", SERVED[:2])
def test_a_run_that_was_stopped_is_continued(kind: str, tmp_path: Path) -> None:
    with open_place(kind, tmp_path) as place:
        move, seen = Move(place, tmp_path), 0

        def note(count: int) -> None:
            nonlocal seen
            seen += count

        with pytest.raises(TerminatedError):
            migrate(
                *move.pair,
                saved(tmp_path),
                state=tmp_path / "state.sqlite",
                batch_size=7,
                checkpoint_seconds=0,
                progress=note,
                stop=lambda: seen >= COUNT + 5,
            )
        assert seen < 3 * COUNT
        assert move.both("migrate")["written"] == 3 * COUNT
        assert move.both("verify", "--full")["passed"]
        assert move.changes() == (0, 0, 0, 0)


def test_ids_without_keys_are_refused(move: Move) -> None:
    """Of another source: whose they are is not known."""
    before = {key: move.records(key) for key in KEYS}
    other = fill(move.place)
    source = move.place.uri(other, "vector=old")
    translator = ["--translator", str(saved(move.folder))]
    move.run("migrate", source, move.pair[1], *translator, code=ExitCode.MISMATCH)
    assert {key: move.records(key) for key in KEYS} == before
