"""Selection against the plain greedy and every subset; with and without numba, the same bits."""

from __future__ import annotations

from itertools import combinations
from math import e
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import DataError, OptionError
from isthmus.numerics import _greedy, select


def value(table: np.ndarray, scores: np.ndarray, weight: float, chosen: Any) -> float:
    """F of a set, as the docstring says it."""
    chosen = list(chosen)
    return float(scores[chosen].sum() + weight * sum(max(0.0, max(table[j, t] for j in chosen)) for t in range(table.shape[1])))


def plain(table: np.ndarray, scores: np.ndarray, weight: float, k: int) -> list[int]:
    """Greedy by the definition of F: every gain in every round, the lowest index of equals."""
    chosen: list[int] = []
    for _ in range(k):
        rest = [j for j in range(len(table)) if j not in chosen]
        chosen.append(max(rest, key=lambda j: (value(table, scores, weight, [*chosen, j]), -j)))
    return chosen


def eighths(seed: int, *shape: int) -> np.ndarray:
    """Small multiples of 1/8, of either sign: sums are exact in any order, and ties are many."""
    return np.random.default_rng(seed).integers(-4, 8, shape) / 8.0


@given(
    seed=st.integers(0, 9999),
    n=st.integers(1, 12),
    s=st.integers(1, 70),
    k=st.integers(1, 12),
    weight=st.sampled_from([0.0, 0.5, 1.0]),
    dtype=st.sampled_from(["float32", "float64"]),
    numba=st.booleans(),
)
@settings(max_examples=120)
def test_the_ranking_is_that_of_the_plain_greedy(
    seed: int, n: int, s: int, k: int, weight: float, dtype: str, numba: bool
) -> None:
    table, scores, k = eighths(seed, n, s), eighths(seed + 1, n), min(n, k)
    with pytest.MonkeyPatch.context() as patch:
        if not numba:
            patch.setattr(_greedy, "jitted", lambda function: None)
        found = select.greedy(table.astype(dtype), k, scores=scores, weight=weight)
    assert found.index.tolist() == plain(table, scores, weight, k)
    assert found.value == value(table, scores, weight, found.index.tolist())
    firsts = [value(table, scores, weight, found.index[: r + 1].tolist()) for r in range(k)]
    assert np.array_equal(np.cumsum(found.gain.numpy()), firsts)


@given(seed=st.integers(0, 9999), n=st.integers(2, 9), k=st.integers(1, 4))
@settings(max_examples=30)
def test_greedy_is_within_its_bound_of_the_best_subset(seed: int, n: int, k: int) -> None:
    table, scores, k = np.abs(eighths(seed, n, 6)), np.abs(eighths(seed + 1, n)), min(n, k)
    best = max(value(table, scores, 1.0, chosen) for chosen in combinations(range(n), k))
    assert (1 - 1 / e) * best - 1e-12 <= select.greedy(table, k, scores=scores).value <= best


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_numba_the_same_bits(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(150, 40)).astype(dtype)
    groups, scores = draw.integers(0, 3, 150), draw.random(150)
    runs = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(_greedy, "jitted", lambda function: None)
        runs.append([select.by_group(rows, groups, 20, scores=scores, coverage=c) for c in ("similarity", "columns")])
    for one, two in zip(*runs, strict=True):
        for group in (0, 1, 2):
            assert torch.equal(one[group].index, two[group].index)
            assert torch.equal(one[group].gain, two[group].gain)


def test_lazy_computes_far_fewer_gains() -> None:
    rows = np.random.default_rng(0).normal(size=(300, 30)).astype("float32")
    found = select.greedy(rows @ rows.T, 40)
    assert 300 <= found.evaluations < 300 * 40 / 4
    assert sorted(set(found.index.tolist())) == sorted(found.index.tolist())
    assert bool((found.gain.diff() <= 0).all())


def test_groups_are_each_group_alone_in_either_reading() -> None:
    draw = np.random.default_rng(2)
    rows, groups, scores = eighths(3, 30, 5), draw.permutation(np.repeat([4, 7, 9], [5, 12, 13])), eighths(4, 30)
    budget = {4: 9, 7: 3, 9: 6}
    for coverage in ("similarity", "columns"):
        found = select.by_group(rows, groups, budget, scores=scores, weight=0.5, coverage=coverage)
        assert [len(found[g].index) for g in (4, 7, 9)] == [5, 3, 6]
        for g in (4, 7, 9):
            at = np.flatnonzero(groups == g)
            own = rows[at]
            table = own @ own.T if coverage == "similarity" else own
            assert found[g].index.tolist() == at[plain(table, scores[at], 0.5, len(found[g].index))].tolist()
    similar, columns = (select.by_group(rows, groups, 3, coverage=c) for c in ("similarity", "columns"))
    assert any(similar[g].index.tolist() != columns[g].index.tolist() for g in (4, 7, 9))


def test_threads_change_nothing() -> None:
    rows = torch.randn(400, 64, generator=torch.Generator().manual_seed(0))
    groups, before = torch.arange(400) % 2, torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            runs.append(select.by_group(rows, groups, 30))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(runs[0][1].index, runs[1][1].index)


T = np.eye(3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: select.greedy(T * np.nan, 1), r"table: expected no NaN, got 9"),
        (lambda: select.greedy(T / 0, 1), r"table: expected (no NaN|finite)"),
        (lambda: select.greedy(T[0], 1), r"table: expected shape \(n, served\), got \(3,\)"),
        (lambda: select.greedy(T, 4), r"k: expected a whole number of at least 1 and at most 3, got 4"),
        (lambda: select.greedy(T, 1, scores=np.ones(2)), r"scores: expected shape \(3,\), got \(2,\)"),
        (lambda: select.greedy(T, 1, weight=-1), r"weight: expected a finite number at least 0, got -1"),
        (lambda: select.by_group(T, np.zeros(2, int), 1), r"groups: expected 3 whole numbers, got int64 of shape \(2,\)"),
        (lambda: select.by_group(T, np.zeros(3), 1), r"groups: expected 3 whole numbers, got float64"),
        (lambda: select.by_group(T, np.arange(3), {0: 1, 1: 1}), r"budget: expected a number for group 2, got none"),
        (lambda: select.by_group(T, np.arange(3), {0: 1, 1: 0, 2: 1}), r"budget\[1\]: expected a whole number of at least 1"),
        (
            lambda: select.by_group(T, np.arange(3), 1, coverage="rows"),
            r"coverage: expected one of similarity, columns, got 'rows'",
        ),
    ],
)
def test_what_does_not_fit_is_named(call: Any, said: str) -> None:
    with np.errstate(all="ignore"), pytest.raises((DataError, OptionError), match=said):
        call()
