"""What policies are worth on a row: points and summaries against hand computation, samples where looks are slow, names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from isthmus import registry
from isthmus.corrections import SLOW_ROWS, SLOW_STEPS, asked, budgets_of, budgets_to
from isthmus.errors import OptionError, UnknownName
from isthmus.features import build
from isthmus.given import Given
from isthmus.interventions import Greedy, case
from isthmus.model import ConceptModel, Output, feedforward
from isthmus.testing import world
from isthmus.trace import trace


def fitted(rows: int = 160, seed: int = 0) -> tuple[ConceptModel, Any]:
    data = world(("binary",), rows=rows)
    plan = registry.get("cbm").make(build("identity", dim=8), data.space, data.task, seed=seed, epochs=15, lr=1e-2)
    return plan.fit(data, seed), data


def opaque(model: ConceptModel, z: torch.Tensor, given: Given | None) -> Output:
    return feedforward(model, z, given)


def test_budgets_reach_every_concept() -> None:
    assert budgets_to(0) == (0,)
    assert budgets_to(1) == (0, 1)
    assert budgets_to(11) == (0, 1, 2, 3, 5, 8, 11)
    data = world(("binary",))
    every = budgets_of("all", data)
    assert {"random", "greedy", "ectp", "ectp:group", "learned", "kflip"} <= every.keys()
    assert every["ectp"] == (0, 1, 2, 3, 4)
    assert every["ectp:group"] == (0, 1, 2, 3)
    assert every["kflip"] == (0, 1, 2)
    assert "kflip:group" not in every
    assert budgets_of({"ucp": [2, 4]}, data) == {"ucp": (2, 4)}
    with pytest.raises(UnknownName, match="did you mean 'ectp'"):
        budgets_of("ecpt", data)
    with pytest.raises(OptionError, match="at least 0"):
        budgets_of({"ucp": []}, data)


def test_points_and_summary_are_those_of_the_curve() -> None:
    models, traces = [], []
    for seed in (0, 1):
        model, data = fitted(seed=seed)
        models.append(model)
        traces.append(trace(model, data.test))
    points, told = asked(models, traces, [data, data], budgets_of(["greedy", "random", "kflip"], data))
    assert list(points) == ["greedy", "random", "kflip"]
    y, c = data.test.y, data.test.c
    value, harm = np.zeros(5), 0.0
    for model in models:
        place = Greedy().places(case(model, data.test.x, c, y=y), 4)
        right = []
        for k in range(5):
            answer = model.answer(data.test.x, Given(c.nan_to_num(), (place < k) & ~c.isnan())).logits.argmax(1)
            right.append(answer == y)
            value[k] += float((answer == y).float().mean()) / 2
        harm = max(harm, *(float((right[0] & ~r).float().mean()) for r in right))
    got = [point["accuracy"]["value"] for point in points["greedy"]]
    np.testing.assert_allclose(got, value, atol=1e-6)
    assert told["greedy"]["area"]["value"] == pytest.approx(((value[1:] + value[:-1]) / 2).mean(), abs=1e-6)
    assert told["greedy"]["harm"] == pytest.approx(harm, abs=1e-6)
    assert told["greedy"]["gain"] == pytest.approx(value[-1] - value[0], abs=1e-6)
    over = told["greedy"]["over_random"]
    assert over["value"] == pytest.approx(told["greedy"]["area"]["value"] - told["random"]["area"]["value"], abs=2e-6)
    assert over["low"] <= over["value"] <= over["high"]
    assert "over_random" not in told["random"]
    assert [point["k"] for point in points["kflip"]] == [0, 1, 2]


def test_slow_looks_take_a_stated_sample_and_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = fitted(rows=1800)
    model.solver = opaque
    assert len(data.test) > SLOW_ROWS
    _, told = asked([model], [trace(model, data.test)], [data], budgets_of(["coop", "random", "ectp"], data))
    assert told["coop"]["rows"] == SLOW_ROWS
    assert str(SLOW_ROWS) in told["coop"]["sample"]
    assert "questions" not in told["coop"]["sample"]  # it can ask all there is
    assert told["ectp"]["rows"] == SLOW_ROWS  # each state of each concept is an answer
    assert told["random"]["rows"] == len(data.test)
    assert "over_random" in told["ectp"]
    alone = asked([model], [trace(model, data.test)], [data], {"coop": (0, 1), "random": (0, 1, 2)})[1]
    assert "over_random" in alone["coop"]  # against random order on the same rows, at the same budgets
    monkeypatch.setattr("isthmus.corrections.LOOKS", SLOW_ROWS * 2 * data.space.count * SLOW_STEPS[0])
    points, told = asked([model], [trace(model, data.test)], [data], budgets_of(["coop", "ectp"], data))
    assert f"at most {SLOW_STEPS[0]} questions" in told["coop"]["sample"]
    assert [point["k"] for point in points["coop"]] == list(range(SLOW_STEPS[0] + 1))
    assert points["ectp"][-1]["k"] == data.space.count  # scored once: all budgets
