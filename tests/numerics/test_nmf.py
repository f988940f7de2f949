"""Non-negative factors: bounds from the singular values, non-negative least squares, and a product that is found again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from isthmus.errors import DataError, OptionError
from isthmus.numerics import nmf


@given(
    seed=st.integers(0, 999),
    n=st.integers(2, 20),
    d=st.integers(2, 20),
    r=st.integers(1, 5),
    dtype=st.sampled_from(["float32", "float64"]),
)
@settings(max_examples=20)
def test_factors_are_not_negative_and_no_better_than_possible(seed: int, n: int, d: int, r: int, dtype: str) -> None:
    x, r = np.random.default_rng(seed).random((n, d)).astype(dtype), min(n, d, r)
    found = nmf.factorise(x, r)
    assert found.codes.shape == (n, r) and found.basis.shape == (r, d) and found.codes.dtype == getattr(torch, dtype)
    assert bool((found.codes >= 0).all()) and bool((found.basis >= 0).all())
    values = np.linalg.svd(x.astype(float), compute_uv=False)
    best = np.sqrt((values[r:] ** 2).sum() / (values**2).sum())
    assert best - 1e-5 <= found.error < 1
    assert torch.equal(nmf.factorise(x, r).codes, found.codes)


def test_a_product_of_few_factors_is_found_again() -> None:
    draw = np.random.default_rng(0)
    x = (draw.random((60, 3)) * (draw.random((60, 3)) < 0.5)) @ (draw.random((3, 25)) * (draw.random((3, 25)) < 0.5))
    found = nmf.factorise(x, 3, tol=1e-10, limit=5000)
    assert found.error < 1e-3
    assert not nmf.factorise(x, 3, tol=0, limit=2).converged


def test_codes_of_other_rows_are_non_negative_least_squares() -> None:
    draw = np.random.default_rng(1)
    x, basis = draw.random((12, 9)), draw.random((4, 9))
    found = nmf.encode(x, basis, tol=1e-9, limit=20_000)
    expected = np.stack([nnls(basis.T, row)[0] for row in x])
    assert found.codes.numpy() == pytest.approx(expected, abs=1e-4)
    assert torch.equal(found.basis, torch.from_numpy(basis))


def test_the_penalty_shrinks() -> None:
    x = np.random.default_rng(2).random((30, 12))
    free, held = nmf.factorise(x, 4), nmf.factorise(x, 4, l2=0.05)
    assert held.error > free.error
    assert float(held.codes.square().sum() + held.basis.square().sum()) < float(
        free.codes.square().sum() + free.basis.square().sum()
    )


X = np.ones((4, 3))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: nmf.factorise(-X, 1), r"x: expected entries of at least 0, got -1; rectify"),
        (lambda: nmf.factorise(X * np.nan, 1), r"x: expected no NaN, got 12"),
        (lambda: nmf.factorise(X[0], 1), r"x: expected shape \(n, d\), got \(3,\)"),
        (lambda: nmf.factorise(X, 4), r"rank: expected a whole number of at least 1 and at most 3, got 4"),
        (lambda: nmf.factorise(X, 1, start="zeros"), r"start: expected one of nndsvda, nndsvd, random, got 'zeros'"),
        (lambda: nmf.factorise(X, 1, l2=-1), r"l2: expected a finite number at least 0, got -1"),
        (lambda: nmf.encode(X, -X), r"basis: expected entries of at least 0"),
        (lambda: nmf.encode(X, np.ones((2, 4))), r"basis: expected shape \(r, 3\), got \(2, 4\)"),
    ],
)
def test_what_does_not_fit_is_named(call: Any, said: str) -> None:
    with pytest.raises((DataError, OptionError), match=said):
        call()
