"""Pinned weights stay bit for bit, and the rest is the best that there is around them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus import hub, repair, testing
from isthmus.data.table import Splits, Table
from isthmus.errors import OptionError
from isthmus.interventions import pin as pinning
from isthmus.model import ConceptModel
from isthmus.space import Concept, ConceptSpace, Task

Fit = tuple[ConceptModel, Splits]


def shown(model: ConceptModel, x: torch.Tensor) -> np.ndarray:
    """What a linear head is shown, numbers on the standardised scale."""
    return model.space.standardised(model(x).concepts.values).double().numpy()


def test_pinned_weights_stay_and_the_rest_is_fitted_around_them(linear: Fit, tmp_path: Path) -> None:
    model, data = linear
    new = repair.pin(model, {("a", "age"): 0.0, ("b", "age"): 1 / 3}, data, why="no property of a cell")
    k = model.space.columns.index("age")
    assert torch.equal(new.head.weights[:2, k], torch.tensor([0.0, 1 / 3]))
    moved = new.head.weights != model.head.weights
    assert bool(moved[2].any()) and torch.equal(new(data.test.x).concepts.values, model(data.test.x).concepts.values)
    entry = new.history[-1]
    assert entry["what"]["weights"][0]["from"] == pytest.approx(
        float(model.head.weights[0, k] - model.head.weights[:, k].mean())
    )
    assert float(new.head.weights[2, k]) == pytest.approx(-1 / 3), "weights of classes count from their mean"
    assert entry["what"]["objective"]["after"] < entry["what"]["objective"]["before"]
    loaded = hub.load(hub.save(new, tmp_path / "m"))
    assert torch.equal(loaded(data.test.x).logits, new(data.test.x).logits) and loaded.history == new.history


def test_a_concept_pinned_to_nothing_leaves_the_head_that_never_had_it(linear: Fit) -> None:
    """scikit-learn's logistic regression on the other columns, and the same from another start."""
    from sklearn.linear_model import LogisticRegression

    model, data = linear
    nothing = {(y, "age"): 0.0 for y in data.task.names}
    new = repair.pin(model, nothing, data, l2=0.01, why="no property of a cell")
    u, k = shown(model, data.train.x), model.space.columns.index("age")
    rest = [j for j in range(u.shape[1]) if j != k]
    other = LogisticRegression(C=1 / (0.01 * len(u)), tol=1e-10, max_iter=5000).fit(u[:, rest], data.train.y.numpy())
    np.testing.assert_allclose(new.head.weights[:, rest], other.coef_, atol=1e-4)
    bias = new.head.map.bias.double().numpy()
    np.testing.assert_allclose(bias - bias.mean(), other.intercept_ - other.intercept_.mean(), atol=1e-4)
    away = deepcopy(model)
    away.head.map.weight.data.normal_(generator=torch.Generator().manual_seed(0)).mul_(5)
    again = repair.pin(away, nothing, data, l2=0.01, why="another start")
    torch.testing.assert_close(again.head.weights, new.head.weights, atol=1e-4, rtol=1e-3)


@pytest.fixture(scope="module")
def stained() -> Fit:
    """Three concepts make three classes, and a stain goes with class x."""

    def rows(n: int, seed: int) -> Table:
        draw = np.random.default_rng(seed)
        y = draw.integers(0, 3, n)
        c = (draw.random((n, 4)) < 0.1).astype(np.float32)
        c[np.arange(n), y] = draw.random(n) < 0.7
        c[:, 3] = draw.random(n) < np.where(y == 0, 0.97, 0.03)
        x = 2 * c - 1 + 0.3 * draw.normal(size=c.shape).astype(np.float32)
        space, task = ConceptSpace.binary(("a", "b", "c", "stain")), Task.classes(("x", "y", "z"))
        return Table(torch.from_numpy(x).float(), torch.from_numpy(c), torch.from_numpy(y), space, task)

    data = Splits(rows(900, 0), rows(400, 1), rows(400, 2), name="stained")
    return im.fit("cbm", data, mode="sequential", features="identity", epochs=60, lr=0.02), data


