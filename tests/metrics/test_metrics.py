"""Metrics against scikit-learn and closed forms; the bootstrap form against literal resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from isthmus import metrics
from isthmus.metrics.concept import Kinds, baseline
from isthmus.metrics.core import Sums, interval, resamples


def world(seed: int, n: int = 120, classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    raw = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[y]
    p = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    return y, p.argmax(1), p


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_task_scores_agree_with_scikit_learn(seed: int) -> None:
    y, answer, p = world(seed)
    assert metrics.accuracy(y, answer) == pytest.approx(sk.accuracy_score(y, answer))
    assert metrics.balanced_accuracy(y, answer, 4) == pytest.approx(sk.balanced_accuracy_score(y, answer))
    present = sorted(set(y))
    assert metrics.macro_f1(y, answer, 4) == pytest.approx(sk.f1_score(y, answer, average="macro", labels=present))
    assert metrics.auroc(y, p) == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr", average="macro"))
    assert metrics.brier(y, p) == pytest.approx(((np.eye(4)[y] - p) ** 2).sum(1).mean())


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_numbers_agree_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(40, 9, 60)
    answer = y + rng.normal(0, 4, 60)
    assert metrics.mae(y, answer) == pytest.approx(sk.mean_absolute_error(y, answer))
    assert metrics.rmse(y, answer) == pytest.approx(np.sqrt(sk.mean_squared_error(y, answer)))
    assert metrics.r2(y, answer) == pytest.approx(sk.r2_score(y, answer))


def test_labels_skip_unknown_cells() -> None:
    y = np.array([[1, 0], [np.nan, 1], [0, np.nan]])
    answer = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    assert metrics.accuracy(y, answer) == pytest.approx(3 / 4)
    assert metrics.macro_f1(y, answer, 2) == pytest.approx((1 + 2 / 3) / 2)


@given(seed=st.integers(0, 10_000), ties=st.booleans())
@settings(max_examples=25)
def test_concept_scores_agree_with_scikit_learn(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    c = (rng.random((90, 5)) < 0.3).astype(float)
    c[0], c[1] = 0, 1  # both answers occur
    v = np.clip(0.3 + 0.4 * (c - 0.3) + 0.3 * rng.normal(size=c.shape), 0.001, 0.999)
    v = v.round(1) if ties else v
    hidden = rng.random(c.shape) < 0.2
    hidden[:2] = False
    c[hidden] = np.nan
    kinds = Kinds(tuple(range(5)), ())
    known = [~np.isnan(c[:, k]) for k in range(5)]
    rows = [(c[known[k], k], v[known[k], k]) for k in range(5)]
    assert metrics.concept_accuracy(c, v, kinds) == pytest.approx(np.mean([sk.accuracy_score(t, p > 0.5) for t, p in rows]))
    assert metrics.concept_macro_f1(c, v, kinds) == pytest.approx(np.mean([sk.f1_score(t, p > 0.5) for t, p in rows]))
    assert metrics.concept_auroc(c, v, kinds) == pytest.approx(np.mean([sk.roc_auc_score(t, p) for t, p in rows]))
    right = [all((v[i, k] > 0.5) == c[i, k] for k in range(5) if not hidden[i, k]) for i in range(90) if not hidden[i].all()]
    assert metrics.concept_all_right(c, v, kinds) == pytest.approx(np.mean(right))
    absent = np.mean([(t == 0).mean() for t, _ in rows])
    assert baseline(c, kinds) == pytest.approx(absent)


def test_categorical_concepts_are_decided_by_their_likeliest_state() -> None:
    c = np.array([[1, 0, 0], [0, 1, 0], [np.nan] * 3, [0, 0, 1.0]])
    v = np.array([[0.4, 0.3, 0.3], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8], [0.0, 0.1, 0.9]])
    kinds = Kinds((), ((0, 1, 2),))
    assert metrics.concept_accuracy(c, v, kinds) == pytest.approx(2 / 3)
    assert metrics.concept_all_right(c, v, kinds) == pytest.approx(2 / 3)


def test_concept_error_is_in_training_deviations() -> None:
    c, v = np.array([[10.0], [20.0], [np.nan]]), np.array([[12.0], [26.0], [0.0]])
    assert metrics.concept_error(c, v, Kinds((), (), ((0, 4.0),))) == pytest.approx((0.5 + 1.5) / 2)


def test_calibration_falls_as_one_over_root_n() -> None:
    errors = []
    for n in (2_000, 32_000):
        rng = np.random.default_rng(n)
        p = rng.random(n)
        y = (rng.random(n) < p).astype(int)
        errors.append(metrics.ece(y, np.c_[1 - p, p]))
    assert errors[1] < errors[0] / 2.5
    assert metrics.ece(np.zeros(50, int), np.tile([0.3, 0.7], (50, 1))) == pytest.approx(0.7)


def test_five_weights_a_class_are_nec_five() -> None:
    weights = np.zeros((7, 30))
    weights[:, :5] = 0.2
    weights[:, 5:] = 1e-7
    assert metrics.nec(weights) == 5


def test_area_and_smallest_share() -> None:
    share = np.array([0, 0.5, 1])
    assert metrics.area(share, np.array([0.0, 1.0, 1.0])) == pytest.approx(0.75)
    assert metrics.smallest(share, np.array([0.0, 0.95, 1.0])) == 0.5
    assert np.isnan(metrics.smallest(share, np.array([0.9, 0.8, 0.7])))


def test_resamples_are_literal_resampling() -> None:
    """Row weights give the very score of the resampled rows."""
    y, answer, p = world(3)
    weights = resamples(len(y), 20, seed=4)
    assert (weights.sum(1) == len(y)).all()
    for name, arrays in {
        "macro_f1": (y, answer, 4),
        "auroc": (y, p),
        "ece": (y, p),
        "balanced_accuracy": (y, answer, 4),
    }.items():
        metric = metrics.METRICS[name]
        fast = metric.weighted(*arrays).under(weights)
        for r in range(20):
            rows = np.repeat(np.arange(len(y)), weights[r].astype(int))
            again = metric(*(a[rows] if isinstance(a, np.ndarray) else a for a in arrays))
            assert fast[r] == pytest.approx(again, abs=1e-6)


def test_groups_are_drawn_whole() -> None:
    groups = ["a", "b", "a", "c", "b", "a"]
    weights = resamples(6, 50, groups=groups)
    for row in weights:
        assert row[0] == row[2] == row[5]
        assert row[1] == row[4]


def test_the_interval_covers() -> None:
    """95 % intervals of a mean cover the truth about 95 % of the time."""
    covered = 0
    for seed in range(200):
        hits = (np.random.default_rng(seed).random(150) < 0.7).astype(float)
        form = Sums(np.c_[hits, np.ones(150)], lambda s: s[:, 0] / s[:, 1])
        low, high = interval(form.under(resamples(150, 400, seed=seed)))
        covered += low <= 0.7 <= high
    assert 180 <= covered <= 199


def test_the_interval_of_ece_holds_its_value() -> None:
    """Resampled rows look less calibrated than they are, so the plain percentile interval lies above the value."""
    rng = np.random.default_rng(0)
    p = rng.random(300)
    y = (rng.random(300) < p).astype(int)
    form = metrics.ece.weighted(y, np.c_[1 - p, p])
    value = float(form.under(np.ones((1, 300)))[0])
    drawn = form.under(resamples(300, 400))
    assert metrics.ece.centred and drawn.mean() > value + 0.01
    low, high = interval(drawn, around=value)
    assert low < value < high
    assert high - low == pytest.approx(np.diff(interval(drawn))[0])


@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_metrics_do_not_depend_on_the_order_of_concepts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    c, v = (rng.random((60, 6)) < 0.4).astype(float), rng.random((60, 6))
    order = rng.permutation(6)
    kinds = Kinds(tuple(range(6)), ())
    for metric in (
        metrics.concept_accuracy,
        metrics.concept_macro_f1,
        metrics.concept_all_right,
        metrics.concept_auroc,
    ):
        assert metric(c, v, kinds) == pytest.approx(metric(c[:, order], v[:, order], kinds))


def test_every_metric_says_how_to_read_it() -> None:
    for metric in metrics.METRICS.values():
        assert metric.unit
        assert metric.low < metric.high
        assert metric.better in ("up", "down")
        assert len(metric.text) > 20
