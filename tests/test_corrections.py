"""What policies are worth on a row: points and summaries against hand computation, samples where looks are slow, names."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from isthmus import registry
from isthmus.corrections import SLOW_ROWS, SLOW_STEPS, _case, _fitted, _harm, asked, budgets_of, budgets_to
from isthmus.data import Splits
from isthmus.errors import OptionError, UnknownName
from isthmus.features import build
from isthmus.given import Given
from isthmus.interventions import Curve, Fixed, Greedy, Learned, case
from isthmus.interventions.policies import hardened
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
    assert budgets_of({"ucp": [4, 2, np.int64(2)]}, data) == {"ucp": (0, 2, 4)}
    assert budgets_of({"ucp:group": [10**12, 1]}, data) == {"ucp:group": (0, 1, 3)}
    with pytest.raises(UnknownName, match="did you mean 'ectp'"):
        budgets_of("ecpt", data)
    with pytest.raises(OptionError, match="at least 0"):
        budgets_of({"ucp": []}, data)
    with pytest.raises(OptionError, match="at least 0, got .3, -1"):
        budgets_of({"ucp": [3, -1]}, data)
    for wrong in ((0, 1.7), (float("nan"),), 3, "12", (True,), [None]):
        with pytest.raises(OptionError, match="policy 'ucp': expected budgets as whole numbers of at least 0, got"):
            budgets_of({"ucp": wrong}, data)  # type: ignore[dict-item]
    for wrong in ([3], 3, {3: [1]}, [None]):
        with pytest.raises(OptionError, match=r"policies: expected names, or \{name: budgets\}"):
            budgets_of(wrong, data)  # type: ignore[arg-type]
    assert budgets_of({"ucp": torch.tensor([2, 1])}, data) == {"ucp": (0, 1, 2)}  # type: ignore[dict-item]


def test_budgets_typed_in_any_order_are_worth_what_they_are_worth_in_order() -> None:
    """A gain and harm are differences from none; an area goes along the axis."""
    model, data = fitted(rows=1200)
    told = [asked([model], [trace(model, data.test)], [data], {"greedy": ks}) for ks in ((0, 1, 3), (3, 1, 3), (0, 3))]
    for _, summary in told:
        summary["greedy"].pop("seconds")
    assert told[0] == told[1]
    assert told[0][1]["greedy"]["gain"] == told[2][1]["greedy"]["gain"] != 0


def test_harm_is_the_largest_over_all_budgets() -> None:
    """Half of the rows turn wrong after one answer; after two all are right again."""
    model, data = fitted()
    made = trace(model, data.test)
    y = torch.from_numpy(made.y)
    wrong = torch.where(torch.arange(len(y)) % 2 == 0, (y + 1) % 3, y)
    line = Curve((0, 1, 2), (0.0, 0.5, 1.0), torch.stack([y, wrong, y]))
    assert _harm(made, line) == pytest.approx(float((wrong != y).float().mean()))


def test_what_cannot_be_asked_is_neither_asked_nor_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test rows, and the rows of training and validation of which 'static' and 'learned' make their order."""
    model, data = fitted(rows=600)
    can = lambda table: torch.tensor([False, True, True, True]).expand(len(table), -1)  # noqa: E731
    data = Splits(*(t.replace(askable=can(t)) for t in (data.train, data.validation, data.test)))
    points, _ = asked([model], [trace(model, data.test)], [data], {"random": (0, 4), "static": (0, 4)})
    known = float((~data.test.c[:, 1:].isnan()).float().sum(1).mean())
    assert [points[name][-1]["cost"] for name in points] == pytest.approx([known, known], abs=1e-5)
    seen: list[torch.Tensor] = []

    def caught(self: Fixed | Learned, model: Any, z: Any, c: torch.Tensor, y: Any, *, held: Any) -> Any:
        seen.extend((c, held[1]))
        return self

    monkeypatch.setattr(Fixed, "fitted", caught)
    monkeypatch.setattr(Learned, "fitted", caught)
    for each in (Fixed(), Learned()):
        _fitted(each, model, data)
    assert len(seen) == 4 and all(bool(c[:, 0].isnan().all()) and not bool(c[:, 1:].isnan().all()) for c in seen)
    kept = copy.deepcopy(model)
    kept.keep([2, 0])
    assert not bool(_case(kept, data, torch.arange(5)).askable[:, 1].any())  # by name, also where concepts were dropped


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
    assert told["coop"]["sample"] == f"{SLOW_ROWS} rows"  # it can ask all there is
    assert told["ectp"]["rows"] == SLOW_ROWS  # each state of each concept is an answer
    assert told["random"]["rows"] == len(data.test)
    assert "over_random" in told["ectp"]
    alone = asked([model], [trace(model, data.test)], [data], {"coop": (0, 1), "random": (0, 1, 2)})[1]
    assert "over_random" in alone["coop"]  # against random order on the same rows, at the same budgets
    monkeypatch.setattr("isthmus.corrections.LOOKS", SLOW_ROWS * 2 * data.space.count * SLOW_STEPS[0])
    points, told = asked([model], [trace(model, data.test)], [data], budgets_of(["coop", "ectp"], data))
    assert told["coop"]["sample"] == f"{SLOW_ROWS} rows and at most {SLOW_STEPS[0]} questions"
    assert [point["k"] for point in points["coop"]] == list(range(SLOW_STEPS[0] + 1))
    assert points["ectp"][-1]["k"] == data.space.count  # scored once: all budgets


