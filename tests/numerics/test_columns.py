"""A sparse head's columns made ready: exact for any place and scale, and refused by name where they cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from isthmus.errors import DataError
from isthmus.numerics import elastic_net
from isthmus.numerics._problem import prepare

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
PLAIN = RNG.normal(size=(30_000, 3))
LABELS = RNG.integers(0, 3, len(PLAIN))


def rare(low: float, high: float) -> Array:
    x = np.full((5000, 2), low)
    x[7], x[9, 0] = high, high
    return x


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "x",
    [PLAIN, PLAIN + 1e4, PLAIN + 1e7, PLAIN * 1e-3 + 1, rare(1e6, 1e6 + 1), rare(0.1, 1e7), np.exp(5 * PLAIN)]
    + [PLAIN * scale for scale in (1e19, 1e25, 1e35, 1e-24, 1e-33)],
)
def test_spread_and_centre_are_exact_in_float32(x: Array, weighted: bool) -> None:
    x = x.astype(np.float32)
    w = RNG.random(len(x)) * (np.arange(len(x)) % 3 > 0) if weighted else np.ones(len(x))
    found = prepare(x, LABELS[: len(x)], family="multinomial", classes=None, weight=w, standardize=True)
    wide = x.astype(np.longdouble)
    middle = np.average(wide, axis=0, weights=w)
    spread = np.sqrt(np.average((wide - middle) ** 2, axis=0, weights=w))
    assert found.scale.numpy() == pytest.approx(spread.astype(float), rel=1e-6)
    assert abs((found.mean.numpy() - middle) / spread).max() < 1e-6
    assert found.middle.abs().max() < 2e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_column_is_constant_if_it_has_one_value(dtype: type) -> None:
    x = PLAIN[:1000].astype(dtype)
    for value in (0.1, 1 / 3, 1e6 + 0.1, 1e-30, 1e30, 123456.789):
        head = elastic_net.fit(np.c_[x, np.full(len(x), value, dtype)], LABELS[:1000], lam=1e-3)
        assert head.scale[3] == 0 and (head.weights[:, 3] == 0).all() and (head.scale[:3] > 0).all()
    all_same = np.full((60, 2), 0.1, dtype)
    assert elastic_net.strongest(all_same, LABELS[:60]) == 0
    for walk in (elastic_net.path, elastic_net.with_nec):
        with pytest.raises(DataError, match="every column of x is constant"):
            walk(all_same, LABELS[:60])
    seen = np.r_[x, np.full((5, 3), 9, dtype)]  # only rows of weight 0 differ
    seen[:1000, 0] = 0.1
    head = elastic_net.fit(seen, LABELS[:1005], lam=1e-3, weight=np.arange(1005) < 1000)
    assert head.scale[0] == 0 and head.scale[1] > 0


@pytest.mark.parametrize(("dtype", "scales"), [(np.float32, (1e19, 1e-24, 1e30)), (np.float64, (1e160, 1e-160, 1e280))])
def test_extreme_scales_change_no_head(dtype: type, scales: tuple[float, ...]) -> None:
    x = PLAIN[:1000].astype(dtype)
    y = (x[:, 0] + 0.3 * x[:, 1] > 0).astype(int)
    plain = elastic_net.fit(x, y, lam=0.02, tol=1e-6)
    for scale in scales:
        size = np.array([scale, scale, scale], dtype)
        for by in (size, np.where(np.arange(3) == 0, size, 1).astype(dtype)):
            head = elastic_net.fit(x * by, y, lam=0.02, tol=1e-6)
            assert head.weights * by == pytest.approx(plain.weights, abs=1e-2)
            assert head.certified and head.objective == pytest.approx(plain.objective, rel=2e-6)


def test_what_cannot_be_held_is_refused() -> None:
    x, y = PLAIN[:200].astype(np.float32), LABELS[:200]
    with pytest.raises(DataError, match="too large to be fitted unscaled: column .*deviation 1.*e\\+30"):
        elastic_net.fit(x * np.float32(1e30), y, lam=0.1, standardize=False)
    with pytest.raises(DataError, match="column 1 has deviation .*e-38.*cannot be held in float32.*give float64"):
        elastic_net.fit(x * np.array([1, 1e-38, 1], np.float32), y, lam=0.1)
    head = elastic_net.fit(x * np.float32(1e4), y, lam=100.0, standardize=False)
    assert np.isfinite(head.objective) and head.certified
