"""Sparse heads against scikit-learn, optimality conditions written out, and each other; the bound against the optimum."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from isthmus.errors import DataError, IsthmusError, OptionError
from isthmus.numerics import _kernels, _model, _newton, elastic_net
from isthmus.numerics._penalty import Penalty

Array = np.ndarray[Any, Any]
TIGHT = 1e-9


def world(seed: int = 0, n: int = 240, d: int = 12, classes: int = 4, noise: float = 1.0) -> tuple[Array, Array]:
    """Columns of unequal scale and place, correlated; labels that depend on a third of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) + 0.7 * rng.normal(size=(n, 1))
    truth = rng.normal(size=(d, classes)) * (rng.random((d, classes)) < 0.35)
    y = (x @ truth + noise * rng.gumbel(size=(n, classes))).argmax(1)
    y[:classes] = np.arange(classes)
    return x * rng.uniform(0.5, 3, d) + rng.normal(size=d), y


def loss_of(x: Array, y: Array, w: Array, b: Array, family: str) -> tuple[float, Array, Array]:
    """Mean loss and its gradients, by autograd in float64."""
    wt, bt = (torch.tensor(np.asarray(part, float), requires_grad=True) for part in (w, b))
    z = torch.tensor(x) @ wt.T + bt
    if family == "multinomial":
        loss = torch.nn.functional.cross_entropy(z, torch.tensor(y))
    else:
        truth = torch.tensor(y)[:, None] == torch.arange(len(w)) if family == "ovr" else torch.tensor(y)[:, None]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z, truth.double(), reduction="none").sum(1).mean()
    loss.backward()
    assert wt.grad is not None and bt.grad is not None
    return loss.item(), wt.grad.numpy(), bt.grad.numpy()


def saga(x: Array, y: Array, lam: float, l1_ratio: float) -> LogisticRegression:
    return LogisticRegression(solver="saga", l1_ratio=l1_ratio, C=1 / (lam * len(x)), tol=1e-9, max_iter=20_000).fit(x, y)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.9, 0.3])
def test_multinomial_is_scikit_learns(l1_ratio: float) -> None:
    x, y = world()
    x = (x - x.mean(0)) / x.std(0)
    theirs = saga(x, y, 0.02, l1_ratio)
    ours = elastic_net.fit(x, y, lam=0.02, l1_ratio=l1_ratio, tol=TIGHT)
    free = 0.0 if l1_ratio < 1 else 1.0  # without l2 a shift of all classes may cost nothing
    found, wanted, level = ours.weights, np.asarray(theirs.coef_), np.asarray(theirs.intercept_)
    assert found - free * found.mean(0) == pytest.approx(wanted - free * wanted.mean(0), abs=1e-4)
    assert ours.bias - ours.bias.mean() == pytest.approx(level - level.mean(), abs=1e-5)
    value, _ = elastic_net.certificate(x, y, theirs.coef_, theirs.intercept_, lam=0.02, l1_ratio=l1_ratio)
    assert ours.objective == pytest.approx(value, rel=1e-8)


def test_binary_and_ridge_are_scikit_learns() -> None:
    x, y = world(1, classes=2)
    x = x - x.mean(0)
    theirs = saga(x / x.std(0), y, 0.03, 0.8)
    ours = elastic_net.fit(x, y, lam=0.03, l1_ratio=0.8, family="binary", tol=TIGHT)
    assert ours.weights * x.std(0) == pytest.approx(theirs.coef_, abs=1e-5)
    assert ours.bias == pytest.approx(theirs.intercept_, abs=1e-5)
    ridge = LogisticRegression(C=1 / (0.03 * len(x)), tol=1e-10, max_iter=2000).fit(x, y)
    ours = elastic_net.fit(x, y, lam=0.03, l1_ratio=0, family="binary", standardize=False, tol=TIGHT)
    assert ours.weights == pytest.approx(ridge.coef_, abs=1e-4)


