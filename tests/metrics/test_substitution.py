"""S+ and S- against loops, and the answers whose scores are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus import metrics
from isthmus.metrics import resamples


def world(seed: int, n: int = 40, k: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.random((n, k)).round(1)  # 0.5 and ties occur
    target = rng.integers(-1, k, n)
    removed = rng.random((n, k)) < 0.2
    return values, target, removed, np.sort(rng.integers(0, 3, k))


@given(seed=st.integers(0, 10_000), grouped=st.booleans())
@settings(max_examples=40)
def test_scores_are_the_loops_of_their_definition(seed: int, grouped: bool) -> None:
    values, target, removed, groups = world(seed)

    def on(row: np.ndarray, k: int) -> bool:
        if not grouped:
            return bool(row[k] >= 0.5)
        members = [j for j in range(len(row)) if groups[j] == groups[k]]
        return k == max(members, key=lambda j: (row[j], -j))

    plus = [on(row, t) for row, t in zip(values, target, strict=True) if t >= 0]
    with_some = [(row, np.flatnonzero(gone)) for row, gone in zip(values, removed, strict=True) if gone.any()]
    minus = [np.mean([not on(row, k) for k in at]) for row, at in with_some]
    how = {"groups": groups} if grouped else {}
    assert metrics.s_plus(values, target, **how) == pytest.approx(np.mean(plus))
    assert metrics.s_minus(values, removed, **how) == pytest.approx(np.mean(minus))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20)
def test_present_everywhere_is_one_and_zero_and_absent_everywhere_the_reverse(seed: int) -> None:
    values, target, removed, _ = world(seed)
    ones = np.ones_like(values)
    assert (metrics.s_plus(ones, target), metrics.s_minus(ones, removed)) == (1, 0)
    assert (metrics.s_plus(0 * ones, target), metrics.s_minus(0 * ones, removed)) == (0, 1)


def test_one_removed_attribute_can_be_given_by_its_column() -> None:
    values = np.array([[0.9, 0.1], [0.2, 0.5], [0.0, 0.0]])
    assert metrics.s_minus(values, np.array([0, 0, -1])) == 0.5
    assert metrics.s_minus(values, np.array([[True, False], [True, False], [False, False]])) == 0.5
    assert metrics.s_plus(values, np.array([1, 1, -1])) == 0.5


def test_rows_without_a_target_or_a_removed_attribute_do_not_count() -> None:
    values = np.ones((3, 2))
    assert np.isnan(metrics.s_plus(values, np.full(3, -1)))
    assert np.isnan(metrics.s_minus(values, np.zeros((3, 2), dtype=bool)))


def test_bootstrap_weights_are_literal_resampling() -> None:
    values, target, removed, groups = world(7)
    weights = resamples(len(values), 12, seed=1)
    for metric, other in ((metrics.s_plus, target), (metrics.s_minus, removed)):
        fast = metric.weighted(values, other, groups).under(weights)
        for r in range(12):
            rows = np.repeat(np.arange(len(values)), weights[r].astype(int))
            assert fast[r] == pytest.approx(metric(values[rows], other[rows], groups), abs=1e-6)
