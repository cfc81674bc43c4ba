"""All translators: what each is by its formula, and what holds for every one of them."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge as ScikitKernelRidge
from sklearn.linear_model import Ridge as ScikitRidge

from vecmigrate import (
    KernelRidge,
    Procrustes,
    Ridge,
    Translator,
    load_translator,
    save_translator,
)
from vecmigrate.errors import MismatchError
from vecmigrate.translators.device import transform_on
from vecmigrate.translators.fit import CUTOFF, FEW_ANCHORS, FOLDS, candidates, choose_translator
from vecmigrate.translators.folds import Folds
from vecmigrate.translators.kernels import GaussianLandmarks, spread_rows
from vecmigrate.translators.mixing import lowest_direction, mixing_scale, spectral_match

EVERY = [
    Procrustes(),
    Ridge(),
    KernelRidge(),
    KernelRidge(landmarks=20),
]
NAMES = ["procrustes", "ridge", "kernel ridge", "nystrom"]
every = pytest.mark.parametrize("translator", EVERY, ids=NAMES)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def curved_pairs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of 6 dimensions, and a smooth but not linear function of them in 9."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).standard_normal((6, 9))
    X = unit(rng.standard_normal((n, 6)))
    return X, unit(np.tanh(2 * X @ mix) + 0.05 * rng.standard_normal((n, 9)))


@every
def test_a_saved_translator_translates_the_same(translator: Translator, tmp_path: Path) -> None:
    X, Y = curved_pairs(80)
    translator.fit(X, Y)
    save_translator(translator, tmp_path / "t")
    loaded = load_translator(tmp_path / "t")
    assert type(loaded) is type(translator)
    np.testing.assert_array_equal(loaded.transform(X), translator.transform(X))


@every
@pytest.mark.parametrize("n", [1, 1023, 2500])
def test_batches_do_not_change_the_result(translator: Translator, n: int) -> None:
    translator.fit(*curved_pairs(80))
    X, _ = curved_pairs(n, seed=1)
    whole = translator.transform(X)
    parts = [translator.transform(X[i : i + 700]) for i in range(0, n, 700)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-6)
    out = np.empty_like(whole)
    assert translator.transform(X, out=out) is out
    np.testing.assert_array_equal(out, whole)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)


@every
def test_vectors_of_another_dimension_are_refused(translator: Translator) -> None:
    translator.fit(*curved_pairs(80))
    with pytest.raises(MismatchError, match="translator of 6 dimensions"):
        translator.transform(np.ones((2, 5), np.float32))


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 30),
    d_x=st.integers(1, 8),
    d_y=st.integers(1, 8),
    shape=st.sampled_from(["free", "constant", "duplicates", "rank one", "huge", "tiny"]),
)
@settings(deadline=None, max_examples=60)
@every
def test_degenerate_anchors_give_a_finite_map(
    translator: Translator, seed: int, n: int, d_x: int, d_y: int, shape: str
) -> None:
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((n, d_x)), rng.standard_normal((n, d_y))
    if shape == "constant":
        X[:], Y[:] = X[0], Y[0]
    elif shape == "duplicates":
        X[n // 2 :], Y[n // 2 :] = X[0], Y[0]
    elif shape == "rank one":
        X = np.outer(X[:, 0], X[0])
    elif shape != "free":
        X *= {"huge": 1e6, "tiny": 1e-6}[shape]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        translated = translator.fit(X, Y).transform(X.astype(np.float32))
    assert np.isfinite(translated).all()


def refitted(candidate: Translator, X: np.ndarray, Y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Each anchor by a map fitted without its fold, on the length scale of all of them."""
    predicted = np.empty(Y.shape)
    for f in np.unique(fold).tolist():
        rest, refit = X[fold != f], candidate
        if isinstance(candidate, KernelRidge):
            apart = mean_distance(rest) / mean_distance(X)
            refit = dataclasses.replace(candidate, gamma=candidate.gamma * apart**2)
        refit = copy.copy(refit).fit(rest, Y[fold != f])
        predicted[fold == f] = refit.transform(X[fold == f])
    return predicted


def mean_distance(X: np.ndarray) -> float:
    """Of the rows from their mean."""
    return float(np.linalg.norm(X - X.mean(axis=0), axis=1).mean())


