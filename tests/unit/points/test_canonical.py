"""One form of what stores give in any order, and floats compared as exactly as stores keep them."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmigrate.connector import CollectionDescription, IdKind, Metric
from vecmigrate.points.canonical import canonical_setting, canonical_text, same_within

BOUNDARIES = [
    0.0,
    5e-324,
    sys.float_info.min,
    math.nextafter(sys.float_info.min, 0),
    math.nextafter(1.0, 0),
    1.0,
    math.nextafter(1.0, 2),
    2.0**52,
    2.0**53,
    2.0**63,
    0.1,
    1e22,
    1e23,
    math.nextafter(sys.float_info.max, 0),
    sys.float_info.max,
]


def after(value: float, steps: int) -> float:
    """The double that lies ``steps`` doubles above another, below it if negative."""
    for _ in range(abs(steps)):
        value = math.nextafter(value, math.copysign(math.inf, steps))
    return value


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("value", BOUNDARIES)
@pytest.mark.parametrize("ulps", [0, 1, 2])
def test_floats_are_the_same_up_to_the_declared_units_and_no_further(
    value: float, sign: int, ulps: int
) -> None:
    value *= sign
    for steps in range(-4, 5):
        other = after(value, steps)
        if math.isfinite(other):
            assert same_within(value, other, ulps) is (abs(steps) <= ulps)
            assert same_within({"a": [value]}, {"a": [other]}, ulps) is (abs(steps) <= ulps)
        else:
            assert not same_within(value, other, ulps)


@pytest.mark.parametrize("ulps", [0, 2])
def test_what_is_no_pair_of_finite_floats_is_compared_exactly(ulps: int) -> None:
    inf, nan = math.inf, math.nan
    assert same_within(0.0, -0.0, ulps)
    assert same_within(inf, inf, ulps)
    assert same_within(nan, nan, ulps)
    for ours, theirs in [
        (inf, -inf), (inf, sys.float_info.max), (nan, 1.0), (nan, inf), (1, 2), (1, 1.0),
        (True, 1), (True, False), (None, 0), ("1", 1), ([1], [1, 1]), ({"a": 1}, {"b": 1}),
        ({"a": 1}, [1]), (2**62, 2**62 + 1), ("a", None), ([], {}),
    ]:  # fmt: skip
        assert not same_within(ours, theirs, ulps)
        assert not same_within(theirs, ours, ulps)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(width=32) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def shuffled(value: Any, seed: int) -> Any:
    """The same value, its mappings in another order."""
    if isinstance(value, dict):
        names = list(value)
        np.random.default_rng(seed).shuffle(names)
        return {name: shuffled(value[name], seed + 1) for name in names}
    return [shuffled(each, seed + 1) for each in value] if isinstance(value, list) else value


@given(json_like, st.integers(0, 99))
def test_the_order_of_keys_does_not_count(value: Any, seed: int) -> None:
    other = shuffled(value, seed)
    assert canonical_text(other) == canonical_text(value)
    assert same_within(value, other, 0)


def described(**changes: Any) -> CollectionDescription:
    given: dict[str, Any] = {
        "uri": "qdrant://a/b",
        "store": "qdrant",
        "index_type": "HNSW",
        "count": 3,
        "dimension": 4,
        "metric": Metric.COSINE,
        "id_kind": IdKind.INTEGER,
        "payload_fields": ("a", "b"),
        "other_vectors": ("x", "y"),
        "settings": {"quantile": 0.99, "words": ["of", "the"], "nested": {"m": 1, "n": None}},
    }
    return CollectionDescription.model_validate({**given, **changes})


def test_a_fingerprint_is_the_same_whatever_the_order_and_the_width_of_floats() -> None:
    one = described()
    settings = {
        "nested": {"n": None, "m": 1},
        "words": ["the", "of"],
        "quantile": float(np.float32(0.99)),
    }
    again = described(payload_fields=("b", "a"), other_vectors=("y", "x"), settings=settings)
    assert again.fingerprint() == one.fingerprint()
    assert canonical_setting(again.settings) == canonical_setting(one.settings)


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 4},
        {"payload_fields": ("a", "c")},
        {"settings": {"quantile": 0.98, "words": ["of", "the"], "nested": {"m": 1, "n": None}}},
        {"settings": {"quantile": 0.99, "words": ["of"], "nested": {"m": 1, "n": None}}},
    ],
)
def test_a_fingerprint_changes_with_what_is_described(changes: dict[str, Any]) -> None:
    assert described(**changes).fingerprint() != described().fingerprint()
