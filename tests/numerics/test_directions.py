"""Directions against scikit-learn, closed forms and a grid for the bias; with and without numba, the same."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import SVC

from isthmus.errors import DataError, OptionError
from isthmus.numerics import _exact, _faces, _gram, _smo, directions


def rows(seed: int, n: int, d: int, dtype: str = "float32", offset: float = 0.5) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, d)) + offset).astype(dtype)


def hinge(x: np.ndarray, y: np.ndarray, w: Any, b: Any, c: float) -> float:
    w, x = np.asarray(w, float), x.astype(float)
    return 0.5 * w @ w + c * np.maximum(0, 1 - y * (x @ w + float(b))).sum()


def logloss(x: np.ndarray, t: np.ndarray, w: Any, b: Any, c: float) -> float:
    w, z = np.asarray(w, float), x.astype(float) @ np.asarray(w, float) + float(b)
    return 0.5 * w @ w + c * (np.logaddexp(0, z) - t * z).sum()


@given(
    seed=st.integers(0, 999),
    p=st.integers(1, 25),
    q=st.integers(1, 25),
    d=st.integers(1, 30),
    c=st.sampled_from([1e-3, 0.1, 5.0]),
)
@settings(max_examples=25)
def test_an_svm_reaches_the_objective_of_scikit_learn(seed: int, p: int, q: int, d: int, c: float) -> None:
    positive, negative = (
        rows(seed, 3 * p, d, "float64").reshape(3, p, d),
        rows(seed + 1, 3 * q, d, "float64", 0).reshape(3, q, d),
    )
    found = directions.svm(directions.sets(positive, negative), c=c)
    y = np.r_[np.ones(p), -np.ones(q)]
    assert bool(found.converged.all())
    for k in range(3):
        x = np.concatenate([positive[k], negative[k]])
        ours = hinge(x, y, found.weight[k], found.bias[k], c)
        other = SVC(C=c, kernel="linear", tol=1e-7).fit(x, y)
        assert ours == pytest.approx(float(found.objective[k]), rel=1e-9)
        assert ours <= hinge(x, y, other.coef_[0], other.intercept_[0], c) * (1 + 1e-5)
        assert float(found.gap[k]) + 1e-12 >= 0 and float(found.gap[k]) <= 1e-5 * ours


def test_an_svm_of_float32_agrees_to_a_ten_thousandth() -> None:
    positive, negative = rows(0, 40 * 30, 64).reshape(30, 40, 64), rows(1, 40 * 30, 64, offset=0.2).reshape(30, 40, 64)
    found = directions.svm(directions.sets(positive, negative), c=0.1)
    y = np.r_[np.ones(40), -np.ones(40)]
    for k in range(30):
        x = np.concatenate([positive[k], negative[k]])
        other = SVC(C=0.1, kernel="linear", tol=1e-7).fit(x, y)
        assert hinge(x, y, found.weight[k], found.bias[k], 0.1) == pytest.approx(
            hinge(x, y, other.coef_[0], other.intercept_[0], 0.1), rel=1e-4
        )


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_smo, _faces, _gram, _exact):
        monkeypatch.setattr(module, "jitted", lambda *_, **__: None)


def ragged(dtype: str, d: int = 12) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [rows(k, 3 + k, d, dtype) for k in range(9)], [rows(50 + k, 14 - k, d, dtype, 0.0) for k in range(9)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_numba_the_same_steps(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    for module in (_faces, _gram):  # the pairs alone, compiled, then in lockstep
        monkeypatch.setattr(module, "jitted", lambda *_, **__: None)
    compiled = directions.svm(directions.sets(*ragged(dtype)), c=0.5)
    monkeypatch.setattr(_smo, "jitted", lambda function: None)
    plain = directions.svm(directions.sets(*ragged(dtype)), c=0.5)
    for name in ("weight", "bias", "objective", "gap"):
        assert torch.equal(getattr(compiled, name), getattr(plain, name)), name


@pytest.mark.parametrize("c", [1e-3, 0.05, 2.0])
@pytest.mark.parametrize("tol", [1e-3, 1e-5, 1e-9])
def test_without_numba_the_same_to_the_tolerance(c: float, tol: float, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("numba")
    examples = directions.sets(*ragged("float64", 70))
    compiled = directions.svm(examples, c=c, tol=tol)
    request.getfixturevalue("plain")
    plain = directions.svm(examples, c=c, tol=tol)
    assert bool(compiled.converged.all()) and bool(plain.converged.all())
    assert torch.allclose(compiled.objective, plain.objective, rtol=tol, atol=0)
    far = (compiled.weight - plain.weight).square().sum(1)  # w is strongly convex: |w - w*|^2 / 2 <= gap
    assert bool((far <= 8 * tol * plain.objective).all())


@pytest.mark.parametrize("budget", [0, 1, 2, 3, 5, 8, 13, 300])
@pytest.mark.parametrize("d", [14, 40, 90])
def test_steps_on_faces_stay_feasible_and_never_climb(budget: int, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(_faces, "BUDGET", budget)
    x = rows(d, 6 * 40, d, "float64").reshape(6, 40, d)
    y = np.where(np.random.default_rng(d).random((6, 40)) < 0.4, 1.0, -1.0)
    gram, cap = x @ x.swapaxes(1, 2), np.full_like(y, 0.03)
    beta, slope, last = np.zeros_like(y), -y, np.zeros(6)
    for _ in range(3):
        assert _faces.advance(gram, y, cap, 1e-9, 10**6, beta, slope) is not None
        assert np.allclose(slope, np.einsum("kij,kj->ki", gram, beta) - y, atol=1e-9)
        assert (beta * y >= 0).all() and (beta * y <= cap).all() and np.allclose(beta.sum(1), 0, atol=1e-12)
        value = ((slope - y) * beta).sum(1) / 2
        assert (value <= last + 1e-12).all()
        last = value


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiled_products_are_products(dtype: str) -> None:
    for m, d in ((1, 64), (2, 65), (5, 64), (13, 100), (100, 70)):
        x = rows(m, 3 * m, d, dtype).reshape(3, m, d)
        found, exact = _gram.grams(x), np.einsum("kid,kjd->kij", x.astype(float), x.astype(float))
        assert found.dtype == x.dtype and np.array_equal(found, found.swapaxes(1, 2))
        assert np.allclose(found, exact, rtol=0, atol=(1e-5 if dtype == "float32" else 1e-13) * d)


@pytest.mark.parametrize("numba", [True, False])
def test_features_of_any_scale_end_within_the_tolerance(numba: bool, request: pytest.FixtureRequest) -> None:
    if not numba:
        request.getfixturevalue("plain")
    positive, negative = rows(0, 5 * 20, 70, "float64").reshape(5, 20, 70), rows(1, 5 * 20, 70, "float64", 0).reshape(5, 20, 70)
    y = np.r_[np.ones(20), -np.ones(20)]
    for scale in (0.1, 10.0, 100.0):
        found = directions.svm(directions.sets(scale * positive, scale * negative), c=0.1)
        assert bool(found.converged.all())
        for k in range(5):
            x = scale * np.concatenate([positive[k], negative[k]])
            assert hinge(x, y, found.weight[k], found.bias[k], 0.1) == pytest.approx(float(found.objective[k]), rel=1e-7)


@pytest.mark.parametrize("numba", [True, False])
@pytest.mark.parametrize("spread", [0.0, 1e-30, 1e-6])
def test_rows_that_are_all_alike_leave_the_rarer_kind_wrong(spread: float, numba: bool, request: pytest.FixtureRequest) -> None:
    if not numba:
        request.getfixturevalue("plain")
    x = 3 + spread * rows(0, 2 * 12, 64, "float64").reshape(2, 12, 64)
    found = directions.svm(directions.sets(x[:, :4], x[:, 4:]), c=0.1)
    assert found.objective.numpy() == pytest.approx([0.1 * 2 * 4] * 2, rel=1e-4)
    assert found.gap.numpy() == pytest.approx([0, 0], abs=1e-5 * 0.8) and float(found.gap.min()) > -1e-12
    assert found.bias.numpy() == pytest.approx([-1, -1], abs=1e-3) and float(found.weight.abs().max()) < 1e-4


def test_rows_far_from_zero_lose_nothing() -> None:
    positive, negative = rows(0, 4 * 15, 80).reshape(4, 15, 80), rows(1, 4 * 15, 80, offset=0).reshape(4, 15, 80)
    near, far = (directions.svm(directions.sets(positive + by, negative + by), c=0.1) for by in (0, 256))
    assert torch.allclose(near.objective, far.objective, rtol=2e-4)
    assert bool(near.converged.all()) and bool((far.gap <= 1e-3 * far.objective).all())  # b of some hundreds is rounded


def test_sets_of_any_length_and_any_memory_are_each_set_alone() -> None:
    positive, negative = [rows(k, 2 + k, 7) for k in range(5)], [rows(9 + k, 8 - k, 7, offset=0) for k in range(5)]
    for fit in (directions.svm, directions.logistic, directions.ridge):
        together = fit(directions.sets(positive, negative))
        for k in range(5):
            alone = fit(directions.sets([positive[k]], [negative[k]]))
            assert torch.allclose(together.weight[k], alone.weight[0], atol=1e-5)
            assert torch.allclose(together.bias[k], alone.bias[0], atol=1e-5)
    few = directions.svm(directions.sets(positive, negative), memory=1)
    assert torch.allclose(few.weight, directions.svm(directions.sets(positive, negative)).weight, atol=1e-5)


def test_a_table_with_unknown_labels_is_its_known_rows() -> None:
    x, draw = rows(3, 90, 8, "float64"), np.random.default_rng(5)
    labels = (x[:, :4] + draw.normal(size=(90, 4)) > 0.5).astype(float)
    labels[draw.random(labels.shape) < 0.4] = np.nan
    table = directions.shared(x, labels)
    svm, logistic, ridge = (
        directions.svm(table, c=0.2),
        directions.logistic(table, tol=1e-12),
        directions.ridge(table, tol=1e-14),
    )
    for k in range(4):
        at = ~np.isnan(labels[:, k])
        t = labels[at, k]
        other = SVC(C=0.2, kernel="linear", tol=1e-7).fit(x[at], t)
        assert float(svm.objective[k]) == pytest.approx(
            hinge(x[at], 2 * t - 1, other.coef_[0], other.intercept_[0], 0.2), rel=1e-5
        )
        found = LogisticRegression(tol=1e-10, max_iter=5000).fit(x[at], t)
        assert torch.allclose(logistic.weight[k], torch.from_numpy(found.coef_[0]), atol=1e-4)
        assert float(logistic.objective[k]) == pytest.approx(
            logloss(x[at], t, found.coef_[0], found.intercept_[0], 1), rel=1e-8
        )
        least = Ridge(alpha=1.0).fit(x[at], 2 * t - 1)
        assert torch.allclose(ridge.weight[k], torch.from_numpy(least.coef_), atol=1e-6)
        assert float(ridge.bias[k]) == pytest.approx(float(least.intercept_), abs=1e-6)


@given(
    seed=st.integers(0, 999),
    n=st.integers(4, 60),
    d=st.integers(1, 20),
    k=st.integers(1, 6),
    c=st.sampled_from([0.01, 1.0, 100.0]),
)
@settings(max_examples=25)
def test_logistic_is_no_worse_than_scikit_learn(seed: int, n: int, d: int, k: int, c: float) -> None:
    x, draw = rows(seed, n, d), np.random.default_rng(seed)
    labels = (draw.random((n, k)) < 0.4).astype(float)
    labels[0], labels[1] = 0, 1
    found = directions.logistic(directions.shared(x, labels), c=c)
    assert bool(found.converged.all())
    for j in range(k):
        other = LogisticRegression(C=c, max_iter=1000).fit(x, labels[:, j])
        ours = logloss(x, labels[:, j], found.weight[j], found.bias[j], c)
        assert ours == pytest.approx(float(found.objective[j]), rel=1e-4)
        assert ours <= logloss(x, labels[:, j], other.coef_[0], other.intercept_[0], c) * (1 + 2e-4)


def test_logistic_on_sets_reads_fewer_rows_than_columns() -> None:
    positive, negative = rows(0, 3 * 9, 40, "float64").reshape(3, 9, 40), rows(1, 3 * 7, 40, "float64", 0).reshape(3, 7, 40)
    found = directions.logistic(directions.sets(positive, negative), tol=1e-13)
    for k in range(3):
        x, t = np.concatenate([positive[k], negative[k]]), np.r_[np.ones(9), np.zeros(7)]
        other = LogisticRegression(tol=1e-10, max_iter=5000).fit(x, t)
        assert torch.allclose(found.weight[k], torch.from_numpy(other.coef_[0]), atol=1e-4)


@given(seed=st.integers(0, 9999), m=st.integers(1, 12))
@settings(max_examples=60)
def test_the_bias_beats_every_kink_and_every_middle(seed: int, m: int) -> None:
    draw = np.random.default_rng(seed)
    score, y = draw.normal(size=m).round(1), draw.choice([-1.0, 1.0], m)
    weight = draw.integers(0, 3, m) / 2.0
    weight[draw.integers(m)] = 1.0

    def loss(b: float) -> float:
        return float((weight * np.maximum(0, 1 - y * (score + b))).sum())

    b = directions.exact_bias(*(torch.from_numpy(a)[None] for a in (score, y, weight))).item()
    kinks = np.r_[y - score, b]
    assert np.isfinite(b)
    assert loss(b) <= min(loss(v) for v in np.r_[kinks, kinks - 1, kinks + 1, (kinks[:, None] + kinks).ravel() / 2]) + 1e-9


def test_threads_change_nothing_that_matters() -> None:
    x = rows(1, 300, 40)
    labels = (x[:, :20] > 0.5).astype(float)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append((directions.logistic(directions.shared(x, labels)), directions.svm(directions.shared(x, labels))))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        assert torch.allclose(one.weight, two.weight, atol=1e-6)
        assert torch.allclose(one.bias, two.bias, atol=1e-6)


def test_steps_that_run_out_are_told() -> None:
    x = rows(1, 60, 10)
    labels = (x[:, :3] > 0.5).astype(float)
    assert not bool(directions.logistic(directions.shared(x, labels), c=100, tol=1e-12, limit=2).converged.any())
    assert not bool(directions.svm(directions.shared(x, labels), c=100, limit=3).converged.any())


@pytest.mark.filterwarnings("ignore:Solver terminated early")
@pytest.mark.parametrize("numba", [True, False])
@pytest.mark.parametrize("c", [0.1, 1000.0])
@pytest.mark.parametrize("d", [5, 40, 512])
def test_float32_is_judged_as_it_is_returned(d: int, c: float, numba: bool, request: pytest.FixtureRequest) -> None:
    if not numba:
        request.getfixturevalue("plain")
    positive, negative = (rows(seed, 3 * 50, d, offset=0).reshape(3, 50, d) for seed in (0, 1))
    found = directions.svm(directions.sets(positive, negative), c=c, limit=5000)
    y = np.r_[np.ones(50), -np.ones(50)]
    for k in range(3):
        x = np.concatenate([positive[k], negative[k]])
        there = hinge(x, y, found.weight[k], found.bias[k], c)
        other = SVC(C=c, kernel="linear", tol=1e-4, max_iter=100_000).fit(x.astype(float), y)
        known = hinge(x, y, other.coef_[0], other.intercept_[0], c)
        assert there == pytest.approx(float(found.objective[k]), rel=1e-12)
        assert there - float(found.gap[k]) <= known * (1 + 1e-12)  # the gap bounds
        assert bool(found.converged[k]) == (float(found.gap[k]) <= 1e-5 * there)
    assert d < 512 or bool(found.converged.all())  # no rounding of w keeps a separable set from the tolerance


def test_one_concept_that_does_not_converge_leaves_the_others() -> None:
    easy, hard = rows(0, 100, 5, "float64", 0), rows(1, 100, 5, "float64", 0)
    easy[:50, 0] += 9
    both = directions.sets([easy[:50], hard[:50]], [easy[50:], hard[50:]])
    found = directions.svm(both, c=3000, limit=2000)
    alone = directions.svm(directions.sets([easy[:50]], [easy[50:]]), c=3000)
    assert found.converged.tolist() == [True, False]
    assert torch.allclose(found.weight[0], alone.weight[0]) and bool(found.gap.isfinite().all())
    assert float(found.objective[1]) <= 3000 * 100  # no worse than w = 0
    assert float(found.gap[1]) > 1e-5 * float(found.objective[1])


@pytest.mark.parametrize("fit", [directions.svm, directions.logistic, directions.ridge])
def test_numbers_whose_squares_overflow_are_refused(fit: Any) -> None:
    x, labels = 1e25 * rows(0, 20, 6), np.arange(20)[:, None] % 2
    for examples in (directions.shared(x, labels), directions.sets(x[None, ::2], x[None, 1::2])):
        with pytest.raises(DataError, match="x: expected columns whose squares fit float32, got larger ones; scale"):
            fit(examples)


X, C = np.ones((4, 2)) * np.arange(4)[:, None], np.array([[0.0], [1.0], [0.0], [1.0]])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: directions.shared(X * np.nan, C), r"x: expected no NaN, got 8; drop"),
        (lambda: directions.shared(X + np.array([np.inf, 0]), C), r"x: expected finite numbers, got 4 infinite"),
        (lambda: directions.shared(X[0], C), r"x: expected shape \(n, d\), got \(2,\); reshape"),
        (lambda: directions.shared(X, C[:2]), r"labels: expected shape \(4, concepts\), got \(2, 1\)"),
        (lambda: directions.shared(X, C + 1), r"labels: expected 0, 1 or NaN, got 2; threshold"),
        (lambda: directions.shared(X, C * 0), r"labels: expected a 0 and a 1 for every concept, got one kind for column 0"),
        (lambda: directions.sets(X[None], X[None][:0]), r"negative: expected at least one number"),
        (lambda: directions.sets([X], [X, X]), r"negative: expected one set for each of the 1 concepts, got 2"),
        (lambda: directions.sets([X], [X[:, :1]]), r"negative\[0\]: expected shape \(rows, 2\), got \(4, 1\)"),
        (lambda: directions.sets([X], [X * np.nan]), r"negative\[0\]: expected no NaN"),
        (lambda: directions.sets(cast("Any", "abc"), [X]), r"positive\[0\]: expected an array of numbers"),
        (lambda: directions.svm(directions.shared(X, C), c=0), r"c: expected a finite number above 0, got 0; choose"),
        (lambda: directions.logistic(directions.shared(X, C), tol=-1), r"tol: expected a finite number above 0, got -1"),
        (lambda: directions.ridge(directions.shared(X, C), limit=0), r"limit: expected a whole number of at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_named(call: Any, said: str) -> None:
    with pytest.raises((DataError, OptionError), match=said):
        call()