@every
def test_held_out_predictions_are_those_of_refitting(translator: Translator) -> None:
    X, Y = curved_pairs(90)
    fold = np.arange(90) % 3
    if isinstance(translator, KernelRidge):
        translator = KernelRidge(match_spectrum=False, restore_length=False)
    folds = Folds(X, Y, fold, 0)
    predicted = folds.as_given(translator.cross_predict(folds))
    np.testing.assert_allclose(predicted, refitted(translator, X, Y, fold), atol=1e-4)


def test_ridge_is_scikit_learn_s_at_its_alpha() -> None:
    X, Y = curved_pairs(120)
    ours = Ridge(match_spectrum=False, normalize=False).fit(X, Y)
    centred = X - X.mean(0)
    unit_variance = float(np.linalg.eigvalsh(centred.T @ centred).mean())
    theirs = ScikitRidge(alpha=ours.alpha_ * unit_variance).fit(X, Y)
    np.testing.assert_allclose(ours.transform(X), theirs.predict(X), atol=1e-5)


def test_ridge_chooses_by_generalised_cross_validation() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 40))
    signal = X @ rng.standard_normal((40, 5))
    clean = Ridge(normalize=False).fit(X, signal)
    noisy = Ridge(normalize=False).fit(X, signal + 20 * rng.standard_normal((60, 5)))
    assert clean.alpha_ < 1e-3 < noisy.alpha_


def test_the_gaussian_kernel_is_scikit_learn_s() -> None:
    X, _ = curved_pairs(50)
    values = GaussianLandmarks(0.7, X[:20]).evaluate(X)
    oracle = RBF(length_scale=float(1 / np.sqrt(2 * 0.7)))(X.astype(float), X[:20].astype(float))
    np.testing.assert_allclose(values, oracle, atol=2e-6)


def test_kernel_ridge_without_prior_is_scikit_learn_s() -> None:
    X, Y = curved_pairs(100)
    ours = KernelRidge(prior=0, gamma=0.6, alpha=0.1, match_spectrum=False, normalize=False)
    theirs = ScikitKernelRidge(kernel="rbf", gamma=0.6 / mean_distance(X) ** 2, alpha=0.1).fit(X, Y)
    Z, _ = curved_pairs(40, seed=1)
    np.testing.assert_allclose(ours.fit(X, Y).transform(Z), theirs.predict(Z), atol=1e-4)


def test_kernel_ridge_beats_the_linear_maps_on_a_curved_relation() -> None:
    X, Y = curved_pairs(400)
    Z, truth = curved_pairs(200, seed=1)
    cosines = [
        float((translator.fit(X, Y).transform(Z) * truth).sum(axis=1).mean())
        for translator in (KernelRidge(), Ridge(), Procrustes())
    ]
    assert cosines[0] > max(cosines[1:]) + 0.02


