"""Pages that are read several at once hold each point once, whoever writes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from support.qdrant.places import DIMENSION, SERVED, Place, open_place, params, vectors
from vecmigrate_qdrant.client.points import ClientPoints
from vecmigrate_qdrant.connect import open_access
from vecmigrate_qdrant.location import parse_location
from vecmigrate_qdrant.points import Page, Shape, Wanted
from vecmigrate_qdrant.reading import Reader

from vecmigrate.connector import InputError, parse_uri

THERE = list(range(0, 80, 2))


@pytest.fixture(params=SERVED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


class Written(ClientPoints):
    """Points some of which come and go as soon as the first ids have been listed."""

    place: Place
    arriving: tuple[int, ...] = ()
    leaving: tuple[int, ...] = ()

    def scroll(self, *asked: Any, **named: Any) -> Page:
        page = super().scroll(*asked, **named)
        arriving, self.arriving = self.arriving, ()
        leaving, self.leaving = self.leaving, ()
        with self.place.client() as client:
            if arriving:
                client.upsert(self._collection, [_point(i) for i in arriving], wait=True)
            if leaving:
                client.delete(self._collection, list(leaving), wait=True)
        return page


def _point(number: int) -> models.PointStruct:
    return models.PointStruct(
        id=number, vector=vectors(1, number, DIMENSION)[0].tolist(), payload={"n": number}
    )


@pytest.mark.parametrize(
    ("arriving", "leaving"),
    [
        ((), ()),
        # Within the first page and at both of its ends.
        ((1, 3, 5, 7, 19, 21), ()),
        ((), (0, 2, 18, 20)),
        ((1, 19), (2, 18, 20)),
        # All of the first page, and more of it than there was.
        ((), tuple(range(0, 20, 2))),
        (tuple(range(1, 20, 2)), (0, 18)),
    ],
)
def test_each_point_is_read_once(
    place: Place, arriving: tuple[int, ...], leaving: tuple[int, ...]
) -> None:
    name = place.name()
    with place.client() as client:
        client.create_collection(name, vectors_config=params(DIMENSION))
        client.upsert(name, [_point(i) for i in THERE], wait=True)
    location = parse_location(parse_uri(place.uri(name)))
    with closing(open_access(location, refusal=InputError)) as access:
        points = Written(access, name, Shape("", DIMENSION))
        points.place, points.arriving, points.leaving = place, arriving, leaving
        batches = list(Reader(points, None, name, readers=3).batches(10, None, Wanted()))
    found = [i for batch in batches for i in batch.ids.tolist()]
    # The first page's ids were listed before, and what came after them was not.
    assert found == sorted({*THERE, *arriving} - set(leaving))
    for batch in batches:
        for i, vector, payload in zip(batch.ids, batch.vectors, batch.payloads or (), strict=True):
            np.testing.assert_array_equal(vector, vectors(1, int(i), DIMENSION)[0])
            assert payload == {"n": i}