def effect_on_x(model: ConceptModel, rows: Table) -> float:
    on, off = (model(rows.x, im.given(model.space, {"stain": end})).logits.softmax(1)[:, 0].mean() for end in (1, 0))
    return float(on - off)


def test_a_concept_pinned_to_nothing_for_one_class_stops_moving_it(stained: Fit) -> None:
    """The other classes' weights may not take it over; a fit without the pin keeps it."""
    model, data = stained
    new = repair.pin(model, {("x", "stain"): 0.0}, data, why="no property of a cell")
    assert effect_on_x(model, data.test) > 0.6 and abs(effect_on_x(new, data.test)) < 0.02
    (told,) = new.history[-1]["what"]["effects"]
    assert told["before"] == pytest.approx(effect_on_x(model, data.validation), abs=1e-5)
    assert told["after"] == pytest.approx(effect_on_x(new, data.validation), abs=1e-5)
    assert told["refit"] > 0.6 and (told["class"], told["concept"]) == ("x", "stain")
    assert abs(float(new.head.weights[:, 3].sum())) < 1e-5


def test_the_fit_around_one_class_is_the_optimum_under_its_constraint(stained: Fit) -> None:
    """scipy's constrained solver, whose gradients are differences."""
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    model, data = stained
    new = repair.pin(model, {("x", "stain"): 0.5}, data, l2=0.02, why="half of it")
    u, y = shown(model, data.train.x), data.train.y.numpy()

    def objective(flat: np.ndarray) -> float:
        s = u @ flat[:12].reshape(3, 4).T + flat[12:]
        return float((logsumexp(s, axis=1) - s[np.arange(len(y)), y]).mean() + 0.01 * ((flat[:12] ** 2).sum() - flat[3] ** 2))

    rules = [
        {"type": "eq", "fun": lambda flat: flat[3] - 0.5},
        {"type": "eq", "fun": lambda flat: flat[[3, 7, 11]].sum()},
    ]
    best = minimize(objective, np.zeros(15), method="SLSQP", constraints=rules, options={"ftol": 1e-12, "maxiter": 500})
    np.testing.assert_allclose(new.head.weights.double().numpy(), best.x[:12].reshape(3, 4), atol=1e-3)


def test_what_the_fit_does_is_told_apart_from_what_the_pin_does(stained: Fit) -> None:
    """A weight pinned to what the fit finds anyway changes nothing beyond the fit."""
    _, data = stained
    raw = im.fit("cbm", data, mode="sequential", features="identity", epochs=2)
    last = {(y, "stain"): 0.0 for y in data.task.names}
    column = repair.pin(raw, {("x", "a"): 0.0}, data, l2=1.0, why="any").history[-1]["what"]
    assert column["refit"]["before"] < column["refit"]["after"] == column["pinning"]["before"]
    fitted = pinning.fitted(*_problem(raw, data), l2=1e-3)[0]
    same = {("x", "stain"): float(fitted[0, 3] - fitted[:, 3].mean())}
    told = repair.pin(raw, same, data, why="what it is").history[-1]
    assert told["what"]["pinning"]["changed"] == 0 and told["effect"]["changed"] == told["what"]["refit"]["changed"] > 0.1
    assert repair.pin(raw, last, data, why="none").history[-1]["what"]["pinning"]["changed"] > 0.01


def _problem(model: ConceptModel, data: Splits) -> tuple[Any, ...]:
    """What ``fitted`` takes, nothing pinned."""
    u = torch.from_numpy(shown(model, data.train.x))
    start = model.head.weights.detach().double(), torch.zeros(3, dtype=torch.float64)
    return u, torch.zeros(len(u), 3), data.train.batch(u), data.task, torch.ones(3, 4, dtype=torch.bool), start


