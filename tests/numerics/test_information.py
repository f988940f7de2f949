"""Mutual information against closed forms, scikit-learn's estimator and neighbours by listing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

from isthmus.errors import DataError
from isthmus.numerics.information import entropy, information, itself, variable

SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.integers(2, 5), st.integers(2, 4))
def test_counted_information_is_that_of_the_table(seed: int, a: int, b: int) -> None:
    draw = np.random.default_rng(seed)
    x, y = draw.integers(0, a, 300), draw.integers(0, b, 300)
    y[: len(y) // 2] = x[: len(y) // 2] % b
    table = np.zeros((a, b))
    np.add.at(table, (x, y), 1 / 300)
    px, py = table.sum(1), table.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        want = np.nansum(table * np.log(table / np.outer(px, py)))
    got = information(variable(x, counted=True), variable(y, counted=True))
    assert got.mean() == pytest.approx(want, abs=1e-12)
    assert information(variable(x, counted=True), variable(x, counted=True)).mean() == pytest.approx(
        entropy(variable(x, counted=True)).mean(), abs=1e-12
    )


def test_ross_is_scikit_learns_estimate() -> None:
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, 800)
    x = y * 0.7 + draw.normal(size=800)
    ours = information(variable(x), variable(y, counted=True)).mean()
    theirs = mutual_info_classif(x[:, None], y, n_neighbors=3, random_state=0)[0]  # it scales by the deviation: the same
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_kraskov_is_scikit_learns_estimate_and_near_the_truth() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 3000).T
    ours = information(variable(a), variable(b)).mean()
    assert ours == pytest.approx(mutual_info_regression(a[:, None], b, n_neighbors=3, random_state=0)[0], abs=2e-2)
    assert ours == pytest.approx(-0.5 * np.log(1 - 0.64), abs=0.05)


@given(SEEDS, st.integers(1, 5))
def test_the_sort_and_the_tree_find_the_same_neighbours(seed: int, k: int) -> None:
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=60), draw.integers(0, 3, 60)
    flat = information(variable(x, counted=False), variable(y, counted=True), k=k)
    pairs = np.abs(x[:, None] - x[None])
    want = np.zeros(60)
    for i in range(60):
        own = np.flatnonzero(y == y[i])
        near = min(k, len(own) - 1)
        radius = np.sort(pairs[i, own])[near]
        m = (pairs[i] < radius).sum()
        want[i] = digamma(60) + digamma(near) - digamma(len(own)) - digamma(m)
    if (np.bincount(y) > 1).all():
        np.testing.assert_allclose(flat, want, atol=1e-9)
    wide = information(variable(np.c_[x, np.zeros(60)], counted=False), variable(y, counted=True), k=k)
    np.testing.assert_allclose(flat, wide, atol=1e-9)


def test_itself_depends_on_rows_and_neighbours_alone() -> None:
    draw = np.random.default_rng(2)
    for x in (draw.normal(size=500), draw.random(500) ** 8):
        assert itself(variable(x)) == pytest.approx(digamma(500) - digamma(3), abs=1e-12)
        assert information(variable(x), variable(x)).mean() == pytest.approx(itself(variable(x)), abs=1e-9)
    c = np.r_[np.zeros(150), np.ones(50)]
    assert itself(variable(c)) == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), abs=1e-12)


def test_ties_do_not_look_like_dependence() -> None:
    """Two saturated columns that know nothing of each other: the noise against ties is not shared."""
    draw = np.random.default_rng(3)
    a, b = (np.where(draw.random(2000) < 0.9, 1.0, draw.random(2000)) for _ in range(2))
    assert information(variable(a, counted=False), variable(b, counted=False)).mean() < 0.05


@pytest.mark.parametrize(
    ("bad", "said"), [(np.array([1.0, np.nan]), "finite"), (np.zeros((2, 0)), "finite"), (np.zeros((2, 2, 2)), "finite")]
)
def test_bad_values(bad: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        variable(bad)


def test_bad_calls() -> None:
    with pytest.raises(DataError, match="as many rows"):
        information(variable(np.zeros(5)), variable(np.zeros(4)))
    with pytest.raises(DataError, match="more rows than neighbours"):
        information(variable(np.arange(3.0), counted=False), variable(np.zeros(3), counted=True))
    with pytest.raises(DataError, match="measured"):
        entropy(variable(np.arange(300.0)))
