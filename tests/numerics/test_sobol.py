"""Sobol indices against closed forms, Jansen's estimators written as loops, and the folded form against evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from isthmus.errors import DataError, OptionError
from isthmus.numerics import sobol


def literal(function: Any, u: np.ndarray, plan: sobol.Design) -> tuple[np.ndarray, np.ndarray]:
    """Total and first indices (r,) of one row, one evaluation at a time."""
    a, b = plan.a.numpy(), plan.b.numpy()
    at_a, at_b = [function(u * m) for m in a], [function(u * m) for m in b]
    variance = np.var(at_a, ddof=1)
    total, first = [], []
    for i in range(len(u)):
        swapped = []
        for one, two in zip(a, b, strict=True):
            mask = one.copy()
            mask[i] = two[i]
            swapped.append(function(u * mask))
        total.append(np.mean([(p - q) ** 2 for p, q in zip(at_a, swapped, strict=True)]) / 2 / variance)
        first.append(1 - np.mean([(p - q) ** 2 for p, q in zip(at_b, swapped, strict=True)]) / 2 / variance)
    return np.array(total), np.array(first)


@pytest.mark.parametrize("sequence", ["halton", "random"])
def test_the_ishigami_function(sequence: str) -> None:
    """sin x1 + 7 sin^2 x2 + 0.1 x3^4 sin x1 on [-pi, pi]^3: indices known in closed form."""

    def ishigami(masks: Tensor) -> Tensor:
        x = (2 * masks - 1) * torch.pi
        return x[:, 0].sin() + 7 * x[:, 1].sin() ** 2 + 0.1 * x[:, 2] ** 4 * x[:, 0].sin()

    plan = sobol.design(3, 40_000, sequence=sequence)
    found = sobol.generic(ishigami, np.ones((1, 3)), plan)
    assert found.total.shape == (1, 3, 1)
    assert found.total[0, :, 0].numpy() == pytest.approx([0.5576, 0.4424, 0.2437], abs=0.015)
    assert found.first[0, :, 0].numpy() == pytest.approx([0.3139, 0.4424, 0.0], abs=0.03)


@given(seed=st.integers(0, 999), r=st.integers(1, 5), n=st.integers(2, 9))
@settings(max_examples=25)
def test_generic_is_the_estimator_written_out(seed: int, r: int, n: int) -> None:
    draw = np.random.default_rng(seed)
    u, w = draw.random((3, r)), draw.normal(size=r)
    plan = sobol.design(r, n, sequence="random", seed=seed)
    found = sobol.generic(lambda x: torch.tanh(x @ torch.from_numpy(w)) + x[:, 0] ** 2, u, plan, memory=1)
    for k in range(3):
        total, first = literal(lambda x: np.tanh(x @ w) + x[0] ** 2, u[k], plan)
        assert found.total[k, :, 0].numpy() == pytest.approx(total, rel=1e-7, abs=1e-9)
        assert found.first[k, :, 0].numpy() == pytest.approx(first, rel=1e-7, abs=1e-7)


@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 6),
    r=st.integers(1, 8),
    y=st.integers(1, 4),
    dtype=st.sampled_from(["float32", "float64"]),
    memory=st.sampled_from([1, 2**26]),
)
@settings(max_examples=40)
def test_folded_is_generic_for_a_linear_function(seed: int, n: int, r: int, y: int, dtype: str, memory: int) -> None:
    draw = np.random.default_rng(seed)
    u, w = draw.random((n, r)).astype(dtype) + 0.1, draw.normal(size=(r, y)).astype(dtype)
    plan = sobol.design(r, 16, seed=seed)
    folded = sobol.folded(u, w, plan, memory=memory)
    generic = sobol.generic(lambda x: x @ torch.from_numpy(w) + 3, u, plan)
    assert folded.total.shape == (n, r, y) and folded.total.dtype == getattr(torch, dtype)
    tight = 2e-3 if dtype == "float32" else 1e-9
    assert torch.allclose(folded.total, generic.total, rtol=tight, atol=tight)
    assert torch.allclose(folded.first, generic.first, rtol=tight, atol=tight)


def test_a_linear_function_has_shares_of_squares() -> None:
    u, w = np.array([[1.0, 2.0, 0.5]]), np.array([[1.0], [-1.0], [2.0]])
    found = sobol.folded(u, w, sobol.design(3, 20_000))
    expected = np.array([1, 4, 1]) / 6
    assert found.total[0, :, 0].numpy() == pytest.approx(expected, abs=0.01)
    assert found.first[0, :, 0].numpy() == pytest.approx(expected, abs=0.02)


def test_what_does_not_vary_has_no_share() -> None:
    plan = sobol.design(2, 8)
    assert not sobol.folded(np.zeros((1, 2)), np.ones((2, 1)), plan).total.any()
    assert not sobol.generic(lambda x: torch.ones(len(x)), np.ones((1, 2)), plan).first.any()


def test_a_design_is_reproducible_and_mixes_one_column() -> None:
    plan, again = sobol.design(4, 8, seed=3), sobol.design(4, 8, seed=3)
    assert torch.equal(plan.a, again.a) and not torch.equal(plan.a, sobol.design(4, 8, seed=4).a)
    points = plan.points().view(6, 8, 4)
    for i in range(4):
        assert torch.equal(points[2 + i, :, i], plan.b[:, i])
        assert torch.equal(
            points[2 + i].index_select(1, torch.tensor([j for j in range(4) if j != i])), plan.a[:, torch.arange(4) != i]
        )
    assert float(points.min()) >= 0 and float(points.max()) <= 1


def test_threads_change_nothing_that_matters() -> None:
    u, w = torch.rand(50, 10, generator=torch.Generator().manual_seed(0)), torch.ones(10, 30)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(sobol.folded(u, w, sobol.design(10)).total)
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(*found, atol=1e-6)


PLAN, U, W = sobol.design(3, 4), np.ones((2, 3)), np.ones((3, 1))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sobol.design(0), r"coefficients: expected a whole number of at least 1, got 0"),
        (lambda: sobol.design(2, 1), r"samples: expected a whole number of at least 2, got 1"),
        (lambda: sobol.design(2, sequence="sobol"), r"sequence: expected one of halton, random, got 'sobol'"),
        (lambda: sobol.folded(U * np.nan, W, PLAN), r"coefficients: expected no NaN, got 6"),
        (lambda: sobol.folded(U, W[:2], PLAN), r"weights: expected shape \(3, Y\), got \(2, 1\)"),
        (lambda: sobol.folded(U, W * np.inf, PLAN), r"weights: expected finite numbers, got 3 infinite"),
        (lambda: sobol.folded(U, W, sobol.design(2)), r"plan: expected shape \(N, 3\), got \(32, 2\)"),
        (lambda: sobol.generic(lambda x: x[:1], U, PLAN), r"function: expected shape \(40,\) or \(40, Y\), got \(1, 3\)"),
        (lambda: sobol.generic(lambda x: x * torch.nan, U, PLAN), r"function: expected no NaN"),
    ],
)
def test_what_does_not_fit_is_named(call: Any, said: str) -> None:
    with pytest.raises((DataError, OptionError), match=said):
        call()