def test_one_vs_rest_is_a_binary_head_for_each_class() -> None:
    x, y = world(2)
    whole = elastic_net.fit(x, y, lam=0.02, family="ovr", tol=TIGHT)
    table = elastic_net.fit(x, np.eye(4, dtype=int)[y], lam=0.02, family="ovr", tol=TIGHT)
    assert np.array_equal(whole.weights, table.weights)
    for k in range(4):
        alone = elastic_net.fit(x, y == k, lam=0.02, family="binary", tol=TIGHT)
        assert whole.weights[k] == pytest.approx(alone.weights[0], abs=1e-4)
        assert whole.bias[k] == pytest.approx(alone.bias[0], abs=1e-4)


CASES = [
    (family, group, ratio)
    for family in ("multinomial", "ovr")
    for group, ratio in ((0.0, 0.99), (0.0, 1.0), (0.5, 0.9), (1.0, 1.0), (0.3, 1.0))
]


@pytest.mark.parametrize(("family", "group", "ratio"), CASES)
def test_optimality_conditions(family: elastic_net.Family, group: float, ratio: float) -> None:
    """Zero is in the subdifferential: the residual of a plain proximal step vanishes, bias gradient and all."""
    x, y = world(3, d=9)
    x = (x - x.mean(0)) / x.std(0)
    lam = 0.03
    head = elastic_net.fit(x, y, lam=lam, family=family, group_ratio=group, l1_ratio=ratio, tol=1e-10)
    _, gradient, slope = loss_of(x, y, head.weights, head.bias, family)
    assert abs(slope).max() < 1e-4
    gradient = gradient + lam * (1 - ratio) * head.weights
    l1, l2group = lam * ratio * (1 - group), lam * ratio * group * 4**0.5
    for d in range(x.shape[1]):
        w, g = head.weights[:, d], gradient[:, d]
        if (w == 0).all():
            assert np.linalg.norm(np.maximum(abs(g) - l1, 0)) <= l2group + 1e-4
            continue
        pull = l2group * w / np.linalg.norm(w)
        assert (g + pull)[w != 0] == pytest.approx(-l1 * np.sign(w[w != 0]), abs=2e-4)
        assert (abs(g[w == 0]) <= l1 + 1e-4).all()
    if group == 1:
        assert set((head.weights != 0).sum(0)) <= {0, 4}


