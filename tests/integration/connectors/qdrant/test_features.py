"""Each row of docs/reference/qdrant.md on a real collection, in embedded mode or served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client.http.exceptions import UnexpectedResponse
from support.qdrant.cases import CASES, FEW, OTHERS, Case
from support.qdrant.migrating import Reversal, compare, make, records, settings
from support.qdrant.places import SERVER, Place, open_place
from support.qdrant.recording import WIRES

from vecmigrate import migrate

BATCH = 150
EACH = [
    pytest.param(case, place, id=f"{case.feature.replace(' ', '-')}-{place}")
    for case in CASES
    for place in (*case.places, *(WIRES if SERVER else []))
]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(("case", "place"), EACH, indirect=["place"])
def test_a_feature_arrives(case: Case, place: Place) -> None:
    """There and back by a map that is its own inverse: all that is there is there again."""
    old, new, back = place.name("old"), place.name("new"), place.name("back")
    count = case.count if place.kind in (case.places[0], "server") else FEW
    try:
        make(place, case, old, count)
    except UnexpectedResponse as refused:
        if place.kind == "server" and "istributed" in str(refused):
            pytest.skip("shard keys need a cluster")
        raise
    there = place.uri(new, case.option)
    result = migrate(place.uri(old, case.option), there, Reversal(), batch_size=BATCH)
    assert (result.written, result.skipped_ids, result.notes) == (count, [], ())
    migrate(there, place.uri(back, case.option), Reversal())
    with place.client() as client:
        before = records(client, old)
        assert len(before) == count
        for name in (new, back):
            after = records(client, name)
            assert list(after) == list(before)
            for point, record in before.items():
                compare(record, after[point], case, back=name == back)
            assert settings(client, name) == settings(client, old)


def test_each_other_row_has_its_test() -> None:
    rules = Path(__file__).with_name("test_feature_rules.py").read_text()
    assert [row.test for row in OTHERS if f"\ndef {row.test}(" not in rules] == []
