"""Ids under shard keys: each pair of a key and an id has one spelling, and no other pair has it."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from vecmigrate_qdrant.shard_keys import canonical_spelling, read_spelled, spell_id, spell_ids

from vecmigrate.connector import id_array

keys = st.integers(0, 2**64 - 1) | st.text(max_size=12)
ids = st.integers(0, 2**64 - 1) | st.uuids().map(str)


@given(keys, ids)
@example("7", 5)
@example(7, 5)
@example('"7"', 5)
@example("", 0)
@example("a/b", 1)
@example("/", 1)
@example("-3", 1)
@example("007", 1)
def test_a_spelling_is_read_back(key: int | str, point_id: int | str) -> None:
    spelled = spell_id(key, point_id)
    assert read_spelled(spelled) == (key, point_id)
    assert type(read_spelled(spelled)[0]) is type(key)  # type: ignore[index]
    assert spell_ids(key, id_array([point_id])).tolist() == [spelled]


@given(st.lists(st.tuples(keys, ids), unique=True, max_size=20))
def test_no_two_pairs_have_one_spelling(pairs: list[tuple[int | str, int | str]]) -> None:
    assert len({spell_id(*pair) for pair in pairs}) == len(pairs)


def test_other_spellings_of_a_uuid_are_the_same_point() -> None:
    point_id = "5c56c793-69f3-4fbf-87e6-c4bf54c28c00"
    for other in (point_id.upper(), UUID(point_id).hex, f"urn:uuid:{point_id}"):
        assert canonical_spelling(f"eu/{other}") == f"eu/{point_id}"


@pytest.mark.parametrize(
    "wrong", [7, "7", "eu", "eu/", "eu/x", "eu/007", "eu/-1", '"eu/7', "eu/1.0"]
)
def test_what_is_no_spelling_is_none(wrong: object) -> None:
    assert read_spelled(wrong) is None