@given(seed=st.integers(0, 10_000), n=st.integers(6, 60), d=st.integers(1, 30), classes=st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_solvers_agree_on_any_shape(seed: int, n: int, d: int, classes: int) -> None:
    x, y = world(seed, n, d, classes)
    for family in ("multinomial", "ovr"):
        one = elastic_net.fit(x, y, lam=0.03, family=family, solver="newton", tol=1e-7)
        two = elastic_net.fit(x, y, lam=0.03, family=family, solver="fista", tol=1e-7)
        assert one.certified and two.certified
        assert one.objective == pytest.approx(two.objective, rel=1e-6)
        assert np.isfinite(one.weights).all() and np.isfinite(two.bias).all()


@given(
    seed=st.integers(0, 10_000),
    size=st.floats(0, 3),
    group=st.sampled_from([0.0, 0.5, 1.0]),
    ratio=st.sampled_from([0.5, 0.99, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_the_bound_is_below_the_optimum_and_the_objective_above(seed: int, size: float, group: float, ratio: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = world(seed, 50, 6, 3)
    family: elastic_net.Family = "ovr" if seed % 2 else "multinomial"
    best = elastic_net.fit(x, y, lam=0.05, family=family, group_ratio=group, l1_ratio=ratio, tol=1e-6)
    w = best.weights + size * rng.normal(size=best.weights.shape) * rng.random()
    b = best.bias + size * rng.normal(size=3)
    value, bound = elastic_net.certificate(x, y, w, b, lam=0.05, family=family, group_ratio=group, l1_ratio=ratio)
    assert bound <= best.objective * (1 + 1e-12)
    assert value >= best.bound * (1 - 1e-12)
    loss, _, _ = loss_of(x, y, w, b, family)
    scaled = torch.tensor(w * x.std(0))
    assert value == pytest.approx(loss + Penalty.of(0.05, ratio, group, 3).value(scaled), rel=1e-9)


def test_the_objective_is_what_its_formula_says() -> None:
    x, y = world(4)
    head = elastic_net.fit(x, y, lam=0.04, group_ratio=0.25, l1_ratio=0.9)
    w = head.weights * x.std(0)
    penalty = 0.9 * (0.75 * abs(w).sum() + 0.25 * 4**0.5 * np.sqrt((w**2).sum(0)).sum()) + 0.05 * (w**2).sum()
    assert head.objective == pytest.approx(loss_of(x, y, head.weights, head.bias, "multinomial")[0] + 0.04 * penalty, rel=1e-10)


@pytest.mark.parametrize("family", ["multinomial", "ovr"])
def test_many_rows_use_samples_and_kept_blocks(family: elastic_net.Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """The solver's approximations of the curvature change no solution, and steps stay few."""
    x, y = world(5, n=9000, d=40, classes=8, noise=0.5)
    monkeypatch.setattr(_newton, "FEW_ROWS", 800)
    monkeypatch.setattr(_model, "FEW_ROWS", 800)
    kept = []
    built = _model.block
    monkeypatch.setattr(_model, "block", lambda *args: kept.append(len(args[1])) or built(*args))
    head = elastic_net.fit(x, y, lam=0.003, family=family, solver="newton", tol=1e-7)
    other = elastic_net.fit(x, y, lam=0.003, family=family, solver="fista", tol=1e-7)
    assert head.certified and head.iterations <= 15
    assert head.objective == pytest.approx(other.objective, rel=2e-7)
    assert len(kept) < 8 * head.iterations  # some blocks were kept from one step to the next
    monkeypatch.setattr(_newton, "MEMORY", 0)  # never more than a sample fits
    small = elastic_net.fit(x, y, lam=0.003, family=family, solver="newton", tol=1e-5)
    assert small.certified and max(kept[-8:]) == 800


@pytest.mark.parametrize(("d", "classes", "alone", "cheap"), [(24, 25, True, False), (300, 3, False, True)])
def test_dear_and_cheap_sweeps_change_no_solution(
    d: int, classes: int, alone: bool, cheap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many classes on few columns begin a step each by itself; few classes on many columns sweep until it pays no more."""
    x, y = world(23, n=3500, d=d, classes=classes)
    prices, kinds, swept = list[float](), list[bool](), _model.sweep
    monkeypatch.setattr(_model, "sweep", lambda *args: kinds.append(args[5]) or swept(*args))
    monkeypatch.setattr(_model, "price", lambda active: prices.append(price(active)) or prices[-1])
    price = _newton.price
    lam = 0.1 * elastic_net.strongest(x, y)
    head = elastic_net.fit(x, y, lam=lam, solver="newton", tol=1e-7)
    other = elastic_net.fit(x, y, lam=lam, solver="fista", tol=1e-7)
    assert head.certified and head.iterations <= 15
    assert head.objective == pytest.approx(other.objective, rel=2e-7)
    assert any(kinds) == alone and any(each < 0.5 for each in prices) == cheap


def head_of(n: int = 4000) -> elastic_net.Fit:
    x, y = world(6, n=n, d=30, classes=5)
    return elastic_net.fit(x, y, lam=0.01, tol=1e-8, solver="newton")


def test_numba_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    assert _kernels.kernels().descend is not _kernels.descend
    compiled = head_of()
    monkeypatch.setattr(_model, "kernels", lambda: _kernels.kernels(compiled=False))
    plain = head_of()
    assert compiled.iterations == plain.iterations
    assert compiled.weights == pytest.approx(plain.weights, abs=1e-10)


def test_weak_penalties_on_separable_rows_are_certified_in_few_steps() -> None:
    """Curvature kept from earlier probabilities once made sweeps diverge here."""
    x, y = world(3, n=400, d=40, classes=5, noise=0)
    for dtype in (np.float64, np.float32):
        head = elastic_net.fit(x.astype(dtype), y, lam=1e-5)
        assert head.certified and head.iterations < 250


def test_threads_change_no_result() -> None:
    before, heads = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with threadpool_limits(threads):
                heads.append(head_of())
    finally:
        torch.set_num_threads(before)
    assert heads[0].weights == pytest.approx(heads[1].weights, abs=1e-6)
    assert heads[0].objective == pytest.approx(heads[1].objective, rel=1e-10)


@pytest.mark.parametrize("solver", ["newton", "fista"])
def test_float32_is_as_good_as_its_tolerance(solver: elastic_net.Solver) -> None:
    x, y = world(7, n=1500)
    for family in ("multinomial", "ovr"):
        narrow = elastic_net.fit(torch.tensor(x).float(), torch.tensor(y), lam=0.01, family=family, solver=solver)
        wide = elastic_net.fit(x, y, lam=0.01, family=family, tol=1e-8)
        assert narrow.weights.dtype == torch.float32 and wide.weights.dtype == np.float64
        value, bound = elastic_net.certificate(x, y, narrow.weights, narrow.bias, lam=0.01, family=family)
        assert narrow.objective == pytest.approx(value, rel=1e-6)
        assert wide.objective * (1 - 1e-6) <= value <= wide.objective * (1 + 1e-4)
        assert bound <= wide.objective


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_weight_of_two_is_a_row_twice(seed: int) -> None:
    x, y = world(seed, 40, 5, 3)
    times = np.random.default_rng(seed).integers(0, 4, len(x))
    times[:3] = 1
    weighted = elastic_net.fit(x, y, lam=0.05, weight=times, tol=1e-9)
    repeated = elastic_net.fit(np.repeat(x, times, 0), np.repeat(y, times), lam=0.05, tol=1e-9)
    assert weighted.objective == pytest.approx(repeated.objective, rel=1e-8)
    assert weighted.weights == pytest.approx(repeated.weights, abs=1e-3)


def test_scale_and_place_of_columns_do_not_matter_when_standardised() -> None:
    x, y = world(8)
    one = elastic_net.fit(x, y, lam=0.03, tol=TIGHT)
    two = elastic_net.fit(x * 50 - 1000, y, lam=0.03, tol=TIGHT)
    assert one.weights == pytest.approx(two.weights * 50, abs=1e-5)
    assert x @ one.weights.T + one.bias == pytest.approx((x * 50 - 1000) @ two.weights.T + two.bias, abs=1e-4)


# edges


def test_from_the_strongest_on_heads_are_empty() -> None:
    x, y = world(9)
    kinds: list[dict[str, Any]] = [{}, {"group_ratio": 0.6}, {"family": "ovr"}, {"standardize": False}]
    for options in [*kinds, {"family": "ovr", "group_ratio": 1.0}]:
        top = elastic_net.strongest(x, y, **options)
        empty = elastic_net.fit(x, y, lam=top * 1.001, tol=1e-9, **options)
        assert empty.nec == 0 and empty.iterations <= 1
        assert elastic_net.fit(x, y, lam=top * 0.97, tol=1e-9, **options).nec > 0
    shares = np.bincount(y) / len(y)
    head = elastic_net.fit(x, y, lam=10)
    assert np.exp(head.bias) / np.exp(head.bias).sum() == pytest.approx(shares)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_columns_get_no_weight(dtype: type) -> None:
    x, y = world(10)
    wide = np.c_[np.full(len(x), 0.1), x, np.zeros(len(x)), np.full(len(x), 1e6 + 0.1)].astype(dtype)
    head = elastic_net.fit(wide, y, lam=0.02)
    alone = elastic_net.fit(x.astype(dtype), y, lam=0.02)
    assert (head.weights[:, [0, -2, -1]] == 0).all()
    assert head.objective == pytest.approx(alone.objective, rel=1e-5)
    empty = elastic_net.fit(np.ones((30, 2), dtype), np.arange(30) % 3, lam=0.1)
    assert empty.nec == 0 and empty.objective == pytest.approx(np.log(3), rel=1e-6)


def test_absent_classes_are_never_foretold() -> None:
    x, y = world(11, classes=3)
    gaps = np.array([0, 2, 5])[y]
    head = elastic_net.fit(x, gaps, lam=0.02, classes=7)
    near = elastic_net.fit(x, y, lam=0.02)
    absent = [1, 3, 4, 6]
    assert head.weights.shape == (7, 12) and (head.weights[absent] == 0).all()
    assert head.weights[[0, 2, 5]] == pytest.approx(near.weights)
    z = x @ head.weights.T + head.bias
    assert np.isfinite(head.bias).all() and (np.exp(z[:, absent] - z.max(1, keepdims=True)) < 1e-8).all()
    alone = elastic_net.fit(x, np.c_[y == 0, np.zeros(len(x)), np.ones(len(x))], lam=0.02, family="ovr")
    assert (alone.weights[1:] == 0).all() and alone.bias[1:].tolist() == [-20, 20]


@pytest.mark.parametrize("family", ["multinomial", "binary", "ovr"])
def test_separable_rows_have_a_finite_head(family: elastic_net.Family) -> None:
    x, _ = world(12, n=80)
    y = (x[:, 0] > np.median(x[:, 0])).astype(int)
    head = elastic_net.fit(x, y, lam=1e-4, family=family, tol=1e-5)
    assert head.certified and np.isfinite(head.weights).all()
    answer = x @ head.weights.T + head.bias
    assert ((answer[:, 0] > 0) if family == "binary" else answer.argmax(1)).astype(int).tolist() == y.tolist()


@pytest.mark.parametrize("solver", ["newton", "fista"])
def test_more_columns_than_rows_and_twins(solver: elastic_net.Solver) -> None:
    x, y = world(13, n=25, d=80, classes=3)
    head = elastic_net.fit(np.c_[x, x[:, :5]], y, lam=0.02, solver=solver, tol=1e-7)
    assert head.certified and 0 < head.nec <= 25
    assert head.objective == pytest.approx(elastic_net.fit(x, y, lam=0.02, tol=1e-7).objective, rel=1e-2)


def test_dense_heads_are_left_to_fista() -> None:
    x, y = world(14, n=60, d=200, classes=3)
    assert elastic_net.fit(x, y, lam=0.02, l1_ratio=0.0).solver == "fista"
    assert elastic_net.fit(x, y, lam=0.02).solver == "newton"
    assert elastic_net.fit(x, y, lam=0.02, group_ratio=0.5).solver == "fista"


def test_an_uncertified_end_warns_and_says_so() -> None:
    x, y = world(15)
    with pytest.warns(UserWarning, match="not to tol=1.0e-09.*raise max_iter"):
        head = elastic_net.fit(x, y, lam=1e-3, tol=1e-9, max_iter=2)
    assert not head.certified and head.gap > 1e-9 and np.isfinite(head.bound)


@given(seed=st.integers(0, 1000), power=st.integers(-4, 4), lam=st.sampled_from([1e-3, 0.1, 5.0]))
@settings(max_examples=25, deadline=None)
def test_never_nan(seed: int, power: int, lam: float) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.integers(0, 2, (12, 6)) * 10.0**power).astype(np.float32)
    y = rng.integers(0, 3, 12)
    weight = rng.random(12) * (rng.random(12) < 0.8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            head = elastic_net.fit(x, y, lam=lam, weight=weight, classes=4, standardize=bool(seed % 2), max_iter=200)
        except DataError:
            assert len(set(y[weight > 0])) < 2
            return
    parts = (head.weights, head.bias, head.scale, head.objective, head.bound)
    assert all(np.isfinite(part).all() for part in parts)


# paths and numbers of concepts


def test_a_path_is_its_points_and_sparse_first() -> None:
    x, y = world(16, n=500, d=25)
    heads = elastic_net.path(x, y, points=8, least=0.05, tol=1e-6)
    assert [head.lam for head in heads] == pytest.approx(elastic_net.strongest(x, y) * 0.05 ** (np.arange(1, 9) / 8))
    assert all(head.certified for head in heads) and heads[0].nec < heads[-1].nec
    for head in heads[::3]:
        assert head.objective == pytest.approx(elastic_net.fit(x, y, lam=head.lam, tol=1e-6).objective, rel=2e-6)
    chosen = elastic_net.path(x, y, lams=[0.01, 0.1, 0.1, 0.05])
    assert [head.lam for head in chosen] == [0.1, 0.1, 0.05, 0.01]


def test_a_start_near_the_end_is_quick() -> None:
    x, y = world(17, n=500, d=25)
    steps: list[elastic_net.Step] = []
    cold = elastic_net.fit(x, y, lam=0.01, tol=1e-6, watch=steps.append)
    warm = elastic_net.fit(x, y, lam=0.01, tol=1e-6, start=cold)
    assert warm.iterations == 0 < cold.iterations and warm.weights == pytest.approx(cold.weights)
    assert steps[-1].iterations == cold.iterations and steps[-1].objective == cold.objective
    assert [step.objective for step in steps] == sorted((step.objective for step in steps), reverse=True)


@pytest.mark.parametrize("family", ["multinomial", "ovr"])
def test_heads_with_a_wanted_number_of_concepts(family: elastic_net.Family) -> None:
    x, y = world(18, n=600, d=40, classes=6)
    wanted = (3.0, 10.0, 5.0)
    heads = elastic_net.with_nec(x, y, nec=wanted, family=family)
    for number, head in zip(wanted, heads, strict=True):
        assert number <= head.nec <= number + 0.5 and head.certified
        exact = elastic_net.truncate(head, number)
        assert (exact != 0).sum() == 6 * number
        kept = exact != 0
        size = abs(head.weights * head.scale)
        assert (exact[kept] == head.weights[kept]).all() and size[kept].min() >= size[~kept].max()
        fair = elastic_net.truncate(head, 2, each=True)
        assert set((fair != 0).sum(1)) <= {0, 1, 2}
    with pytest.warns(UserWarning, match="no head of this path has 40"):
        elastic_net.with_nec(x[:60], y[:60], nec=(40,), family=family, slack=1)


def test_tensors_stay_tensors_and_arrays_stay_as_they_were() -> None:
    x, y = world(19)
    x.setflags(write=False)
    before = x.copy()
    head = elastic_net.fit(x, y, lam=0.02)
    tensors = elastic_net.fit(torch.tensor(x), torch.tensor(y), lam=0.02)
    assert isinstance(head.weights, np.ndarray) and isinstance(tensors.weights, torch.Tensor)
    assert tensors.weights.numpy() == pytest.approx(head.weights)
    assert isinstance(elastic_net.truncate(tensors, 1), torch.Tensor) and isinstance(elastic_net.truncate(head, 1), np.ndarray)
    assert np.array_equal(x, before)


X, Y = world(20, n=30, d=3, classes=3)
BAD: list[tuple[type[IsthmusError], str, Any, Any, dict[str, Any]]] = [
    (DataError, "x must be finite; got nan at row 2, column 1", np.where(np.arange(90).reshape(30, 3) == 7, np.nan, X), Y, {}),
    (DataError, "x must be finite; got inf", np.where(np.arange(90).reshape(30, 3) == 7, np.inf, X), Y, {}),
    (DataError, r"x must be \(rows, columns\).*shape \(30,\)", X[:, 0], Y, {}),
    (DataError, "x must be .*neither empty", X[:, :0], Y, {}),
    (DataError, "real numbers", torch.tensor(X + 0j), Y, {}),
    (DataError, "y must have one label for each of 30 rows", X, Y[:9], {}),
    (DataError, "class numbers from 0 to 1; got 2", X, Y, {"classes": 2}),
    (DataError, "class numbers from 0 to .*; got -1", X, Y - 1, {}),
    (DataError, "not whole", X, Y + 0.5, {}),
    (DataError, "not whole", X, np.where(Y == 0, np.nan, Y), {}),
    (DataError, "y must hold 0 and 1 only; got 2", X, Y, {"family": "binary"}),
    (DataError, "one class only", X, Y * 0, {}),
    (DataError, "same label", X, Y * 0, {"family": "binary"}),
    (DataError, r"\(30, 4\) for 'ovr'", X, np.eye(3)[Y], {"family": "ovr", "classes": 4}),
    (DataError, "must hold numbers", X, np.array(["a", "b", "c"])[Y], {}),
    (DataError, "weight must have one number", X, Y, {"weight": np.ones(3)}),
    (DataError, "weight must be finite", X, Y, {"weight": -np.ones(30)}),
    (DataError, "weight must be finite", X, Y, {"weight": np.full(30, np.nan)}),
    (OptionError, "lam must be a number above 0", X, Y, {"lam": 0.0}),
    (OptionError, "lam must be a number above 0", X, Y, {"lam": float("nan")}),
    (OptionError, "family must be one of", X, Y, {"family": "poisson"}),
    (OptionError, "no 3 classes", X, Y, {"family": "binary", "classes": 3}),
    (OptionError, "l1_ratio must lie in 0 to 1", X, Y, {"l1_ratio": 1.2}),
    (OptionError, "group_ratio must lie in 0 to 1", X, Y, {"group_ratio": -1}),
    (OptionError, "tol is a share", X, Y, {"tol": 0}),
    (OptionError, "max_iter", X, Y, {"max_iter": 0}),
    (OptionError, "max_iter must be a whole number", X, Y, {"max_iter": 1.5}),
    (OptionError, "classes must be a whole number", X, Y, {"classes": 5.0}),
    (OptionError, "classes must be a whole number", X, Y, {"classes": True}),
    (DataError, "largest label is 1000000000.*give classes=", X, np.where(Y == 2, 10**9, Y), {}),
    (OptionError, "solver must be", X, Y, {"solver": "saga"}),
    (OptionError, "newton' knows no groups", X, Y, {"solver": "newton", "group_ratio": 0.5}),
]


@pytest.mark.parametrize(("kind", "text", "x", "y", "options"), BAD, ids=[f"{i}" for i in range(len(BAD))])
def test_what_does_not_fit_is_refused_by_name(
    kind: type[IsthmusError], text: str, x: Any, y: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(kind, match=text):
        elastic_net.fit(x, y, **{"lam": 0.1, **options})


def test_other_refusals() -> None:
    head = elastic_net.fit(X, Y, lam=0.02)
    with pytest.raises(DataError, match=r"weights \(3, 2\)"):
        elastic_net.fit(X[:, :2], Y, lam=0.02, start=head)
    with pytest.raises(DataError, match="must be finite"):
        elastic_net.certificate(X, Y, head.weights * np.nan, head.bias, lam=0.02)
    with pytest.raises(OptionError, match="nec must lie"):
        elastic_net.truncate(head, 4)
    with pytest.raises(OptionError, match="nec must lie"):
        elastic_net.with_nec(X, Y, nec=(5,))
    with pytest.raises(OptionError, match="points must be a whole number"):
        elastic_net.path(X, Y, points=2.5)  # pyright: ignore[reportArgumentType]
    turned = elastic_net.fit(X[::-1], Y[::-1], lam=0.02, weight=np.ones(30)[::-1])
    assert turned.objective == pytest.approx(head.objective, rel=1e-4)
    with pytest.raises(OptionError, match="points >= 1"):
        elastic_net.path(X, Y, points=0)
    with pytest.raises(OptionError, match="l1_ratio must be above 0"):
        elastic_net.path(X, Y, l1_ratio=0)
    x, y = world(21, n=300, d=12, classes=2)
    assert [head.nec for head in elastic_net.with_nec(x, y, family="binary")] == [5, 10]
    assert [head.nec for head in elastic_net.with_nec(x, y, nec=np.array([3.0, 4.0]), family="binary")] == [3, 4]
    assert elastic_net.with_nec(x, y, nec=4, family="binary")[0].nec == 4
    with pytest.raises(OptionError, match="x has 3 columns, fewer than the 5"):
        elastic_net.with_nec(X, Y)


@pytest.mark.parametrize("solver", ["auto", "newton", "fista"])
@pytest.mark.parametrize("by", [1e4, -30.0, 1.0])
def test_a_start_far_away_costs_nothing(solver: elastic_net.Solver, by: float) -> None:
    x, y = world(22, n=400)
    cold = elastic_net.fit(x, y, lam=0.01, solver=solver)
    far = replace(cold, weights=cold.weights * by, bias=cold.bias * by)
    head = elastic_net.fit(x, y, lam=0.01, solver=solver, start=far)
    assert head.certified and head.objective == pytest.approx(cold.objective, rel=2e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        short = elastic_net.fit(x, y, lam=0.01, solver=solver, start=cold, max_iter=1, tol=1e-12)
    assert short.objective <= cold.objective * (1 + 1e-15)


def test_a_warning_points_to_its_caller() -> None:
    x, y = world(15)
    calls: list[Any] = [
        lambda: elastic_net.fit(x, y, lam=1e-3, tol=1e-9, max_iter=2),
        lambda: elastic_net.path(x, y, points=2, tol=1e-9, max_iter=2),
        lambda: elastic_net.with_nec(x, y, nec=(3, 9), tol=1e-9, max_iter=2),
    ]
    for call in calls:
        with pytest.warns(UserWarning, match="not to tol") as seen:
            call()
        assert {each.filename for each in seen} == {__file__}