@pytest.mark.parametrize("task", ["labels", "value"])
def test_around_pinned_weights_the_slope_of_the_loss_is_zero(task: str) -> None:
    """For labels some of which are unknown, and for a number; by differences of the published loss, no gradient of ours."""
    data = testing.world(("binary", "continuous"), task)
    if task == "labels":
        data.train.y[::7, 1] = torch.nan
    model = im.fit("cbm", data, features="identity", epochs=10)
    new = repair.pin(model, {(0, "age"): 0.5}, data, l2=0.02, why="w")
    u = shown(model, data.train.x)
    y = data.train.y.double().numpy()
    target = y if task == "labels" else ((y - model.task.center) / model.task.scale)[:, None]
    known, k = ~np.isnan(target), model.space.columns.index("age")
    start = new.head.weights.double().numpy().copy()

    def objective(w: np.ndarray, b: np.ndarray) -> float:
        s = u @ w.T + b
        each = np.logaddexp(0, s) - np.nan_to_num(target) * s if task == "labels" else (s - target) ** 2
        return float((each * known).sum() / known.sum() + 0.01 * ((w**2).sum() - w[0, k] ** 2))

    b = new.head.map.bias.double().numpy()
    assert start[0, k] == 0.5
    for at in np.ndindex(start.shape):
        up, down = start.copy(), start.copy()
        up[at] += 1e-3
        down[at] -= 1e-3
        slope = (objective(up, b) - objective(down, b)) / 2e-3
        assert abs(slope) < 1e-4 or at == (0, k)


def test_a_state_pinned_to_nothing_is_not_spoken_for_by_its_siblings() -> None:
    """States sum to 1: 'no' would say with its sign turned what 'yes' may not."""
    space = ConceptSpace((Concept("a"), Concept("b"), Concept("c"), Concept("stain", "categorical", ("no", "yes"))))

    def rows(n: int, seed: int) -> Table:
        draw = np.random.default_rng(seed)
        y = draw.integers(0, 3, n)
        c = (draw.random((n, 3)) < 0.1).astype(np.float32)
        c[np.arange(n), y] = draw.random(n) < 0.7
        yes = draw.random(n) < np.where(y == 0, 0.97, 0.03)
        c = np.c_[c, ~yes, yes].astype(np.float32)
        x = 2 * c - 1 + 0.3 * draw.normal(size=c.shape).astype(np.float32)
        return Table(torch.from_numpy(x).float(), torch.from_numpy(c), torch.from_numpy(y), space, Task.classes("xyz"))

    data = Splits(rows(600, 0), rows(300, 1), rows(300, 2))
    model = im.fit("cbm", data, mode="sequential", features="identity", epochs=40, lr=0.02)
    new = repair.pin(model, {("x", "stain=yes"): 0.0}, data, why="a mark of the lab")
    (effect,) = new.history[-1]["what"]["effects"]
    assert effect["before"] > 0.3 and effect["refit"] > 0.3 and abs(effect["after"]) < 0.01
    w = new.head.weights.double()
    torch.testing.assert_close(w[:, 3:].sum(0), torch.zeros(2, dtype=torch.double), atol=1e-5, rtol=0)
    assert abs(float(w[0, 3])) < 1e-6
    pins = {("x", "stain=yes"): 1.0, ("y", "stain=yes"): 0.0, ("z", "stain=no"): 5.0}
    with pytest.raises(OptionError, match="contradict each other"):
        repair.pin(model, pins, data, why="w")


def test_pinning_leaves_the_side_channel_and_fits_around_it() -> None:
    data = testing.world(("binary",))
    model = im.fit("sidechannel", data, features="identity", epochs=5)
    new = repair.pin(model, {("a", 0): 0.0}, data, why="w")
    assert torch.equal(new.head.side.weight, model.head.side.weight)
    assert "side channel" in new.history[-1]["what"]["beside"]
    w = new.head.inner.map.weight.requires_grad_(True)
    im.losses.task(new(data.train.x), data.train.batch(data.train.x), new.task)["task"].backward()
    slope = w.grad + 1e-3 * w.detach()  # of the whole model's answer, side channel and all
    w.requires_grad_(False)
    slope[:, 0] -= slope[1:, 0].mean()  # the free weights of a pinned concept move against each other alone
    slope[0, 0] = 0
    assert float(slope.abs().max()) < 1e-4 and float(new.head.weights[:, 0].sum()) == pytest.approx(0, abs=1e-6)
    with pytest.raises(OptionError, match="l2, a number above 0"):
        repair.pin(model, {("a", 0): 0.0}, data, l2=0.0, why="w")
