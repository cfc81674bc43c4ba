"""Procrustes: orthogonality, exactness, dimensions, degenerate anchors."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes

from vecmigrate import Procrustes
from vecmigrate.errors import InputError, MismatchError
from vecmigrate.translators import FewAnchorsWarning

seeds = st.integers(0, 2**32 - 1)
dims = st.integers(1, 12)


def rotation(rng: np.random.Generator, d: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


@given(seed=seeds, d=dims, scale=st.floats(0.1, 10), shift=st.floats(-100, 100))
@settings(deadline=None, max_examples=50)
def test_recovers_a_known_rotation_scale_and_shift(
    seed: int, d: int, scale: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((4 * d + 2, d))
    R = rotation(rng, d)
    Y = scale * X @ R + shift
    fitted = Procrustes(normalize=False).fit(X, Y)
    np.testing.assert_allclose(fitted.rotation_, R, atol=1e-6)
    assert fitted.scale_ == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(fitted.transform(X.astype(np.float32)), Y, rtol=1e-4, atol=1e-3)


@given(seed=seeds, d_x=dims, d_y=dims, center=st.booleans(), scale=st.booleans())
@settings(deadline=None, max_examples=60)
def test_rotation_is_semi_orthogonal_whatever_the_dimensions(
    seed: int, d_x: int, d_y: int, center: bool, scale: bool
) -> None:
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((40, d_x)), rng.standard_normal((40, d_y))
    R = Procrustes(center=center, scale=scale).fit(X, Y).rotation_
    gram = R @ R.T if d_x <= d_y else R.T @ R
    np.testing.assert_allclose(gram, np.eye(min(d_x, d_y)), atol=1e-9)


@given(seed=seeds, d_x=dims, d_y=dims)
@settings(deadline=None, max_examples=40)
def test_unequal_dimensions_are_the_zero_padded_square_problem(
    seed: int, d_x: int, d_y: int
) -> None:
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((40, d_x)), rng.standard_normal((40, d_y))
    d = max(d_x, d_y)
    padded_x, padded_y = np.zeros((40, d)), np.zeros((40, d))
    padded_x[:, :d_x], padded_y[:, :d_y] = X, Y
    oracle, _ = orthogonal_procrustes(padded_x, padded_y)
    ours = Procrustes(center=False, scale=False).fit(X, Y)
    # What the padding determines: the part of the rotation between the two real spaces' supports.
    np.testing.assert_allclose(
        np.trace(ours.rotation_.T @ X.T @ Y), np.trace(oracle[:d_x, :d_y].T @ X.T @ Y), rtol=1e-8
    )


@given(seed=seeds, d_x=dims, d_y=dims)
@settings(deadline=None, max_examples=40)
def test_scale_is_the_least_squares_one(seed: int, d_x: int, d_y: int) -> None:
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((50, d_x)), rng.standard_normal((50, d_y))
    fitted = Procrustes().fit(X, Y)
    rotated = (X - X.mean(0)) @ fitted.rotation_
    centred = Y - Y.mean(0)

    def error(scale: float) -> float:
        return float(np.sum((scale * rotated - centred) ** 2))

    assert error(fitted.scale_) <= min(error(fitted.scale_ * f) for f in (0.99, 1.01))


@given(seed=seeds, cuts=st.lists(st.integers(2, 98), max_size=5, unique=True))
@settings(deadline=None, max_examples=40)
def test_anchors_in_parts_give_the_map_of_all_at_once(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    X, Y = 1000 + rng.standard_normal((100, 5)), rng.standard_normal((100, 3)) - 500
    whole = Procrustes().fit(X, Y)
    parts = Procrustes()
    edges = [0, *sorted(cuts), 100]
    for start, end in pairwise(edges):
        parts.partial_fit(X[start:end], Y[start:end])
    np.testing.assert_allclose(parts.weights_, whole.weights_, atol=1e-5)
    assert parts.n_anchors_ == 100


def test_large_offsets_do_not_cost_precision() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 6))
    R = rotation(rng, 6)
    fitted = Procrustes(normalize=False).fit(X + 1e6, X @ R)
    np.testing.assert_allclose(fitted.rotation_, R, atol=1e-6)


@pytest.mark.parametrize("unit", [True, False])
def test_output_has_unit_length_where_the_target_anchors_have(unit: bool) -> None:
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((50, 4)).astype("f4"), rng.standard_normal((50, 6)).astype("f4")
    if unit:
        Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    fitted = Procrustes().fit(X, Y)
    norms = np.linalg.norm(fitted.transform(X), axis=1)
    assert np.allclose(norms, 1, atol=1e-5) is unit
    assert fitted.normalize_output_ is unit


@given(seed=seeds, n=st.integers(2, 6), d_x=dims, d_y=dims, constant=st.booleans())
@settings(deadline=None, max_examples=60)
def test_degenerate_anchors_give_a_finite_map(
    seed: int, n: int, d_x: int, d_y: int, constant: bool
) -> None:
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((n, d_x)), rng.standard_normal((n, d_y))
    if constant:
        X[:], Y[:] = X[0], Y[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewAnchorsWarning)
        translated = Procrustes().fit(X, Y).transform(X.astype(np.float32))
    assert np.isfinite(translated).all()


def test_fewer_anchors_than_dimensions_warns_and_says_how_many_to_draw() -> None:
    rng = np.random.default_rng(2)
    with pytest.warns(FewAnchorsWarning, match="at least 8"):
        Procrustes().fit(rng.standard_normal((5, 8)), rng.standard_normal((5, 9)))


def test_transform_writes_where_it_is_told() -> None:
    rng = np.random.default_rng(3)
    X, Y = rng.standard_normal((20, 4)).astype("f4"), rng.standard_normal((20, 3)).astype("f4")
    fitted = Procrustes().fit(X, Y)
    out = np.empty((20, 3), np.float32)
    assert fitted.transform(X, out=out) is out
    np.testing.assert_array_equal(out, fitted.transform(X))


@pytest.mark.parametrize(
    ("X", "Y", "says"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), "3 source vectors and 4 target"),
        (np.ones((1, 2)), np.ones((1, 2)), "1 anchors are too few"),
        (np.ones(3), np.ones((3, 2)), "shape"),
        (np.ones((3, 0)), np.ones((3, 2)), "shape"),
        (np.array([[1.0], [np.nan]]), np.ones((2, 2)), "row 1 of the source"),
        (np.ones((2, 2)), np.array([[np.inf], [1.0]]), "row 0 of the target"),
        (np.array([["a"], ["b"]]), np.ones((2, 2)), "array of floats"),
    ],
)
def test_unusable_anchors_are_refused(X: np.ndarray, Y: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Procrustes().fit(X, Y)


def test_vectors_of_another_dimension_are_refused() -> None:
    fitted = Procrustes().fit(np.eye(4), np.eye(4))
    with pytest.raises(MismatchError, match="translator of 4 dimensions"):
        fitted.transform(np.ones((2, 5), np.float32))
