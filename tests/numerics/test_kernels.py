"""The inner loops of sparse heads against what they stand for, written out densely."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.numerics import _kernels, _problem


@given(seed=st.integers(0, 10_000), rows=st.sampled_from([None, 7, 400]), coupled=st.booleans())
@settings(max_examples=20, deadline=None)
def test_compiled_sweeps_are_the_plain_ones(seed: int, rows: int | None, coupled: bool) -> None:
    """On rows of a matrix that is walked in place, and on fewer of its columns than it has."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(9, 5000))
    count = rows or 5000
    at, (q, v, c, p) = np.array([0, 4, 8]), rng.normal(size=(4, count))
    d = rng.normal(size=4) * (rng.random(4) < 0.7)
    fast, slow = _kernels.kernels(), _kernels.kernels(compiled=False)
    few = x[at, :count]
    assert fast.pull(x, at, q, v, c, coupled) == pytest.approx(slow.pull(few, at, q, v, c, coupled), abs=1e-9)
    ends = [(v.copy(), c.copy()) for _ in range(2)]
    fast.push(x, at, d, p, *ends[0], coupled)
    slow.push(few, at, d, p, *ends[1], coupled)
    moved = d[:3] @ few + d[3]
    assert ends[0][0] == pytest.approx(ends[1][0]) and ends[0][0] == pytest.approx(v + moved)
    assert ends[0][1] == pytest.approx(ends[1][1]) and ends[0][1] == pytest.approx(c + coupled * p * moved)


@pytest.mark.parametrize("family", ["multinomial", "ovr"])
def test_sparse_logits_and_the_first_gradient_are_the_dense_ones(family: Literal["multinomial", "ovr"]) -> None:
    rng = np.random.default_rng(0)
    x, y = 3 + rng.normal(size=(700, 60)), rng.integers(0, 5, 700)
    weight = rng.random(len(x)) * (np.arange(len(x)) % 3 > 0)
    problem = _problem.prepare(x, y, family=family, classes=None, weight=weight, standardize=True)
    draw = torch.Generator().manual_seed(0)
    bias = torch.randn(5, generator=draw, dtype=torch.float64)
    for share in (0.0, 0.05, 0.2, 1.0):
        dense = torch.randn(5, 60, generator=draw, dtype=torch.float64)
        w = dense * (torch.rand(5, 60, generator=draw) < share)
        torch.testing.assert_close(problem.logits(w, bias), w @ problem.x + bias[:, None])
    p = problem.link.look(problem.logits(torch.zeros_like(dense), bias)).p
    for still, full in zip(problem.still(bias), problem.gradient(p), strict=True):
        torch.testing.assert_close(still, full, atol=1e-12, rtol=1e-9)


@given(seed=st.integers(0, 10_000), columns=st.integers(0, 14), count=st.sampled_from([1, 7, 512, 1700]))
@settings(max_examples=20, deadline=None)
def test_curvature_is_its_formula_compiled_or_not(seed: int, columns: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = rng.normal(size=(20, 1800)), rng.random(count)
    at = np.sort(rng.permutation(20)[:columns])
    rows = np.vstack([x[at, :count], np.ones(count)])
    wanted = (rows * weight) @ rows.T
    wanted += np.diag(np.diag(wanted)) * _kernels.RAISED
    for kernels in (_kernels.kernels(), _kernels.kernels(compiled=False)):
        found = kernels.curvature(x, at, weight)
        assert found.dtype == x.dtype and found == pytest.approx(wanted, abs=1e-10)
        narrow = kernels.curvature(x.astype(np.float32), at, weight.astype(np.float32))
        assert narrow.dtype == np.float32 and narrow == pytest.approx(wanted, abs=1e-5 * abs(wanted).max())
