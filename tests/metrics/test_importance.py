"""Existence, global importance, deletion and insertion, CaCE: small cases with known answers and chance levels."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus import metrics
from isthmus.errors import DataError
from isthmus.metrics.importance import area_under, averages, effects, frequencies, global_importance, top


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_existence_by_listing(seed: int) -> None:
    draw = np.random.default_rng(seed)
    c, w = (draw.random((8, 5)) < 0.4).astype(float), draw.normal(size=(8, 5)).round()
    c[draw.random(c.shape) < 0.2] = np.nan
    orders = list(permutations(range(5)))
    for most in (1, 3, 5):
        hits = [c[i, k] for i in range(8) for order in orders for k in sorted(order, key=lambda k: -w[i, k])[:most]]
        want = np.nanmean(hits) if not np.isnan(hits).all() else np.nan
        assert metrics.existence(c, w, most) == pytest.approx(want, nan_ok=True), "equals in every order alike"
        turned = draw.permutation(5)
        assert metrics.existence(c[:, turned], w[:, turned], most) == pytest.approx(want, nan_ok=True)


def test_existence_of_equals_is_that_of_any_order() -> None:
    c = np.array([[1.0, 0.0, 0.0, 1.0]])
    assert metrics.existence(c, np.zeros((1, 4)), 1) == 0.5, "not the first column's label"
    assert metrics.existence(c, np.array([[2.0, 1.0, 1.0, 0.0]]), 2) == 0.5
    with pytest.raises(DataError, match="1 to 4 concepts of importance, got 5"):
        metrics.existence(c, np.zeros((1, 4)), 5)


def test_existence_of_importance_that_knows_nothing_is_the_rate() -> None:
    draw = np.random.default_rng(0)
    c = (draw.random((5000, 20)) < 0.3).astype(float)
    assert metrics.existence(c, draw.random(c.shape), 3) == pytest.approx(0.3, abs=0.02)
    assert metrics.existence(c, c, 1) == pytest.approx(1, abs=0.01)


def test_global_importance_by_hand() -> None:
    c, y = np.array([[1, 0], [1, 1], [0, 1], [np.nan, 0]]), np.array([0, 0, 1, 1])
    v = frequencies(c, y, 2)
    np.testing.assert_allclose(v, [[1, 0], [0.5, 0.5]])
    u = averages(np.array([[2.0, 1], [4, 1], [1, 1], [9, 9]]), y, np.array([0, 0, 1, 0]), 2)
    np.testing.assert_allclose(u, [[3, 1], [1, 1]])
    w = np.array([[1.0, -1], [2, 2]])
    found = global_importance(w, u, v)
    np.testing.assert_allclose(found["CGIM1"], [1 / 2**0.5, 1])
    np.testing.assert_allclose(found["CGIM2"], [3 / 10**0.5, 1])
    np.testing.assert_allclose(found["CGIM3"], [3 / 10**0.5, 1])
    with pytest.raises(DataError, match=r"three arrays \(K, Y\)"):
        global_importance(w, u, v[:1])


def test_areas_and_effects() -> None:
    np.testing.assert_allclose(area_under(np.array([[1.0, 0.5, 0.0], [1, 1, 1]])), [0.5, 1])
    assert (
        metrics.deletion(np.array([[1.0, 0.0, 0.0]])) == pytest.approx(0.25) == metrics.insertion(np.array([[0.0, 0.0, 1.0]]))
    )
    np.testing.assert_allclose(effects(np.array([[0.9, 0.1], [0.7, 0.3]]), np.full((2, 2), 0.5)), [0.3, -0.3])
    with pytest.raises(DataError, match="CaCE"):
        effects(np.zeros((2, 2)), np.zeros((3, 2)))


def test_top_takes_the_first_of_equals_and_refuses_too_many() -> None:
    assert top(np.array([[1.0, 2, 2, 0]]), 3).tolist() == [[1, 2, 0]]
    with pytest.raises(DataError, match="1 to 4"):
        top(np.zeros((1, 4)), 5)


def test_equals_are_drawn_row_by_row() -> None:
    """No weight at all: every column leads as often as another; what is heavier leads as before."""
    none = np.zeros((4000, 5))
    share = np.bincount(top(none, 2, seed=0)[:, 0], minlength=5) / 4000
    assert np.abs(share - 0.2).max() < 0.03 and (top(none, 2) == [0, 1]).all()
    np.testing.assert_array_equal(top(none, 3, seed=1), top(none, 3, seed=1))
    apart = np.random.default_rng(0).normal(size=(300, 6))
    np.testing.assert_array_equal(top(apart, 4, seed=3), top(apart, 4))
    some = np.tile([0.0, 1.0, 0.0, 0.0, 2.0], (900, 1))
    found = top(some, 3, seed=0)
    assert (found[:, :2] == [4, 1]).all() and set(found[:, 2]) == {0, 2, 3}
