"""What a policy or a curve is given: refused by name where it is none, taken where it is obviously meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus.errors import IsthmusError, OptionError, UnknownName
from isthmus.interventions import (
    Case,
    CooP,
    Expected,
    Fixed,
    Greedy,
    KFlip,
    Learned,
    Ordered,
    Policy,
    Random,
    Uncertain,
    Wrong,
    case,
    curve,
)
from isthmus.interventions.checks import counted
from tests.interventions.conftest import Fit, fit
from tests.labels import gapless

ROWS = 9


@pytest.fixture(scope="module")
def plain() -> Fit:
    return fit(("binary",), epochs=8)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Uncertain(level="group", scope="bath"), "unknown scope of Uncertain 'bath'; did you mean 'batch'"),  # type: ignore[arg-type]
        (lambda: Uncertain(level="x"), "unknown level of Uncertain 'x'.*concept, group"),  # type: ignore[arg-type]
        (lambda: Uncertain(pool="median"), "unknown pool of Uncertain 'median'"),  # type: ignore[arg-type]
        (lambda: Uncertain(measure="margins"), "did you mean 'margin'"),  # type: ignore[arg-type]
        (lambda: Expected(criterion="foo"), "unknown criterion of Expected 'foo'"),  # type: ignore[arg-type]
        (lambda: Random(level="groups"), "did you mean 'group'"),  # type: ignore[arg-type]
        (lambda: Wrong(level=None), "Wrong: expected level as one of concept, group, got None"),  # type: ignore[arg-type]
        (lambda: Greedy(rescored="no"), "Greedy: expected rescored as True or False, got 'no'"),  # type: ignore[arg-type]
        (lambda: Learned(epochs=1.5), "Learned: expected epochs as a whole number .* got 1.5"),  # type: ignore[arg-type]
        (lambda: CooP(alpha=float("nan")), "CooP: expected alpha as a finite number, got nan"),
        (lambda: CooP(gamma="1"), "CooP: expected gamma as a finite number, got '1'"),  # type: ignore[arg-type]
        (lambda: KFlip(threshold=float("nan")), "KFlip: expected threshold as a finite number, got nan"),
        (lambda: KFlip(threshold=20), "KFlip: threshold: expected a share from 0 to 1, got 20"),
        (lambda: Fixed(order=(1.5, 0)), r"Fixed: expected order as different whole numbers .* got \(1.5, 0\)"),  # type: ignore[arg-type]
        (lambda: Fixed(order="10"), "Fixed: expected order as different whole numbers .* got '10'"),  # type: ignore[arg-type]
        (lambda: Fixed(order=3), "Fixed: expected order as different whole numbers .* got 3"),  # type: ignore[arg-type]
        (lambda: Fixed(order=None), "Fixed: expected order as different whole numbers .* got None"),  # type: ignore[arg-type]
        (lambda: Fixed(order=(0, -1)), "Fixed: expected order as different whole numbers"),
    ],
)
def test_a_policy_is_built_of_what_its_fields_are_declared_as(make: Callable[[], Policy], said: str) -> None:
    with pytest.raises((OptionError, UnknownName), match=said):
        make()


def test_orders_of_any_sequence_and_policies_from_outside() -> None:
    assert Fixed(order=[2, np.int64(0)]) == Fixed(order=np.array([2, 0])) == Fixed(order=(2, 0))  # type: ignore[arg-type]
    assert CooP(alpha=1) == CooP(alpha=np.float32(1.0)) and Fixed().order == ()  # type: ignore[arg-type]

    @dataclass(frozen=True)
    class Mine(Ordered):
        other: Gone = None  # type: ignore[name-defined]  # noqa: F821

        def places(self, case: Case, steps: int) -> Tensor:
            raise NotImplementedError

    assert Mine(other=3).other == 3  # its types are unknown here, so nothing is checked


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"y": [7] * ROWS}, "y, row 0: expected the number of a class, 0 to 2, got 7"),
        ({"y": torch.full((ROWS,), -1)}, "y, row 0: expected the number of a class, 0 to 2, got -1"),
        ({"y": torch.full((ROWS,), 0.5)}, "y, row 0: expected the number of a class, 0 to 2, got 0.5"),
        ({"y": torch.full((ROWS,), float("nan"))}, "y, row 0: expected the number of a class, 0 to 2, got nan"),
        ({"y": ["a"] * ROWS}, "y: expected 9 true answers, got list of other things"),
        ({"y": torch.zeros(ROWS, 3)}, r"y: expected 9 true answers, one for each row of features, got \(9, 3\)"),
        ({"z": torch.zeros(ROWS, 7)}, r"z: expected features of shape \(n, 8\), got \(9, 7\)"),
        ({"z": torch.zeros(8)}, r"z: expected features of shape \(n, 8\), got \(8,\)"),
        ({"z": ["a"] * ROWS}, "z: expected features of shape .*, got list of other things"),
        ({"z": torch.zeros(ROWS, 8, dtype=torch.complex64)}, "z: expected features .* got torch.complex64"),
        ({"c": "labels"}, r"c: expected labels of shape \(9, 4\), got str of other things"),
        ({"counts": 3}, "curve: expected budgets as whole numbers of at least 0, got 3;"),
        ({"counts": torch.tensor(3)}, "curve: expected budgets as whole numbers"),
        ({"counts": (float("nan"),)}, "curve: expected budgets as whole numbers"),
        ({"counts": "13"}, "curve: expected budgets as whole numbers of at least 0, got '13'"),
        ({"policy": "ucp"}, r"curve: expected a policy such as Random\(\), got 'ucp'; isthmus.interventions.policy\('ucp'\)"),
        ({"policy": None}, r"curve: expected a policy such as Random\(\), got None"),
        ({"competence": "1"}, "competence: expected a share from 0 to 1, got '1'"),
        ({"competence": float("nan")}, "competence: expected a share from 0 to 1, got nan"),
        ({"competence": None}, "competence: expected a share from 0 to 1, got None"),
        ({"allowed": [[1] * 4] * ROWS}, r"allowed: expected bool of shape \(9, 4\), rows by concepts, got torch.int64"),
        ({"allowed": [[True]] * ROWS}, r"allowed: expected bool of shape \(9, 4\), .* got torch.bool of shape \(9, 1\)"),
        ({"allowed": "all"}, "allowed: expected bool .* got str of other things"),
    ],
)
@pytest.mark.parametrize("policy", [Random(), Greedy()])
def test_what_a_curve_refuses(plain: Fit, change: dict[str, Any], said: str, policy: Policy) -> None:
    model, data = plain
    assert data.test.c is not None and data.test.y is not None
    inputs = {"z": data.test.x[:ROWS], "c": data.test.c[:ROWS], "y": data.test.y[:ROWS], "policy": policy, "counts": (0, 1)}
    with pytest.raises(IsthmusError, match=said):
        curve(model, **(inputs | change))


@pytest.mark.parametrize("policy", [Random(), Greedy(), Uncertain()])
def test_what_is_obviously_meant_is_taken(plain: Fit, policy: Policy) -> None:
    model, data = plain
    assert data.test.c is not None and data.test.y is not None
    z, c, y = data.test.x[:ROWS], data.test.c[:ROWS], data.test.y[:ROWS]
    can = torch.arange(4).expand(ROWS, 4) != 1
    want = curve(model, z, c, policy, (0, 1, 3), y=y, allowed=can)
    for numbers, number in ((Tensor.numpy, np.float64), (Tensor.tolist, float)):
        made = {"y": numbers(y), "allowed": numbers(can), "counts": np.array([0, 1, 3]), "competence": number(1.0)}
        found = curve(model, numbers(z), numbers(c), policy, **made)
        assert torch.equal(found.answers, want.answers) and found.counts == (0, 1, 3) and found.shares == want.shares
    doubled = curve(model, z.double(), c.double(), policy, torch.tensor([0, 1, 3]), y=y.double(), allowed=can.numpy())  # type: ignore[arg-type]
    assert torch.equal(doubled.answers, want.answers)


@pytest.mark.parametrize("task", ["labels", "value"])
def test_answers_of_other_tasks(task: str) -> None:
    model, data = fit(("binary",), task=task, epochs=2)
    c, y = data.test.c, data.test.y
    assert c is not None and y is not None
    found = curve(model, data.test.x, c, Greedy(), (0, 1), y=y.numpy())
    assert torch.equal(found.answers, curve(model, data.test.x, c, Greedy(), (0, 1), y=y).answers)
    with pytest.raises(IsthmusError, match="y: expected 32 true answers"):
        curve(model, data.test.x, c, Greedy(), (0, 1), y=y[:, None] if task == "value" else y[:, :1])
    if task == "labels":
        with pytest.raises(IsthmusError, match="y, row 0: expected labels of 0, 1 or NaN"):
            curve(model, data.test.x, c, Greedy(), (0, 1), y=y + 2)


@pytest.mark.parametrize("wrong", [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, float("nan"), 0.0], [0.5, 0.4, 0.0]])
def test_a_label_of_states_is_a_state(linear: Fit, wrong: list[float]) -> None:
    """Columns 4 to 6 are a colour; a block of zeros is none of its states, one of ones all of them."""
    model, data = linear
    c = gapless(data.test.c, data.space)  # type: ignore[arg-type]
    c[:, 4:7] = torch.tensor([0.5, 0.25, 0.25])  # soft labels are labels
    c[1, 4:7] = torch.nan
    assert bool(case(model, data.test.x, c).askable[0].all())
    c[2, 4:7] = torch.tensor(wrong)
    with pytest.raises(
        IsthmusError, match=r"c, row 2, 'colour': expected states that sum to 1, or all NaN for unknown, got \["
    ):
        curve(model, data.test.x, c, Random(), (0, 1))


def test_a_budget_past_all_numbers_asks_only_what_it_can(plain: Fit) -> None:
    model, data = plain
    c = gapless(data.test.c, data.space)  # type: ignore[arg-type]
    can = torch.arange(4).expand(len(c), 4) != 1
    rows = case(model, data.test.x, c, allowed=can)
    for rule in (Uncertain(), Random(), CooP()):
        assert torch.equal(rule.choose(rows, 10**21), can)


def test_counts() -> None:
    assert counted(range(3)) == counted([0, 1, 2]) == counted(np.arange(3)) == (0, 1, 2)
    for wrong in ([], 3, "12", [1.7], [True], [-1], None, iter([1]), {"a": 1}, [float("inf")]):
        assert counted(wrong) is None
