"""A vector that was added in place is kept in step, given to readers, and replaces the old one."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from qdrant_client import QdrantClient, models
from support.crash import stepper
from support.dry_run_corpus import make_dry_run_corpus
from support.qdrant.in_place import (
    FEW,
    NEW,
    OLD,
    RNG,
    ROWS,
    SPARSE,
    TRANSLATOR,
    fill,
    records,
    saved,
)
from support.qdrant.places import PLACES, SERVED, Place, open_place
from typer.testing import CliRunner

from vecmigrate import Procrustes, migrate, open_source
from vecmigrate.cli import app
from vecmigrate.connector import Vectors
from vecmigrate.errors import ExitCode, InputError, UsageError, VectorNotFoundError
from vecmigrate.sync import SyncResult, sync
from vecmigrate.verification import VerifyOptions, verify

THEIRS = RNG.standard_normal((10, NEW)).astype(np.float32)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


class Move:
    """A collection that got a vector in place, and the commands that follow."""

    def __init__(self, place: Place, folder: Path, *, lacking: tuple[int, ...] = ()) -> None:
        self.place, self.name = place, fill(place, lacking=lacking)
        self.source = place.uri(self.name, "vector=old")
        self.target = place.uri(self.name, "vector=new&in_place=true")
        self.translator, self.state = saved(folder), folder / "state.sqlite"
        migrate(self.source, self.target, self.translator, state=self.state)

    def sync(self, **settings: Any) -> SyncResult:
        return sync(self.source, self.target, self.translator, self.state, **settings)

    def verified(self) -> bool:
        """Compare every vector."""
        asked = VerifyOptions(full=True)
        return verify(self.source, self.target, self.translator, asked).passed

    def call(self, command: str, *arguments: str) -> Result:
        given = [command, *arguments, "--state", str(self.state)]
        return CliRunner().invoke(app, given, catch_exceptions=False)

    def verify(self) -> Result:
        return self.call("verify", self.source, self.target, "--translator", str(self.translator))

    def json(self, command: str, *arguments: str) -> dict[str, Any]:
        ended = self.call(command, *arguments, "--json")
        assert ended.exit_code == 0, ended.output
        return dict(json.loads(ended.stdout))

    def alias(self, alias: str = "live") -> str:
        """Make an alias, and return its URI."""
        name = f"{self.name}-{alias}"
        with self.place.client() as client:
            lead(client, name, self.name)
        return self.place.uri(name)


def lead(client: QdrantClient, alias: str, collection: str) -> None:
    create = models.CreateAlias(collection_name=collection, alias_name=alias)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])


def expected(rows: Vectors) -> Vectors:
    made = TRANSLATOR.transform(rows)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def change(move: Move) -> None:
    """All that writers do to points that have both vectors."""
    with move.place.client() as client:
        client.upsert(
            move.name,
            [
                # New, and the old vector alone, with which 6 loses the new one.
                models.PointStruct(id=1000, vector={"old": ROWS[400].tolist()}, payload={"n": 1}),
                models.PointStruct(id=6, vector={"old": ROWS[6].tolist(), "words": SPARSE}),
            ],
        )
        client.update_vectors(
            move.name, [models.PointVectors(id=5, vector={"old": ROWS[500].tolist()})]
        )
        client.delete_vectors(move.name, ["old"], [7])
        client.delete(move.name, models.PointIdsList(points=[8]))
        client.set_payload(move.name, {"text": "another one"}, [9])


def test_points_are_kept_in_step(place: Place, tmp_path: Path) -> None:
    move = Move(place, tmp_path, lacking=(3,))
    first = move.sync()
    assert (first.wrote, first.adopted) == (0, FEW - 1)
    change(move)
    before = records(place, move.name)
    heard = [] if place.engine is None else place.engine.heard
    heard.clear()
    done = move.sync()
    assert (done.arrived, done.changed, done.vanished) == (2, 1, 1)
    assert done.translated == FEW - 2
    assert not [what for what, _ in heard if what.endswith(("Upsert", "/points/payload"))]
    after = records(place, move.name)
    assert after.keys() == before.keys()
    for number, record in after.items():
        had = dict(before[number].vector)
        assert record.payload == before[number].payload
        for other in {"old", "words"} & had.keys():
            assert record.vector[other] == had[other]
    for number, row in {1000: 400, 6: 6, 5: 500, 9: 9}.items():
        np.testing.assert_allclose(
            after[number].vector["new"], expected(ROWS[row : row + 1])[0], atol=1e-5
        )
    assert [i for i, record in after.items() if "new" not in record.vector] == [3, 7]
    assert move.verified()
    assert move.sync().wrote == 0


def test_the_status_of_a_verified_vector_does_not_ask_to_verify_it(
    place: Place, tmp_path: Path
) -> None:
    move = Move(place, tmp_path)
    move.sync()
    assert "vecmigrate verify" in move.call("status", move.target).stdout
    assert move.verify().exit_code == 0
    assert "vecmigrate verify" not in move.call("status", move.target).stdout


def test_what_changes_before_the_first_sync_is_brought_by_it(place: Place, tmp_path: Path) -> None:
    move = Move(place, tmp_path)
    change(move)
    planned = move.sync(dry_run=True, changed_by="ids")
    assert (planned.arrived, planned.vanished, planned.compared) == (2, 1, FEW - 3)
    done = move.sync(changed_by="ids")
    assert (done.arrived, done.changed, done.vanished, done.left_alone) == (2, 1, 1, 0)
    assert move.verified()
    assert move.sync().wrote == 0


@pytest.mark.parametrize("by", ["ids", "n"])
def test_other_ways_to_tell_a_change(by: str, tmp_path: Path) -> None:
    with open_place("embedded", tmp_path) as place:
        move = Move(place, tmp_path)
        if by == "n":
            with pytest.raises(UsageError, match="nested, text"):
                move.sync(changed_by=by)
        with place.client() as client:
            client.set_payload(move.name, {"n": 1}, list(range(FEW)))
        assert move.sync(changed_by=by).wrote == 0
        change(move)
        with place.client() as client:
            client.set_payload(move.name, {"n": 2}, [5])
        done = move.sync(changed_by=by)
        assert (done.arrived, done.changed, done.vanished) == (2, int(by == "n"), 1)
        assert move.sync().changed == int(by == "ids")
        assert move.verified()


@pytest.mark.parametrize("asked", [FEW // 3, FEW // 2 + 1])
def test_a_sample_is_of_points_that_have_the_vector(asked: int, tmp_path: Path) -> None:
    with open_place("embedded", tmp_path) as place:
        move = Move(place, tmp_path, lacking=tuple(range(1, FEW, 2)))
        found = verify(move.source, move.target, move.translator, VerifyOptions(sample=asked))
    [vectors] = [check for check in found.checks if check.name == "vectors"]
    assert vectors.figures["compared"] == min(asked, FEW // 2)


def test_what_writers_made_themselves_is_left_alone(place: Place, tmp_path: Path) -> None:
    move = Move(place, tmp_path)
    move.sync()
    with place.client() as client:
        client.update_vectors(
            move.name,
            [
                models.PointVectors(
                    id=i, vector={"old": ROWS[400 + i].tolist(), "new": THEIRS[i].tolist()}
                )
                for i in range(3)
            ],
        )
        client.upsert(move.name, [models.PointStruct(id=2000, vector={"new": THEIRS[9].tolist()})])
    done = move.sync()
    assert (done.wrote, done.left_alone) == (0, 3)
    found = records(place, move.name)
    for number, row in {0: 0, 1: 1, 2: 2, 2000: 9}.items():
        # qdrant-client's own engine gives back what was not normalised yet.
        there = np.array(found[number].vector["new"])
        theirs = THEIRS[row] / np.linalg.norm(THEIRS[row])
        np.testing.assert_allclose(there / np.linalg.norm(there), theirs, atol=1e-5)


def test_the_state_is_told(tmp_path: Path) -> None:
    with open_place("embedded", tmp_path) as place:
        move = Move(place, tmp_path, lacking=(3,))
        move.sync()
        assert move.json("status", move.target, "--source", move.source)["pending"] == {
            "arrived": 0,
            "vanished": 0,
            "left_out": 0,
        }
        change(move)
        told = move.json("status", move.target, "--source", move.source)
        assert told["pending"] == {"arrived": 2, "vanished": 1, "left_out": 0}
        assert (told["translated"], told["other"], told["verified"]) == (FEW - 3, 0, None)
        planned = move.sync(dry_run=True)
        done = move.sync()
        for found in (planned, done):
            assert (found.arrived, found.changed, found.vanished) == (2, 1, 1)
        assert move.verify().exit_code == 0
        told = move.json("status", move.target, "--source", move.source)
        assert told["pending"] == {"arrived": 0, "vanished": 0, "left_out": 0}
        assert told["verified"]["passed"]


def deleting(
    monkeypatch: pytest.MonkeyPatch, move: Move | Place, name: str, ids: list[int]
) -> None:
    """Have points deleted between the reading and the writing of the first batch."""
    transform, left = Procrustes.transform, [ids]
    place = move.place if isinstance(move, Move) else move
    deletes = threading.Lock()

    def deleted(self: Procrustes, *given: Any, **more: Any) -> Vectors:
        # Several threads translate: none goes on before the points are gone.
        with deletes:
            if left:
                with place.client() as client:
                    client.delete(name, models.PointIdsList(points=left.pop()))
        return transform(self, *given, **more)

    monkeypatch.setattr(Procrustes, "transform", deleted)


# Embedded storage serves one client: nobody else can delete meanwhile.
@pytest.mark.parametrize("kind", PLACES[1:])
def test_points_that_are_deleted_while_they_are_migrated_are_passed_over(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_place(kind, tmp_path) as place:
        name = fill(place)
        source = place.uri(name, "vector=old")
        target = place.uri(name, "vector=new&in_place=true")
        state = tmp_path / "state.sqlite"
        with monkeypatch.context() as patched:
            deleting(patched, place, name, [2, 17])
            done = migrate(source, target, saved(tmp_path), batch_size=100, state=state)
        assert not done.in_step
        assert done.notes
        found = records(place, name)
        assert set(found) == set(range(FEW)) - {2, 17}
        assert all("new" in record.vector for record in found.values())
        assert sync(source, target, saved(tmp_path), state).wrote == 0
        assert verify(source, target, saved(tmp_path), VerifyOptions(full=True)).passed


@pytest.mark.parametrize("kind", PLACES[1:])
def test_points_that_are_deleted_while_they_are_synced_are_passed_over(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_place(kind, tmp_path) as place:
        move = Move(place, tmp_path)
        move.sync()
        with place.client() as client:
            client.delete_vectors(move.name, ["new"], list(range(10)))
        with monkeypatch.context() as patched:
            deleting(patched, move, move.name, [2, 5])
            done = move.sync()
        assert (done.arrived, done.passed_over) == (10, 2)
        assert set(records(place, move.name)) == set(range(FEW)) - {2, 5}
        assert move.verified()
        assert move.sync().wrote == 0


def test_readers_go_over_back_and_for_good(place: Place, tmp_path: Path) -> None:
    move = Move(place, tmp_path)
    live = move.alias()
    assert move.call("cutover", live, "--to", move.target).exit_code == ExitCode.NOT_VERIFIED
    ended = move.verify()
    assert ended.exit_code == 0, ended.output
    assert f"cutover NAME --to '{move.target}'" in ended.stdout

    shown = move.json("cutover", live, "--to", move.target, "--dry-run")
    assert not shown["done"]
    assert (shown["before"]["vector"], shown["after"]["vector"]) == ("old", "new")
    assert (shown["before"]["dimension"], shown["after"]["dimension"]) == (OLD, NEW)
    assert "'new'" in shown["writers"][0]
    assert "wait=false" in shown["writers"][1]
    assert move.call("rollback", live).exit_code == ExitCode.MISMATCH

    assert move.json("cutover", live, "--to", move.target)["done"]
    assert not move.json("cutover", live, "--to", move.target)["done"]
    assert len(move.json("status", move.target)["readers"]) == 1
    back = move.json("rollback", live)
    assert (back["before"]["vector"], back["after"]["vector"]) == ("new", "old")
    assert move.json("status", move.target)["readers"] == []
    assert move.verify().exit_code == 0
    assert move.json("cutover", live, "--to", move.target)["done"]

    before = records(place, move.name)
    whole = place.uri(move.name)
    for wrong in (whole, move.target, place.uri(move.name, "vector=words")):
        refused = move.call("drop-source", live, wrong, "--yes")
        assert refused.exit_code == ExitCode.MISMATCH, refused.output
    assert move.call("drop-source", live).exit_code == ExitCode.OK
    assert records(place, move.name) == before
    dropped = move.json("drop-source", live, "--yes")
    assert (dropped["vector"], dropped["done"]) == ("old", True)

    after = records(place, move.name)
    assert after.keys() == before.keys()
    for number, record in after.items():
        assert record.payload == before[number].payload
        assert dict(record.vector) == {
            name: vector for name, vector in before[number].vector.items() if name != "old"
        }
    with open_source(live) as readers:
        assert readers.describe().vector == "new"
    assert move.call("rollback", live).exit_code == ExitCode.BAD_INPUT
    ended = move.call("sync", move.source, move.target, "--translator", str(move.translator))
    assert ended.exit_code == ExitCode.MISMATCH
    assert "nothing is left" in ended.output
    with open_source(move.target) as added:
        described = added.describe()
    assert (described.count, described.provenance is not None) == (FEW, True)


@pytest.mark.parametrize("kind", SERVED)
def test_readers_go_over_for_good_within_the_collections_limits(kind: str, tmp_path: Path) -> None:
    with open_place(kind, tmp_path) as place:
        move = Move(place, tmp_path)
        strict = models.StrictModeConfig(enabled=True, search_allow_exact=False, max_query_limit=70)
        with place.client() as client:
            client.update_collection(move.name, strict_mode_config=strict)
        assert move.sync().adopted == FEW
        change(move)
        done = move.sync()
        assert (done.arrived, done.changed, done.vanished) == (2, 1, 1)
        live = move.alias()
        assert move.verify().exit_code == 0
        move.json("cutover", live, "--to", move.target)
        dropped = move.json("drop-source", live, "--yes")
        assert (dropped["vector"], dropped["done"]) == ("old", True)
        assert move.json("status", move.target)["source_dropped"]


def test_the_collection_itself_may_be_what_readers_open(place: Place, tmp_path: Path) -> None:
    move = Move(place, tmp_path)
    name = place.uri(move.name)
    assert move.verify().exit_code == 0
    for given in (name, move.source):
        assert move.json("cutover", given, "--to", move.target)["done"]
        assert move.json("rollback", given)["done"]
    assert move.json("cutover", move.name, "--to", move.target)["done"]
    assert move.json("drop-source", name, "--yes")["vector"] == "old"
    assert place.exists(move.name)
    assert all(set(r.vector) == {"new", "words"} for r in records(place, move.name).values())


def test_an_alias_that_the_cutover_made_leads_to_the_old_vector(
    place: Place, tmp_path: Path
) -> None:
    move = Move(place, tmp_path)
    assert move.verify().exit_code == 0
    live = place.uri(place.name("made"))
    assert move.json("cutover", live, "--to", move.target)["kept"] is None
    assert move.json("drop-source", live, "--yes")["vector"] == "old"
    assert move.json("status", move.target)["source_dropped"]
    assert move.call("rollback", live).exit_code == ExitCode.MISMATCH


def test_an_alias_comes_from_elsewhere(place: Place, tmp_path: Path) -> None:
    """Readers had another collection: it is what they go back to, and what may be deleted."""
    other = fill(place)
    move = Move(place, tmp_path)
    live = place.uri(f"{move.name}-live")
    with place.client() as client:
        lead(client, f"{move.name}-live", other)
    assert move.verify().exit_code == 0
    moved = move.json("cutover", live, "--to", move.target)
    assert moved["before"]["collection"].partition("?")[0].endswith(other)
    with open_source(f"{live}{'&' if '?' in live else '?'}vector=new") as readers:
        assert readers.describe().dimension == NEW
    assert move.json("rollback", live)["done"]
    with pytest.raises(VectorNotFoundError):
        open_source(f"{live}{'&' if '?' in live else '?'}vector=new")


def test_an_alias_needs_no_vector(place: Place, tmp_path: Path) -> None:
    """It leads to a collection, which of whose vectors was moved the target tells."""
    several = {
        name: models.VectorParams(size=OLD, distance=models.Distance.COSINE)
        for name in ("old", "title")
    }
    name, made = place.name(), place.name("made")
    with place.client() as client:
        client.create_collection(name, vectors_config=several)
        client.upsert(
            name,
            [
                models.PointStruct(
                    id=i, vector={"old": ROWS[i].tolist(), "title": ROWS[i].tolist()}
                )
                for i in range(50)
            ],
        )
        lead(client, f"{name}-live", name)
    live, source, target = place.uri(f"{name}-live"), place.uri(name, "vector=old"), place.uri(made)
    state = ["--state", str(tmp_path / "state.sqlite")]
    migrate(source, target, saved(tmp_path))

    def call(*arguments: str) -> dict[str, Any]:
        ended = CliRunner().invoke(app, [*arguments, *state, "--json"], catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        return dict(json.loads(ended.stdout))

    shown = call("cutover", live, "--to", target, "--unverified", "--dry-run")
    assert (shown["before"]["vector"], shown["before"]["dimension"]) == ("old", OLD)
    call("verify", source, target, "--translator", str(saved(tmp_path)))
    moved = call("cutover", live, "--to", target)
    assert (moved["before"]["vector"], moved["after"]["vector"]) == ("old", "old")
    assert (moved["before"]["dimension"], moved["after"]["dimension"]) == (OLD, NEW)
    back = call("rollback", live)
    assert (back["after"]["vector"], back["after"]["dimension"]) == ("old", OLD)
    call("cutover", live, "--to", target)
    call("drop-source", live, "--yes")
    assert not place.exists(name)


def test_an_unnamed_or_only_vector_is_not_removed(tmp_path: Path) -> None:
    with open_place("rest", tmp_path) as place:
        move = Move(place, tmp_path)
        live = move.alias()
        assert move.verify().exit_code == 0
        move.json("cutover", live, "--to", move.target)
        with place.client() as client:
            client.delete_vector_name(move.name, "new")
        with pytest.raises(InputError):
            open_source(move.target)
        ended = move.call("drop-source", live, "--yes")
        assert ended.exit_code in (ExitCode.BAD_INPUT, ExitCode.NOT_VERIFIED)
        assert all("old" in record.vector for record in records(place, move.name).values())


def test_a_server_that_cannot_remove_vectors_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_place("rest", tmp_path) as place:
        move = Move(place, tmp_path)
        live = move.alias()
        assert move.verify().exit_code == 0
        move.json("cutover", live, "--to", move.target)
        before = records(place, move.name)
        monkeypatch.setattr(
            "support.qdrant.loopback.server.Engine.drop_vector",
            lambda *_: (_ for _ in ()).throw(ValueError("no such route")),
        )
        ended = move.call("drop-source", live, "--yes")
        assert ended.exit_code == ExitCode.MISMATCH
        assert "1.18" in ended.output
        assert records(place, move.name) == before


def test_a_budget_has_nowhere_to_be_noted(tmp_path: Path) -> None:
    with open_place("embedded", tmp_path) as place:
        move = Move(place, tmp_path)
        vectors = tmp_path / "new.npy"
        np.save(vectors, THEIRS)
        ended = move.call(
            "sync", move.source, move.target, "--translator", str(move.translator),
            "--reembed-budget", "5", "--encoder", f"vectors:{vectors}?name=x",
        )  # fmt: skip
        assert ended.exit_code == ExitCode.MISMATCH
        assert "--reembed-budget" in ended.output


JOB = """
source.uri = "{source}"
cutover.name = "{live}"
gates = {{"min-recall@10" = 0.05}}

