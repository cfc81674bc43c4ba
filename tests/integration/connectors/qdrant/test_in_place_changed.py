"""In place, too, a payload field's index tells what changed, and nothing else is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models
from support.qdrant.in_place import FEW, ROWS, fill, saved
from support.qdrant.places import SERVED, Place, open_place
from vecmigrate_qdrant.client.points import ClientPoints
from vecmigrate_qdrant.wire.points import WirePoints

from vecmigrate import migrate, open_source
from vecmigrate.connector.addresses import followed_uri
from vecmigrate.state.ledger import ledger_path, open_ledger
from vecmigrate.state.scan import ChangedBy
from vecmigrate.sync import SyncOptions, SyncResult, sync
from vecmigrate.sync.changes import find_changes
from vecmigrate.sync.views import OwnPoints
from vecmigrate.verification import VerifyOptions, verify

FIELD = "n"
BY = ChangedBy(FIELD, overlap=0)


@pytest.fixture(params=SERVED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


class Move:
    """A collection that got a vector in place, was synced by a field, and is changed since."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder, self.name = place, folder, fill(place, lacking=(3, 270))
        self.source = place.uri(self.name, "vector=old")
        self.target = place.uri(self.name, "vector=new&in_place=true")
        self.state = folder / "state.sqlite"
        with place.client() as client:
            for i in range(0, FEW, 20):
                client.set_payload(self.name, {FIELD: i}, list(range(i, i + 20)), wait=True)
        self.index()
        migrate(self.source, self.target, saved(folder), state=self.state)
        # Of versions, the second reads again what may have changed while the first read.
        for _ in range(2):
            self.sync()

    def index(self) -> None:
        with self.place.client() as client:
            integer = models.PayloadSchemaType.INTEGER
            client.create_payload_index(self.name, FIELD, integer, wait=True)

    def sync(self) -> SyncResult:
        asked = SyncOptions(changed_by=FIELD, overlap="0")
        return sync(self.source, self.target, saved(self.folder), self.state, asked)

    def change(self) -> None:
        with self.place.client() as client:
            old = {i: {"old": ROWS[400 + i].tolist()} for i in (1, 2, 1000)}
            new = models.PointStruct(id=1000, vector=old[1000], payload={FIELD: 281})
            client.upsert(self.name, [new], wait=True)
            client.update_vectors(
                self.name, [models.PointVectors(id=i, vector=old[i]) for i in (1, 2)], wait=True
            )
            # Of these, 2 alone says so: it is the only one that has changed.
            client.set_payload(self.name, {FIELD: 282}, [2], wait=True)
            client.delete_vectors(self.name, ["old"], [7], wait=True)
            client.delete_vectors(self.name, ["new"], [8], wait=True)
            client.delete(self.name, models.PointIdsList(points=[9]), wait=True)

    def planned(self) -> tuple[Any, dict[str, list[Any]]]:
        """What a sync would do, and to which points."""
        copy = self.folder / "ledger.sqlite"
        shutil.copy(ledger_path(self.state, followed_uri(self.target)), copy)
        with (
            open_ledger(copy) as ledger,
            OwnPoints(open_source(self.source), (FIELD,)) as source,
            OwnPoints(open_source(self.target), (FIELD,)) as target,
        ):
            plan = find_changes(source, target, ledger, BY, 16, lacking=True)
            tables = ("arriving", "changed", "gone")
            each = {name: [i for ids in ledger.listed(name, 100) for i in ids] for name in tables}
            return plan.model_dump(exclude={"scan"}), {
                name: sorted(ids) for name, ids in each.items()
            }


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many points with vectors each page had that was read."""
    counted: list[int] = []

    def counting(scroll: Callable[..., Any]) -> Callable[..., Any]:
        def counted_scroll(self: Any, limit: int, offset: Any, wanted: Any, *more: Any) -> Any:
            page = scroll(self, limit, offset, wanted, *more)
            if wanted.vectors:
                counted.append(len(page.batch))
            return page

        return counted_scroll

    for kind in (ClientPoints, WirePoints):
        monkeypatch.setattr(kind, "scroll", counting(kind.scroll))
    return counted


def test_the_index_tells_what_a_full_reading_tells(
    place: Place, tmp_path: Path, read: list[int]
) -> None:
    move = Move(place, tmp_path)
    move.change()
    read.clear()
    asked = move.planned()
    assert asked[1] == {"arriving": [1000], "changed": [2, 8], "gone": [7, 9]}
    few = sum(read)
    with place.client() as client:
        client.delete_payload_index(move.name, FIELD, wait=True)
    read.clear()
    assert move.planned() == asked
    # Those of the latest value, those after it, and a sample.
    assert few == 20 + 2 + 16
    assert sum(read) >= FEW - 3
    move.index()
    done = move.sync()
    assert (done.arrived, done.changed, done.vanished) == (2, 1, 1)
    with place.client() as client:
        # What no field told of.
        client.set_payload(move.name, {FIELD: 283}, [1], wait=True)
    assert move.sync().changed == 1
    asked_all = VerifyOptions(full=True)
    assert verify(move.source, move.target, saved(tmp_path), asked_all).passed


def test_ids_are_of_points_that_have_the_vector(place: Place, tmp_path: Path) -> None:
    move = Move(place, tmp_path)
    move.change()
    every = set(range(FEW)) - {9} | {1000}
    with open_source(move.source) as source, open_source(move.target) as target:
        assert {i for ids in source.ids(50) for i in ids.tolist()} == every
        assert {i for ids in source.ids_with_vector(50) for i in ids.tolist()} == every - {
            3,
            270,
            7,
        }
        new = every - {3, 270, 8, 1000}
        assert {i for ids in target.ids(50) for i in ids.tolist()} == new
        strict = models.StrictModeConfig(
            enabled=True, filter_max_conditions=0, read_rate_limit=10**6
        )
    with place.client() as client:
        client.update_collection(move.name, strict_mode_config=strict)
    with open_source(move.target) as target:
        assert {i for ids in target.ids(50) for i in ids.tolist()} == new
