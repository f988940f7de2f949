"""Scores of forgetting against other libraries, by hand, and row by row under the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import accuracy_score, roc_auc_score

from isthmus import metrics
from isthmus.errors import DataError
from isthmus.metrics import METRICS, resamples


@given(seed=st.integers(0, 1000), members=st.integers(1, 40), others=st.integers(1, 40), shift=st.floats(-2, 2))
@settings(max_examples=30)
def test_membership_is_the_area_under_the_curve_of_minus_the_loss(seed: int, members: int, others: int, shift: float) -> None:
    draw = np.random.default_rng(seed)
    a, b = (np.round(draw.exponential(size=n), 1) for n in (members, others))  # rounded: ties count half
    a = a + round(shift, 1)
    want = roc_auc_score(np.r_[np.ones(members), np.zeros(others)], -np.r_[a, b])
    assert METRICS["membership"](a, b) == pytest.approx(want)
    assert METRICS["membership"](b, a) == pytest.approx(1 - want)


def test_rows_that_were_trained_on_have_the_lower_loss() -> None:
    assert METRICS["membership"](np.array([0.1, 0.2]), np.array([1.0, 2.0])) == 1.0
    assert METRICS["membership"](np.array([1.0, 2.0]), np.array([0.1, 0.2])) == 0.0
    assert METRICS["membership"](np.ones(3), np.ones(5)) == 0.5


def test_agreement_and_divergence_are_those_of_other_libraries() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.integers(0, 4, 80), draw.integers(0, 4, 80)
    assert METRICS["agreement"](a, b) == pytest.approx(accuracy_score(a, b))
    hot = np.eye(4)
    assert METRICS["agreement"](hot[a], hot[b]) == pytest.approx(accuracy_score(a, b)), "labels: all of a row's"
    p, q = draw.dirichlet(np.ones(4), 80), draw.dirichlet(np.ones(4), 80)
    assert METRICS["divergence"](p, q) == pytest.approx(entropy(p, q, axis=1).mean())
    assert METRICS["divergence"](p, q) != pytest.approx(METRICS["divergence"](q, p), rel=0.01), "it has a direction"
    assert METRICS["divergence"](p, p) == pytest.approx(0, abs=1e-12)
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert METRICS["divergence"](sure, np.array([[0.5, 0.5], [0.25, 0.75]])) == pytest.approx((np.log(2) - np.log(0.75)) / 2)
    assert np.isfinite(METRICS["divergence"](sure, sure[::-1])), "a probability of 0 is a large number of nats, not infinite"


def test_resampled_scores_are_those_of_the_resampled_rows() -> None:
    draw = np.random.default_rng(2)
    member, other = draw.exponential(size=30), draw.exponential(size=20) + 0.3
    weights = resamples(50, 8)
    drawn = METRICS["membership"].weighted(member, other).under(weights)
    p, q = draw.dirichlet(np.ones(3), 50), draw.dirichlet(np.ones(3), 50)
    nats = METRICS["divergence"].weighted(p, q).under(weights)
    for r in range(8):
        rows = np.repeat(np.arange(50), weights[r].astype(int))
        again = METRICS["membership"](member[rows[rows < 30]], other[rows[rows >= 30] - 30])
        assert drawn[r] == pytest.approx(again, abs=1e-6)
        assert nats[r] == pytest.approx(METRICS["divergence"](p[rows], q[rows]), abs=1e-6)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="one row or more"):
        METRICS["membership"](np.ones(0), np.ones(3))
    with pytest.raises(DataError, match="divergence: expected p and q of one shape"):
        METRICS["divergence"](np.ones((3, 2)), np.ones((3, 4)))
    assert {"membership", "agreement", "divergence"} <= set(metrics.METRICS)
