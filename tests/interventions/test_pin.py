"""Pinned weights stay bit for bit, and the rest is the best that there is around them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus import hub, repair, testing
from isthmus.data.table import Splits
from isthmus.errors import OptionError
from isthmus.model import ConceptModel

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
    assert entry["what"]["weights"][0]["from"] == pytest.approx(float(model.head.weights[0, k]))
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
    slope[0, 0] = 0
    assert float(slope.abs().max()) < 1e-4
    with pytest.raises(OptionError, match="l2, a number above 0"):
        repair.pin(model, {("a", 0): 0.0}, data, l2=0.0, why="w")