def test_harm_counts_only_what_was_right_before() -> None:
    """A quarter is wrong without corrections and stays wrong, a quarter turns right, a quarter turns wrong."""
    model, data = fitted()
    made = trace(model, data.test)
    y = torch.from_numpy(made.y)[: len(made.y) // 4 * 4]
    made = replace(made, y=y.numpy())
    part, wrong = torch.arange(len(y)) % 4, (y + 1) % 3
    before, after = torch.where(part < 2, wrong, y), torch.where((part == 0) | (part == 2), wrong, y)
    assert _harm(made, Curve((0, 1), (0.0, 1.0), torch.stack([before, after]))) == 0.25
    mended = torch.where(part == 0, wrong, y)
    assert _harm(made, Curve((0, 1), (0.0, 1.0), torch.stack([before, mended]))) == 0.0


def test_each_policy_is_set_against_random_order_of_its_own_level_rows_and_budgets() -> None:
    """Together as alone: what was asked before, at another level, of other rows or to other budgets, is no baseline."""
    model, data = fitted(rows=1800)
    model.solver = opaque
    made = trace(model, data.test)
    budgets = {
        "random": (0, 1, 2),
        "ectp": (0, 1, 2),
        "ucp": (0, 1, 2),
        "ucp:group": (0, 1, 2),
        "lcp": (0, 2),
        "lcp:group": (0, 2),
    }
    _, together = asked([model], [made], [data], budgets)
    assert together["ectp"]["rows"] == SLOW_ROWS < together["ucp"]["rows"]
    for name in budgets:
        alone = asked([model], [made], [data], {name: budgets[name]})[1][name]
        assert together[name].get("over_random") == alone.get("over_random")
    backwards = asked([model], [made], [data], dict(reversed(budgets.items())))[1]
    assert all(backwards[name].get("over_random") == together[name].get("over_random") for name in budgets)


def test_kflip_is_set_against_the_model_without_corrections() -> None:
    """Told nothing it is the model as it is, so its gain, its harm and its distance to random order begin where theirs do."""
    model, data = fitted(rows=1200)
    points, told = asked([model], [trace(model, data.test)], [data], {"random": (0, 1), "kflip": (0, 1)})
    right = model.answer(data.test.x).logits.argmax(1) == data.test.y
    hard = model.answer(data.test.x, hardened(model, data.test.x)).logits.argmax(1) == data.test.y
    assert not torch.equal(right, hard)
    kflip, random = (points[name] for name in ("kflip", "random"))
    assert isinstance(kflip, list) and isinstance(random, list) and kflip[0]["accuracy"] == random[0]["accuracy"]
    first = float(right.float().mean())
    assert kflip[0]["accuracy"]["value"] == pytest.approx(first, abs=1e-6)
    assert told["kflip"]["gain"] == pytest.approx(kflip[1]["accuracy"]["value"] - first, abs=2e-6)
