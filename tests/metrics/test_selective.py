"""Selective answering and subgroups, against listing and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus import metrics
from isthmus.errors import DataError
from isthmus.metrics.selective import asked, risk_coverage, threshold
from isthmus.metrics.subgroups import by_group, dealt, gap

SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_threshold_answers_as_many_as_the_target_allows(seed: int, ties: bool) -> None:
    draw = np.random.default_rng(seed)
    confidence = draw.random(80).round(1) if ties else draw.random(80)
    right = draw.random(80) < confidence
    at = threshold(confidence, right, 0.8)
    good = [t for t in np.unique(confidence) if right[confidence >= t].mean() >= 0.8]
    assert at == (min(good) if good else np.inf)
    if good:
        assert metrics.selective_accuracy(confidence, right, at) >= 0.8
        assert metrics.coverage(confidence, at) == (confidence >= at).mean()


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_the_area_is_the_mean_error_over_coverages(seed: int) -> None:
    draw = np.random.default_rng(seed)
    confidence, right = draw.random(60), draw.random(60) < 0.7
    order = np.argsort(-confidence)
    want = np.mean([(~right[order][: i + 1]).mean() for i in range(60)])
    assert metrics.aurc(confidence, right) == pytest.approx(want) == pytest.approx(risk_coverage(confidence, right)[1].mean())
    same = metrics.aurc(np.ones(60), right)
    assert same == pytest.approx((~right).mean()), "confidence that says nothing: the error itself"


def test_work_automated() -> None:
    confidence = np.array([[0.9, 0.2, 0.1], [0.9, 0.95, 0.2], [0.9, 0.9, 0.3]])
    first, sure = asked(confidence, 0.8)
    assert first.tolist() == [0, 1, 3] and sure.tolist() == [True, True, False]
    assert metrics.automated(np.array([0.0, 1 / 4, 2 / 4]), sure) == pytest.approx(2 / 3 - 0.25)
    with pytest.raises(DataError, match="0..1"):
        threshold(np.ones(3), np.ones(3), 2)


def test_gaps_between_groups_and_by_chance() -> None:
    draw = np.random.default_rng(0)
    group = ["a"] * 200 + ["b"] * 200 + ["c"] * 5
    right = np.r_[draw.random(200) < 0.9, draw.random(200) < 0.6, np.zeros(5)]
    form = metrics.accuracy.weighted(np.ones(405, int), right.astype(int))
    found = by_group(form, group)
    assert set(found) == {"a", "b"} and found["a"] == (200, pytest.approx(right[:200].mean()))
    assert gap(found) == pytest.approx(right[:200].mean() - right[200:400].mean())
    assert gap(found) > np.quantile(dealt(form, group, times=100), 0.95)
    assert np.isnan(gap({"a": (30, 0.5)}))


def test_the_areas_interval_is_that_of_resampled_rows_and_a_threshold_needs_rows() -> None:
    draw = np.random.default_rng(0)
    confidence, right = draw.random(80).round(1), draw.random(80) < 0.4
    form = metrics.aurc.weighted(confidence, right)
    rows = draw.integers(0, 80, (5, 80))
    weights = np.stack([np.bincount(each, minlength=80) for each in rows])
    exact = [metrics.aurc(confidence[each], right[each]) for each in rows]
    got = form.under(weights)
    assert np.abs(got - exact).max() < 0.02  # equals of a resample stand together in it
    assert metrics.aurc.weighted(confidence, np.zeros(80)).under(weights).tolist() == pytest.approx([1.0] * 5)
    assert threshold(np.r_[0.99, np.full(50, 0.5)], np.r_[1, np.zeros(50)], 0.9) == 0.99
    assert threshold(np.r_[0.99, np.full(50, 0.5)], np.r_[1, np.zeros(50)], 0.9, least=20) == np.inf
