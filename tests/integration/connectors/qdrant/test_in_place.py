"""A translated vector is added to the points of the collection that it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import models
from support.crash import is_unfinished, migrate_with_kills
from support.qdrant.in_place import COUNT, FEW, NEW, ROWS, TRANSLATOR, fill, records, saved, uris
from support.qdrant.places import PLACES, Place, open_place
from typer.testing import CliRunner

from vecmigrate import migrate, open_sink, open_source, open_updater
from vecmigrate.cli import app
from vecmigrate.connector import (
    MismatchError,
    Provenance,
    TargetExistsError,
    TargetSpec,
    UsageError,
    VectorBatch,
)
from vecmigrate.state import open_state
from vecmigrate.state.migrations import MigrationStatus, MigrationTable
from vecmigrate.sync import sync
from vecmigrate.verification import Check, CheckResult, VerifyOptions, verify


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


def test_points_get_the_vector_and_keep_all_they_had(place: Place, tmp_path: Path) -> None:
    name = fill(place, COUNT)
    source, target = uris(place, name)
    before = records(place, name)
    translator = saved(tmp_path)
    result = migrate(source, target, translator, batch_size=300)
    assert result.written == COUNT
    after = records(place, name)
    assert len(after) == COUNT
    expected = TRANSLATOR.transform(ROWS[:COUNT])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    for number, record in after.items():
        assert record.payload == before[number].payload
        assert record.vector["words"] == before[number].vector["words"]
        assert record.vector["old"] == before[number].vector["old"]
        np.testing.assert_allclose(record.vector["new"], expected[number], atol=1e-5)
    with place.client() as client:
        assert client.get_collection(name).config.metadata["owner"] == "search"
    with open_source(target) as added:
        described = added.describe()
        assert (described.dimension, described.count) == (NEW, COUNT)
        assert not any("unfinished" in note for note in described.notes)
        assert described.provenance is not None
        found = added.search(np.ascontiguousarray(expected[:5], np.float32), 1)
    assert found is not None
    assert [ids[0] for ids in found] == [0, 1, 2, 3, 4]
    checked = verify(source, target, translator, VerifyOptions(full=True))
    assert checked.passed, checked.failures


def test_it_is_no_change_of_the_source(place: Place, tmp_path: Path) -> None:
    """What was noted of the old vector still holds, while the new one is written and then."""
    name = fill(place)
    source, target = uris(place, name)
    with open_source(source) as old:
        before = old.fingerprint()
        spec = TargetSpec.like(old.describe(), dimension=NEW)
        batches = list(old.batches(100))
    with open_sink(target, spec) as sink:
        for batch in batches[:2]:
            sink.write(batch.with_vectors(TRANSLATOR.transform(batch.vectors)))
        if place.kind != "embedded":
            with open_source(source) as old:
                assert old.fingerprint() == before
                assert "new" not in old.describe().other_vectors
                extras = next(old.whole_batches(10)).extras
            assert extras is not None
            assert set(extras[0]["vectors"]) == {"words"}
        for batch in batches[2:]:
            sink.write(batch.with_vectors(TRANSLATOR.transform(batch.vectors)))
        sink.finish()
    with open_source(source) as old:
        assert old.fingerprint() == before
        assert "new" in old.describe().other_vectors


def test_it_spoils_no_earlier_target(place: Place, tmp_path: Path) -> None:
    name, copy = fill(place), place.name("copy")
    source, target = uris(place, name)
    earlier, state, translator = place.uri(copy), tmp_path / "s.sqlite", saved(tmp_path)
    migrate(source, earlier, translator, state=state)
    sync(source, earlier, translator, state)
    migrate(source, target, translator)

    def others() -> Check:
        found = verify(source, earlier, translator, VerifyOptions(full=True))
        [mine] = [check for check in found.checks if check.name == "other vectors"]
        assert found.passed is (mine.outcome is not CheckResult.FAILED)
        return mine

    found = others()
    assert found.outcome is CheckResult.WARNING
    assert found.figures == {"compared": FEW, "wrong": 0, "not_at_target": ["new"]}
    again = sync(source, earlier, translator, state)
    assert (again.wrote, again.adopted) == (0, 0)
    changed = {"old": ROWS[7].tolist(), "words": models.SparseVector(indices=[1], values=[1.0])}
    with place.client() as client:
        client.upsert(name, [models.PointStruct(id=7, vector=changed, payload={"text": "text 7"})])
    found = others()
    assert (found.outcome, found.figures["wrong"]) == (CheckResult.FAILED, 1)
    assert sync(source, earlier, translator, state).changed == 1
    assert others().outcome is CheckResult.WARNING
    assert records(place, copy)[7].vector["words"].indices == [1]


def test_giving_up_leaves_the_collection_as_it_was(place: Place) -> None:
    name = fill(place)
    source, target = uris(place, name)
    before = records(place, name)
    with open_source(source) as old:
        spec = TargetSpec.like(old.describe(), dimension=NEW)
        batch = next(old.batches(100))
    with open_sink(target, spec) as sink:
        sink.write(batch.with_vectors(TRANSLATOR.transform(batch.vectors)))
    assert records(place, name) == before
    with pytest.raises(UsageError, match="'new'"):
        open_source(place.uri(name, "vector=new"))
    with open_sink(target, spec) as sink:
        sink.abort()
    assert records(place, name) == before


def test_a_vector_that_is_there_is_never_replaced(place: Place, tmp_path: Path) -> None:
    name = fill(place)
    source, target = uris(place, name)
    migrate(source, target, saved(tmp_path))
    before = records(place, name)
    for taken in (target, place.uri(name, "vector=words&in_place=true")):
        with pytest.raises(TargetExistsError, match="is there already"):
            migrate(source, taken, saved(tmp_path), restart=True)
    with pytest.raises(UsageError, match="does not name the vector"):
        migrate(source, place.uri(name, "in_place=true"), saved(tmp_path))
    assert records(place, name) == before


def test_points_without_the_old_vector_get_none(place: Place, tmp_path: Path) -> None:
    name = fill(place, lacking=(3, 170))
    source, target = uris(place, name)
    assert migrate(source, target, saved(tmp_path)).written == FEW - 2
    found = records(place, name)
    assert len(found) == FEW
    assert [i for i, record in found.items() if "new" not in record.vector] == [3, 170]


def test_a_collection_that_is_not_there_is_named(place: Place, tmp_path: Path) -> None:
    source, _ = uris(place, fill(place))
    spec = TargetSpec(dimension=NEW, metric=open_source(source).describe().metric)
    target = place.uri("none", "vector=new&in_place=true")
    with pytest.raises(Exception, match="no collection 'none'"):
        open_sink(target, spec)


def test_an_updater_of_whole_points_is_refused(place: Place, tmp_path: Path) -> None:
    name = fill(place)
    source, target = uris(place, name)
    migrate(source, target, saved(tmp_path))
    made = Provenance(vecmigrate_version="0", source=source, created_at="2026-01-01")
    with pytest.raises(MismatchError, match="in_place=true"):
        open_updater(place.uri(name, "vector=new"), made)
    with pytest.raises(MismatchError, match="none that vecmigrate"):
        open_updater(place.uri(name, "vector=old&in_place=true"), made)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_run_is_continued(tmp_path: Path, seed: int) -> None:
    with open_place("embedded", tmp_path) as place:
        name = fill(place)
        source, target = uris(place, name)
        state, translator = tmp_path / "state.sqlite", saved(tmp_path)
        _, result = migrate_with_kills(
            source, target, translator, state, kills=2, points=FEW, seed=seed, batch=25
        )
        assert result["written"] == FEW
        assert not is_unfinished(target)
        checked = verify(source, target, translator, VerifyOptions(full=True))
        assert checked.passed, checked.failures


def test_a_run_that_was_killed_right_after_it_published_is_done(
    place: Place, tmp_path: Path
) -> None:
    name = fill(place)
    source, target = uris(place, name)
    state, translator = tmp_path / "state.sqlite", saved(tmp_path)
    migrate(source, target, translator, state=state)
    with closing(open_state(state)) as connection:
        table = MigrationTable(connection)
        done = table.find(source, target)
        assert done is not None
        table.save(done.model_copy(update={"status": MigrationStatus.PUBLISHING}))
    again = migrate(source, target, translator, state=state)
    assert (again.written, again.continued_after) == (FEW, FEW)
    checked = verify(source, target, translator, VerifyOptions(full=True))
    assert checked.passed, checked.failures


def test_the_command(tmp_path: Path) -> None:
    with open_place("embedded", tmp_path) as place:
        name = fill(place)
        source, target = uris(place, name)
        ran = CliRunner().invoke(
            app, ["migrate", source, target, "--translator", str(saved(tmp_path)), "--json"]
        )
        assert ran.exit_code == 0, ran.output
        assert json.loads(ran.output)["written"] == FEW
        again = CliRunner().invoke(
            app, ["migrate", source, target, "--translator", str(saved(tmp_path))]
        )
        assert again.exit_code == 0, again.output
        assert "an earlier run has published the target already" in again.output


def test_an_older_server_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_place("rest", tmp_path) as place:
        name = fill(place)
        source, target = uris(place, name)
        monkeypatch.setattr(
            "support.qdrant.loopback.server.Engine.create_vector",
            lambda *_: (_ for _ in ()).throw(ValueError("no such route")),
        )
        before = records(place, name)
        with pytest.raises(MismatchError, match=r"Qdrant 1\.18 or newer"):
            migrate(source, target, saved(tmp_path))
        assert records(place, name) == before
        with open_source(source) as old:
            batch: VectorBatch = next(old.batches(5))
        assert len(batch) == 5