[target]
uri = "{target}"
encoder = "vectors:new.npy?name=new-model"
query_encoder = "vectors:new-queries.npy?name=new-model"

[dry_run]
queries = "log.jsonl"
anchors = 300
budget = 1500
method = "procrustes"
"""


def test_a_job_does_it_all(tmp_path: Path) -> None:
    corpus = make_dry_run_corpus(tmp_path)
    with open_place("rest", tmp_path) as place:
        name = place.name()
        with place.client() as client:
            old = models.VectorParams(size=corpus.old.shape[1], distance=models.Distance.COSINE)
            client.create_collection(name, vectors_config={"old": old})
            rows = enumerate(corpus.old.tolist())
            client.upsert(
                name,
                [
                    models.PointStruct(id=i, vector={"old": row}, payload={"text": f"document {i}"})
                    for i, row in rows
                ],
            )
            lead(client, f"{name}-live", name)
        uris = {
            "source": place.uri(name, "vector=old"),
            "target": place.uri(name, "vector=new&in_place=true"),
            "live": place.uri(f"{name}-live"),
        }
        job = tmp_path / "vecmigrate.toml"
        job.write_text(JOB.format(**uris))

        def done_now(*arguments: str) -> list[str]:
            state = ["--state", str(tmp_path / "state.sqlite"), "--json"]
            ended = CliRunner().invoke(
                app, ["run", str(job), *arguments, *state], catch_exceptions=False
            )
            assert ended.exit_code == 0, ended.output
            return [s["step"] for s in json.loads(ended.stdout)["steps"] if s["done_now"]]

        assert done_now() == ["dry-run", "migrate", "verify"]
        with place.client() as client:
            point = models.PointStruct(id=9999, vector={"old": corpus.old[0].tolist()})
            client.upsert(name, [point])
        assert done_now("--cutover") == ["sync", "verify", "cutover"]
        assert done_now("--cutover") == ["sync"], "the store does not tell what changed"


def test_a_killed_sync_continues(tmp_path: Path) -> None:
    landed = 0
    with open_place("embedded", tmp_path) as place:
        move = Move(place, tmp_path)
        move.sync()
        change(move)
        pristine = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-pristine"))
        move.sync()
        whole = {i: dict(r.vector) for i, r in records(place, move.name).items()}
        argv = ["sync", move.source, move.target, "--translator", str(move.translator), "--state",
                str(move.state)]  # fmt: skip
        with stepper(syncs=True) as killer:
            for step in range(1, 400, 9):
                shutil.rmtree(tmp_path)
                shutil.copytree(pristine, tmp_path)
                code = killer.run(step, argv)
                if code == 0:
                    break
                assert code == -signal.SIGKILL
                landed += 1
                move.sync()
                found = {i: dict(r.vector) for i, r in records(place, move.name).items()}
                assert found == whole, step
                assert move.sync().wrote == 0
    assert landed >= 5
