"""CTL and ICL on the toy whose numbers are known, their control, and what must not change them."""

from __future__ import annotations

from math import asin, log, pi

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus import metrics
from isthmus.audit.section import Measure
from isthmus.errors import DataError
from isthmus.metrics.concept import Kinds, hard
from isthmus.metrics.leakage import task_leakage, unleaked

KINDS = Kinds((0, 1, 2), ())


def toy(seed: int, n: int = 10_000, rho: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """TabularToy: three correlated normals, a concept says whether each is positive, the label whether two are."""
    z = np.random.default_rng(seed).multivariate_normal(np.zeros(3), np.full((3, 3), rho) + (1 - rho) * np.eye(3), n)
    c = (z > 0).astype(float)
    return c, (c.sum(1) >= 2).astype(int)


def share(rho: float) -> float:
    """I(c; y) / H(y), from orthant probabilities: P(c = y) is 3/4 + P(all agree beyond a pair) by symmetry."""
    pair, three = 0.25 + asin(rho) / (2 * pi), 0.125 + 3 * asin(rho) / (4 * pi)
    agree = 2 * (2 * (pair - three) + three)  # c = y = 1: both others, or one of them
    return 1 - -(agree * log(agree) + (1 - agree) * log(1 - agree)) / log(2)


@given(st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_true_concepts_leak_nothing_and_a_copied_label_all_that_its_concept_does_not_say(seed: int) -> None:
    c, y = toy(seed, 100_000)  # ten times the rows of the dossier, so that chance stays within its .01
    assert metrics.ctl(y, c, c, KINDS) == 0 and metrics.icl(c, c, KINDS) == 0
    copied = np.repeat(y[:, None], 3, 1).astype(float)
    assert share(0.25) == pytest.approx(0.25893, abs=1e-5)
    assert metrics.ctl(y, c, copied, KINDS) == pytest.approx(1 - share(0.25), abs=0.01)
    assert metrics.icl(c, copied, KINDS, most=100_000) == pytest.approx(1 - 0.01875, abs=0.01)


def test_soft_copies_are_found_and_soft_truth_is_not_accused() -> None:
    c, y = toy(1, 4000)
    noise = np.random.default_rng(2).normal(size=c.shape) * 0.1
    copied, honest = 0.5 * y[:, None] + 0.25 + noise, 0.5 * c + 0.25 + noise
    assert metrics.ctl(y, c, copied, KINDS) == pytest.approx(1 - share(0.25), abs=0.05)
    assert metrics.ctl(y, c, honest, KINDS) < 0.02 and metrics.icl(c, honest, KINDS) < 0.02
    assert metrics.icl(c, copied, KINDS) > 0.05


def test_what_is_dealt_anew_leaks_nothing_and_still_tells_its_concept() -> None:
    c, y = toy(3, 4000)
    soft = 0.3 * y[:, None] + 0.4 * c + np.random.default_rng(4).normal(size=c.shape) * 0.1
    dealt = unleaked(c, soft, KINDS)
    assert metrics.ctl(y, c, soft, KINDS) > 0.3
    assert metrics.ctl(y, c, dealt, KINDS) < 0.01 and metrics.icl(c, dealt, KINDS) < 0.01
    for k in range(3):
        assert sorted(dealt[c[:, k] == 1, k]) == sorted(soft[c[:, k] == 1, k])


@given(st.integers(0, 1000), st.permutations([0, 1, 2, 3]))
@settings(max_examples=10, deadline=None)
def test_the_order_of_concepts_does_not_matter(seed: int, order: list[int]) -> None:
    draw = np.random.default_rng(seed)
    c = (draw.random((400, 4)) < 0.4).astype(float)
    c[draw.random(c.shape) < 0.1] = np.nan
    y, v = draw.integers(0, 3, 400), draw.random((400, 4))
    kinds = Kinds((0, 1, 2, 3), ())
    assert metrics.ctl(y, c, v, kinds) == pytest.approx(metrics.ctl(y, c[:, order], v[:, order], kinds), abs=1e-12)
    assert metrics.icl(c, v, kinds) == pytest.approx(metrics.icl(c[:, order], v[:, order], kinds), abs=1e-6)
    dealt = unleaked(c, v, kinds)[:, order]
    np.testing.assert_array_equal(dealt, unleaked(c[:, order], v[:, order], kinds))


def test_categorical_and_continuous_concepts_are_measured_as_one() -> None:
    draw = np.random.default_rng(5)
    state, y = draw.integers(0, 3, 1500), draw.integers(0, 2, 1500)
    age = draw.normal(60, 9, 1500)
    c = np.c_[np.eye(3)[state], age]
    kinds = Kinds((), ((0, 1, 2),), ((3, 9.0),))
    honest = np.c_[0.8 * np.eye(3)[state] + 0.2 / 3 + draw.normal(size=(1500, 3)) * 0.02, age + draw.normal(size=1500)]
    leaking = honest + 0.5 * np.outer(y, [1, -1, 0, 100])
    assert metrics.ctl(y, c, honest, kinds) < 0.02
    form = metrics.ctl.weighted(y, c, leaking, kinds)
    each = task_leakage(form)
    assert each.shape == (2,) and each.min() > 0.5 and each.mean() == pytest.approx(metrics.ctl(y, c, leaking, kinds))
    drawn = task_leakage(form, metrics.resamples(1500, 50))
    np.testing.assert_allclose(drawn.mean(1), form.under(metrics.resamples(1500, 50)))
    assert drawn.shape == (50, 2) and np.abs(drawn.mean(0) - each).max() < 0.05
    assert metrics.ctl(y, c, unleaked(c, leaking, kinds), kinds) < 0.05


def test_labels_are_averaged_and_unknown_rows_left_out() -> None:
    c, y = toy(6, 2000)
    both = np.c_[y, 1 - y].astype(float)
    both[::7, 1] = np.nan
    copied = np.repeat(y[:, None], 3, 1).astype(float)
    assert metrics.ctl(both, c, copied, KINDS) == pytest.approx(metrics.ctl(y, c, copied, KINDS), abs=0.02)
    constant = np.c_[y, np.zeros(len(y))].astype(float)
    assert task_leakage(metrics.ctl.weighted(constant, c, copied, KINDS)).mean() == pytest.approx(
        metrics.ctl(constant, c, copied, KINDS)
    )
    assert metrics.ctl(constant, c, copied, KINDS) == pytest.approx(metrics.ctl(y, c, copied, KINDS))
    c[::3, 0] = np.nan
    assert metrics.ctl(y, c, np.nan_to_num(c), KINDS) == 0


@pytest.mark.parametrize(("n", "k", "rate"), [(40, 10, 0.2), (60, 10, 0.1), (200, 20, 0.06), (200, 10, 0.5)])
def test_intervals_hold_their_value_and_accuse_no_honest_decision(n: int, k: int, rate: float) -> None:
    accused = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        c, kinds = (draw.random((n, k)) < rate).astype(float), Kinds(tuple(range(k)), ())
        values = 1 / (1 + np.exp(-(3 * (c - 0.5) + draw.normal(size=c.shape))))
        for said in (hard(values, kinds), np.zeros_like(c), values):
            line = Measure(n).line("icl", metrics.icl, metrics.icl.weighted(c, said, kinds))
            assert line.low is not None and line.value is not None and line.high is not None
            assert line.low <= line.value <= line.high
            accused += line.low > metrics.icl(c, hard(unleaked(c, said, kinds), kinds), kinds) + 0.005
    assert accused <= 2


def test_numbers_are_refused() -> None:
    with pytest.raises(DataError, match=r"divides by H\(y\)"):
        metrics.ctl(np.random.default_rng(0).normal(size=50), np.zeros((50, 1)), np.zeros((50, 1)), Kinds((0,), ()))
    with pytest.raises(DataError, match="one shape"):
        metrics.ctl(np.zeros(5, int), np.zeros((5, 1)), np.zeros((5, 2)), Kinds((0,), ()))
