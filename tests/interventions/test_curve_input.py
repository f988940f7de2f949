"""What correction curves and corrections take, and what they refuse by name; k-flip at none; orders that go on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus import testing
from isthmus.corrections import budgets_of
from isthmus.errors import DataError, IsthmusError, OptionError
from isthmus.interventions import policy
from isthmus.interventions.criteria import CooP, Expected, Greedy, Uncertain
from isthmus.interventions.curve import curve
from isthmus.interventions.kflip import KFlip
from isthmus.interventions.policies import Fixed, Random


def fitted(name: str = "cbm", kinds: tuple[str, ...] = ("binary",), **options: Any) -> tuple[im.ConceptModel, im.Splits]:
    data = testing.world(kinds)  # type: ignore[arg-type]
    return testing._fit(name, data, options, 0).fit(data), data


def test_labels_that_are_no_state_are_refused() -> None:
    model, data = fitted(kinds=("binary", "categorical"))
    z, c = model.encode(data.test.x), data.test.c.clone()
    index = next(iter(model.space.blocks))[0]
    for value in (0.0, 1.0):
        c[3, index] = value
        with pytest.raises(DataError, match="row 3, .*: expected one state"):
            curve(model, z, c, Random(), (0, 1))
    c[3, index] = torch.nan
    c[3, index[0]] = 1.0
    with pytest.raises(DataError, match="some of them NaN"):
        curve(model, z, c, Random(), (0, 1))


def test_arrays_and_lists_are_taken_and_the_rest_refused_by_name() -> None:
    model, data = fitted()
    z, c, y = model.encode(data.test.x), data.test.c, data.test.y
    can = ~c.isnan()
    want = curve(model, z, c, Greedy(), (0, 2), y=y, allowed=can)
    same = curve(model, z.numpy(), c.numpy(), Greedy(), [0, 2], y=y.tolist(), allowed=can.numpy())  # type: ignore[arg-type]
    assert torch.equal(want.answers, same.answers)
    assert torch.equal(want.answers, curve(model, z.double(), c, Greedy(), (0, 2), y=y.float(), allowed=can).answers)
    for call, said in (
        (lambda: curve(model, z, c, Greedy(), (0, 1), y=y + 9), "class numbers 0 to"),
        (lambda: curve(model, z, c, "ucp", (0, 1)), "expected a policy"),  # type: ignore[arg-type]
        (lambda: curve(model, z, c, Random(), 3), "expected budgets"),  # type: ignore[arg-type]
        (lambda: curve(model, z, c, Random(), (0, 1), competence="1"), "competence"),  # type: ignore[arg-type]
        (lambda: curve(model, z, object(), Random(), (0, 1)), "c: expected"),  # type: ignore[arg-type]
    ):
        with pytest.raises(IsthmusError, match=said):
            call()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uncertain(level="x"), lambda: Uncertain(scope="pooled"), lambda: Uncertain(measure="margn"),
        lambda: Uncertain(pool="x"), lambda: Expected(criterion="foo"), lambda: CooP(alpha=float("nan")),
        lambda: KFlip(threshold=float("nan")), lambda: Fixed(order=(1.5, 0)), lambda: Random(level="concepts"),
    ],
)  # fmt: skip
def test_misspelt_fields_are_no_other_policy(make: Any) -> None:
    with pytest.raises(OptionError, match="expected"):
        make()


def test_kflip_holds_nothing_before_its_first_question() -> None:
    model, data = fitted(head="mlp")
    z, c = model.encode(data.test.x), data.test.c
    none = curve(model, z, c, KFlip(), (0, 1))
    assert torch.equal(none.answers[0], model.task.predict(model.answer(z).logits))
    assert torch.equal(none.answers[0], curve(model, z, c, Random(), (0,)).answers[0])


@pytest.mark.parametrize(("name", "rule"), [("scbm", "ucp"), ("cbm", "ectp"), ("cbm", "eudtp"), ("scbm", "ucp:rescored")])
def test_what_is_asked_next_is_what_the_next_budget_adds(name: str, rule: str) -> None:
    model, data = fitted(name)
    told = data.test.take((~data.test.c.isnan().any(1)).nonzero()[:12, 0])
    for row in range(len(told)):
        x, truth = told.x[row : row + 1], told.c[row]
        for budget in (0, 1, 2):
            now = im.intervene(model, x, {}, truth=truth, policy=rule, budget=budget)
            more = im.intervene(model, x, {}, truth=truth, policy=rule, budget=budget + 1)
            added = {step["concept"] for step in more.steps} - {step["concept"] for step in now.steps}
            if now.ask_next and added:
                assert added == {now.ask_next[0]}, (row, budget)


def test_budgets() -> None:
    model, data = fitted()
    x, truth = data.test.x[:1], data.test.c[0].nan_to_num()
    every = im.intervene(model, x, {}, truth=truth, budget=10**30)
    assert len(every.steps) == model.space.count
    for bad in (1.5, True, -1):
        with pytest.raises(OptionError, match="whole number"):
            im.intervene(model, x, {}, truth=truth, budget=bad)  # type: ignore[arg-type]
    for asked in ({"ucp": (0, 1.7)}, {"ucp": 3}, {"ucp": (float("nan"),)}, [3], {"ucp": ()}):
        with pytest.raises(OptionError, match="expected"):
            budgets_of(asked, data)  # type: ignore[arg-type]
    assert budgets_of({"ucp": np.array([1, 2])}, data) == {"ucp": (0, 1, 2)}
    assert policy("ucp") == Uncertain()
