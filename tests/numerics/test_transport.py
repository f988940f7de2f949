"""Entropic transport against POT in the log domain, closed forms, and each problem alone."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import DataError, OptionError
from isthmus.numerics import transport


def problem(seed: int, n: int, m: int, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    a, b = draw.random(n) + 0.05, draw.random(m) + 0.05
    cost = ((draw.normal(size=(n, 1, 3)) - draw.normal(size=(1, m, 3))) ** 2).sum(-1)
    return cost.astype(dtype), (a / a.sum()).astype(dtype), (b / b.sum()).astype(dtype)


def pot(cost: np.ndarray, a: np.ndarray, b: np.ndarray, epsilon: float) -> np.ndarray:
    ot = pytest.importorskip("ot")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ot.bregman.sinkhorn_log(*(v.astype(float) for v in (a, b, cost)), epsilon, numItermax=2_000, stopThr=1e-9)


@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 12),
    m=st.integers(1, 12),
    epsilon=st.sampled_from([1.0, 10.0]),
    dtype=st.sampled_from(["float32", "float64"]),
)
@settings(max_examples=12)
def test_plans_are_those_of_pot(seed: int, n: int, m: int, epsilon: float, dtype: str) -> None:
    cost, a, b = problem(seed, n, m, dtype)
    tol = 1e-10 if dtype == "float64" else 2e-5
    found = transport.entropic(cost[None], a=a[None], b=b[None], epsilon=epsilon, tol=tol, limit=100_000)
    assert bool(found.converged.all()) and found.plan.dtype == getattr(torch, dtype)
    expected = pot(cost, a, b, epsilon)
    assert np.abs(found.plan[0].numpy() - expected).sum() < (1e-6 if dtype == "float64" else 1e-3)
    assert found.cost.item() == pytest.approx((expected * cost).sum(), rel=1e-6 if dtype == "float64" else 1e-3)


def test_potentials_give_the_plan_and_marginals_hold() -> None:
    cost, a, b = problem(0, 7, 9)
    found = transport.entropic(cost[None], a=3 * a[None], b=3 * b[None], epsilon=0.3, tol=1e-9)
    again = ((found.f[:, :, None] + found.g[:, None] - torch.from_numpy(cost)) / 0.3).exp()
    assert torch.allclose(again, found.plan, rtol=1e-9)
    assert torch.allclose(found.plan.sum(1)[0], torch.from_numpy(3 * b), rtol=1e-9)
    assert torch.allclose(found.plan.sum(2)[0], torch.from_numpy(3 * a), atol=1e-8)
    single = transport.entropic(cost[None], a=a[None], b=b[None], epsilon=0.3, tol=1e-9)
    assert torch.allclose(3 * single.plan, found.plan, atol=1e-9)


def test_padding_does_not_exist_and_rows_do_not_meet() -> None:
    sizes = [(4, 6), (1, 1), (7, 3), (5, 5)]
    cost, a, b = np.full((4, 7, 6), np.nan), np.zeros((4, 7)), np.zeros((4, 6))
    alone = []
    for k, (n, m) in enumerate(sizes):
        one = problem(k, n, m)
        cost[k, :n, :m], a[k, :n], b[k, :m] = one
        alone.append(transport.entropic(one[0][None], a=one[1][None], b=one[2][None], epsilon=0.05, tol=1e-8))
    found = transport.entropic(cost, a=a, b=b, epsilon=0.05, tol=1e-8)
    for k, (n, m) in enumerate(sizes):
        assert torch.allclose(found.plan[k, :n, :m], alone[k].plan[0], atol=1e-12)
        assert found.plan[k].count_nonzero() == n * m
        assert bool((found.f[k, n:] == -torch.inf).all()) and bool((found.g[k, m:] == -torch.inf).all())
        assert found.cost[k].item() == pytest.approx(alone[k].cost.item(), rel=1e-9)


def test_small_regularisation_nears_the_exact_plan() -> None:
    """Where exp(-cost / epsilon) is 0 in float64 the log domain goes on; the exact cost comes from an assignment."""
    optimize = pytest.importorskip("scipy.optimize")
    cost, _, _ = problem(3, 8, 8)
    rows, columns = optimize.linear_sum_assignment(cost)
    found = transport.entropic(cost[None], epsilon=1e-3, tol=1e-6, limit=300_000)
    assert np.exp(-cost.min(1).max() / 1e-3) == 0
    assert bool(found.converged.all())
    assert found.cost.item() == pytest.approx(cost[rows, columns].mean(), abs=5e-3)
    wide = transport.entropic(cost[None], epsilon=1e6)
    assert torch.allclose(wide.plan, torch.full((1, 8, 8), 1 / 64, dtype=torch.float64), rtol=1e-4)


def test_a_limit_that_is_too_low_is_told() -> None:
    cost, a, b = problem(1, 20, 20)
    found = transport.entropic(cost[None], a=a[None], b=b[None], epsilon=0.001, tol=1e-12, limit=1)
    assert not bool(found.converged.any())
    assert bool(found.plan.isfinite().all())
    enough = transport.entropic(cost[None], a=a[None], b=b[None], epsilon=0.5, tol=1e-2)
    assert bool(enough.converged.all())
    assert enough.error.item() == pytest.approx(np.abs(enough.plan[0].sum(1).numpy() - a).sum(), rel=1e-6)


def test_threads_change_nothing_that_matters() -> None:
    cost = np.stack([problem(k, 30, 40)[0] for k in range(4)])
    before = torch.get_num_threads()
    try:
        plans = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            plans.append(transport.entropic(cost, epsilon=2.0).plan)
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(*plans, atol=1e-6)


C, W = np.ones((2, 3, 4)), np.full((2, 3), 1 / 3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: transport.entropic(C[0]), r"cost: expected shape \(B, n, m\), got \(3, 4\)"),
        (lambda: transport.entropic(C * np.nan), r"cost: expected finite numbers between points of positive weight"),
        (lambda: transport.entropic(np.full((1, 2, 2), 3e38, np.float32)), r"cost: expected sizes below 2e\+19 times epsilon"),
        (lambda: transport.entropic(C, epsilon=0), r"epsilon: expected a finite number above 0, got 0"),
        (lambda: transport.entropic(C, tol=float("nan")), r"tol: expected a finite number above 0, got nan"),
        (lambda: transport.entropic(C, limit=0), r"limit: expected a whole number of at least 1, got 0"),
        (lambda: transport.entropic(C, a=W.T), r"a: expected shape \(2, 3\), got \(3, 2\)"),
        (lambda: transport.entropic(C, a=W * np.nan), r"a: expected no NaN, got 6"),
        (lambda: transport.entropic(C, a=-W), r"a: expected weights of at least 0, got -0.333333"),
        (
            lambda: transport.entropic(C, a=2 * W),
            r"b: expected the positive sum of a in each problem, got sums 2 and 1 in problem 0",
        ),
        (lambda: transport.entropic(C, a=0 * W, b=np.zeros((2, 4))), r"b: expected the positive sum of a"),
    ],
)
def test_what_does_not_fit_is_named(call: Any, said: str) -> None:
    with pytest.raises((DataError, OptionError), match=said):
        call()