def sharing_a_mean(n: int, seed: int, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of many dimensions, and a noisy function of them around a mean of a length."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)
    topics = unit(fixed.standard_normal((40, 24)))
    X = unit(topics[rng.integers(40, size=n)] + 0.25 * rng.standard_normal((n, 24)))
    bent = unit(np.tanh(3 * X @ fixed.standard_normal((24, 30))))
    beside = unit(bent - bent.mean(axis=0) + 0.05 * rng.standard_normal((n, 30)))
    mean = unit(fixed.standard_normal((1, 30)))
    return X, unit(length * mean + np.sqrt(1 - length**2) * beside)


def test_restored_lengths_keep_neighbours_where_vectors_share_a_mean() -> None:
    """Some points are anchors, whose predictions hardly shrink; others ask."""
    X, Y = sharing_a_mean(3000, 0, length=0.9)
    assert 0.85 < np.linalg.norm(Y.mean(axis=0)) < 0.95
    points, asked = slice(0, 2500), slice(2500, 3000)
    truth = np.argsort(-Y[asked] @ Y[points].T, axis=1)[:, :10]
    recall = {}
    for translator in (KernelRidge(), KernelRidge(restore_length=False), Procrustes()):
        translated = translator.fit(X[:600], Y[:600]).transform(X[points])
        found = np.argsort(-Y[asked] @ translated.T, axis=1)[:, :10]
        shares = [len(np.intersect1d(*pair)) / 10 for pair in zip(found, truth, strict=True)]
        restores = getattr(translator, "restore_length", None)
        recall[restores] = float(np.mean(shares))
    assert recall[True] > max(recall[False], recall[None]) + 0.03, recall


def test_translations_lie_around_the_mean_as_true_vectors_do() -> None:
    X, Y = sharing_a_mean(3000, 0, length=0.9)
    fitted = KernelRidge().fit(X[:600], Y[:600])
    mean = Y[:600].mean(axis=0)
    direction = mean / np.linalg.norm(mean)
    held_out = fitted.held_out_
    assert held_out is not None
    for rows, translated in (
        (slice(0, 600), held_out),
        (slice(0, 600), fitted.transform(X[:600])),
        (slice(600, 3000), fitted.transform(X[600:])),
    ):
        true, found = Y[rows] @ direction, translated @ direction
        assert found.mean() == pytest.approx(true.mean(), abs=0.005)
        # A regression: where it tells 1 more than the mean, there is 1 more on average.
        assert np.polyfit(found, true, 1)[0] == pytest.approx(1, abs=0.25)
        assert found.std() < true.std()
        np.testing.assert_allclose(np.linalg.norm(translated, axis=1), 1, atol=1e-5)


def test_lengths_are_left_where_translations_are_not_of_unit_length() -> None:
    X, Y = sharing_a_mean(300, 0, length=0.9)
    free = KernelRidge(normalize=False).fit(X, Y)
    left = KernelRidge(normalize=False, restore_length=False).fit(X, Y)
    np.testing.assert_array_equal(free.transform(X), left.transform(X))


@pytest.mark.parametrize("length", [0.0, 0.9])
def test_torch_translates_the_same(length: float) -> None:
    X, Y = sharing_a_mean(300, 0, length)
    for translator in (KernelRidge(), KernelRidge(restore_length=False), Ridge()):
        translator.fit(X[:200], Y[:200])
        there = transform_on(translator, "cpu:0")(X)
        np.testing.assert_allclose(there, translator.transform(X), atol=1e-5)


def test_nystrom_comes_near_the_exact_solution() -> None:
    X, Y = curved_pairs(600)
    Z, _ = curved_pairs(100, seed=1)
    exact = KernelRidge().fit(X, Y).transform(Z)
    errors = [
        float(np.linalg.norm(KernelRidge(landmarks=m).fit(X, Y).transform(Z) - exact))
        for m in (20, 300)
    ]
    assert errors[1] < 0.2 * errors[0]
    assert KernelRidge(landmarks=300).fit(X, Y).landmarks_.shape == (300, 6)


def test_variance_tells_where_anchors_are_lacking() -> None:
    X, Y = curved_pairs(600)
    known = X[:, 0] > 0
    fitted = KernelRidge().fit(X[known], Y[known])
    Z, truth = curved_pairs(2000, seed=1)
    translated, variance = fitted.transform_with_variance(Z)
    np.testing.assert_array_equal(translated, fitted.transform(Z))
    assert (variance >= 0).all()
    far, near = Z[:, 0] < -0.5, Z[:, 0] > 0.2
    assert np.median(variance[far]) > 3 * np.median(variance[near])
    cosine = (translated * truth).sum(axis=1)
    assert cosine[far].mean() < cosine[near].mean()


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_matched_predictions_spread_as_the_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.standard_normal((500, 4)) * [3, 1, 0.5, 0.2] + 1
    predicted = (true - true.mean(0)) * [0.9, 0.5, 0.3, 0.4] + true.mean(0)
    gain, centre = spectral_match(predicted, true)
    matched = (predicted - centre) @ gain + centre
    _, axes = np.linalg.eigh(np.cov(true.T))
    np.testing.assert_allclose((matched @ axes).std(0), (true @ axes).std(0), rtol=0.1)
    np.testing.assert_allclose(matched.mean(0), true.mean(0), atol=1e-6)


def test_spread_rows_cover_clusters_that_chance_would_miss() -> None:
    rng = np.random.default_rng(0)
    big = unit(rng.standard_normal(8) + 0.05 * rng.standard_normal((2000, 8)))
    centres = unit(rng.standard_normal((10, 8)))
    small = unit(np.repeat(centres, 3, axis=0) + 0.02 * rng.standard_normal((30, 8)))
    points = np.concatenate([big, small])

    def covered(rows: np.ndarray) -> int:
        assert len(set(rows.tolist())) == 30
        return len({(row - 2000) // 3 for row in rows.tolist() if row >= 2000})

    spread = [covered(spread_rows(points, 30, seed)) for seed in range(5)]
    uniform = [covered(np.random.default_rng(seed).permutation(2030)[:30]) for seed in range(5)]
    assert min(spread) > max(uniform)


def test_auto_prefers_what_retrieves_better() -> None:
    X, Y = curved_pairs(400)
    curved, table = choose_translator(X, Y)
    assert isinstance(curved, KernelRidge)
    assert [s.name for s in table] != list(candidates(0))
    assert choose_translator(X, Y)[1] == table
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    assert isinstance(choose_translator(X, X @ rotation.astype("f4"))[0], Procrustes)


def scored_predictions(
    candidate: Translator, X: np.ndarray, Y: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """What ``auto`` is to score: kernel ridge's spectrum is measured on folds, its slope on all."""
    if not isinstance(candidate, KernelRidge):
        return refitted(candidate, X, Y, fold)
    free = dataclasses.replace(candidate, match_spectrum=False, normalize=False)
    plain, matched = refitted(free, X, Y, fold), np.empty(Y.shape)
    along, true, direction = np.empty(len(Y)), np.empty(len(Y)), np.empty(Y.shape)
    for f in range(FOLDS):
        own = fold == f
        gain, centre = spectral_match(plain[own], Y[~own])
        length = np.linalg.norm(centre)
        direction[own] = centre / length
        matched[own] = (plain[own] - centre) @ gain
        along[own], true[own] = (each[own] @ centre / length - length for each in (plain, Y))
    component = min(float(np.polyfit(along, true, 1)[0]), 1.0) * along
    for f in range(FOLDS):
        component[fold == f] += np.linalg.norm(Y[fold != f].mean(axis=0))
    others = matched - np.sum(matched * direction, axis=1, keepdims=True) * direction
    rest = np.sqrt(1 - component**2)
    return component[:, None] * direction + rest[:, None] * unit(others)


def test_auto_scores_each_candidate_as_refits_do() -> None:
    X, Y = curved_pairs(300)
    rng = np.random.default_rng(0)
    rng.permutation(len(X))
    fold = rng.permutation(len(X)) % FOLDS
    near = [np.argsort(-row)[:CUTOFF] for row in Y @ Y.T - 9 * np.eye(len(X))]
    expected = {}
    for name, candidate in candidates(0).items():
        predicted = scored_predictions(candidate, X, Y, fold)
        found = np.argsort(-(Y @ predicted.T) + 9 * np.eye(len(X)), axis=1)[:, :CUTOFF]
        shares = [len(np.intersect1d(*pair)) / CUTOFF for pair in zip(near, found, strict=True)]
        expected[name] = float(np.mean(shares))
    _, table = choose_translator(X, Y)
    scores = {score.name: score.held_out_recall for score in table}
    assert scores == pytest.approx(expected, abs=0.002)
    assert expected[table[0].name] >= max(expected.values()) - 0.001


def test_auto_falls_back_to_procrustes_with_few_anchors() -> None:
    X, Y = curved_pairs(FEW_ANCHORS - 1)
    chosen, table = choose_translator(X, Y)
    assert isinstance(chosen, Procrustes)
    assert table == []


def test_the_mixing_scale_undoes_a_known_shrinkage() -> None:
    _, Y = curved_pairs(800)
    assert mixing_scale(Y * np.float32(1.25), Y, 2000) == pytest.approx(0.8, abs=1e-4)
    assert mixing_scale(Y * np.float32(1.25), Y, 1_000_000) == 1.0


def test_the_lowest_direction_is_the_one_that_vectors_lack() -> None:
    _, Y = curved_pairs(300)
    Y[:, 4] *= 1e-3
    assert abs(lowest_direction(Y)[4]) == pytest.approx(1, abs=1e-3)
