"""Policies and curves: budgets are counts of concepts, unknown labels are never given, k-flip by brute force."""

from __future__ import annotations

import sys
from itertools import combinations, product
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from isthmus import registry
from isthmus.errors import OptionError, UnknownName
from isthmus.features import build
from isthmus.given import Given, reveal
from isthmus.interventions import Case, KFlip, Random, Uncertain, case, curve, points, policy
from isthmus.interventions.policies import askable, entropy, hardened, ranked, uniform
from isthmus.model import ConceptModel
from isthmus.space import ConceptSpace
from isthmus.testing import world
from isthmus.trace import crossed, trace
from tests.labels import gapless


def fitted(kinds: tuple[str, ...] = ("binary",), method: str = "cbm", **options: object) -> tuple[ConceptModel, object]:
    data = world(kinds)
    features = build("identity", dim=8)
    return registry.get(method).make(features, data.space, data.task, epochs=20, lr=1e-2, **options).fit(data), data


@pytest.mark.parametrize("rule", [Random(), Uncertain()])
def test_budgets_are_nested_counts_of_concepts(rule: Random | Uncertain) -> None:
    model, data = fitted(("binary", "categorical", "continuous"))
    c = data.test.c
    ask = askable(c, model.space)
    before = torch.zeros_like(ask)
    for budget in range(model.space.count + 1):
        mask = model.space.narrow(rule(Case(model, data.test.x, c, ask), budget).mask)
        assert bool((mask | ~before).all())
        assert bool((mask.sum(1) <= budget).all())
        if isinstance(rule, Uncertain):
            assert torch.equal(mask.sum(1), ask.sum(1).clamp(max=budget))
        before = mask
    assert torch.equal(before, ask)


def test_an_unknown_label_is_never_given() -> None:
    model, data = fitted(("binary", "categorical"))
    c = data.test.c.clone()
    c[:, 0] = float("nan")
    given = Random()(case(model, data.test.x, c), model.space.count)
    assert not bool(given.mask[:, 0].any())
    forbidden = torch.ones(len(c), model.space.count, dtype=torch.bool)
    forbidden[:, 1] = False
    line = curve(model, data.test.x, c, Random(), (0, model.space.count), allowed=forbidden, logits=True)
    assert line.logits is not None
    want = model(data.test.x, reveal(c, forbidden, model.space)).logits
    torch.testing.assert_close(line.logits[1], want)


def test_random_budgets_count_what_can_be_asked() -> None:
    """With labels missing, k corrections are k labels told, not k draws of which some are lost."""
    model, data = fitted()
    c = torch.nan_to_num(data.test.c, 0.0)
    c[::2, :3] = float("nan")
    ask = askable(c, model.space)
    told = Random().choose(Case(model, data.test.x, c, ask), 1)
    assert torch.equal(told.sum(1), torch.ones(len(c), dtype=torch.long))
    line = curve(model, data.test.x, c, Random(), (0, 1, 4))
    assert line.shares == (0.0, len(c) / int(ask.sum()), 1.0)


@pytest.mark.parametrize("rule", [Random(), Random(scope="batch"), Uncertain()])
def test_where_every_label_is_known_each_question_tells_one(rule: Random | Uncertain) -> None:
    model, data = fitted()
    c = torch.nan_to_num(data.test.c, 0.0)
    line = curve(model, data.test.x, c, rule, (0, 1, 3, 4), y=data.test.y)
    assert line.shares == (0.0, 1 / 4, 3 / 4, 1.0) and line.costs == (0.0, 1.0, 3.0, 4.0)


def test_a_random_order_is_that_of_the_row_however_rows_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = fitted()
    c = torch.nan_to_num(data.test.c, 0.0)
    whole = curve(model, data.test.x, c, Random(seed=3), (1, 2), logits=True).logits
    monkeypatch.setattr(sys.modules["isthmus.interventions.curve"], "CHUNK", 7)
    torch.testing.assert_close(curve(model, data.test.x, c, Random(seed=3), (1, 2), logits=True).logits, whole)
    first, second = uniform(0, 0, 10, 6), uniform(0, 5, 5, 6)
    assert torch.equal(first[5:], second)
    assert len(first.unique()) == 60
    assert not torch.equal(first, uniform(1, 0, 10, 6))


def test_random_orders_are_even() -> None:
    """Each concept comes first equally often: 4 standard errors of 4,000 draws."""
    first = ranked(uniform(0, 0, 4000, 5), torch.ones(4000, 5, dtype=torch.bool)).eq(0).float().mean(0)
    assert bool(((first - 0.2).abs() < 4 * (0.2 * 0.8 / 4000) ** 0.5).all())


def test_curves_without_any_label_are_left_out() -> None:
    model, data = fitted()
    made = trace(model, data.test.replace(c=torch.full_like(data.test.c, float("nan"))))
    assert made.curves == {}


def test_groups_are_asked_together() -> None:
    model, data = fitted()
    c = torch.nan_to_num(data.test.c, 0.0)
    ask = askable(c, model.space)
    mask = Random(level="group")(Case(model, data.test.x, c, ask), 1).mask
    assert torch.equal(mask[:, 0], mask[:, 1])
    assert set(mask.sum(1).tolist()) == {1, 2}


def test_uncertain_asks_the_least_certain_first() -> None:
    space = world(("binary", "categorical")).space
    values = torch.tensor([[0.9, 0.55, 0.1, 0.99, 0.34, 0.33, 0.33, 0.95, 0.05]])
    order = entropy(values, space)[0].argsort(descending=True).tolist()
    assert order[:2] == [4, 1]


def test_the_curve_ends_at_the_truth_and_starts_at_nothing() -> None:
    model, data = fitted()
    c = torch.nan_to_num(data.test.c, 0.0)
    line = curve(model, data.test.x, c, Random(), points(4), logits=True)
    assert line.logits is not None
    torch.testing.assert_close(line.logits[0], model(data.test.x).logits)
    whole = Given(c, torch.ones_like(c, dtype=torch.bool))
    torch.testing.assert_close(line.logits[-1], model(data.test.x, whole).logits)


def test_points_keep_both_ends() -> None:
    assert points(4) == (0, 1, 2, 3, 4)
    many = points(112)
    assert many[0] == 0
    assert many[-1] == 112
    assert len(many) <= 21


def brute_flip(
    model: ConceptModel,
    z: Tensor,
    c: Tensor,
    budget: int,
    threshold: float,
    ask: Tensor | None = None,
    held: Given | None = None,
) -> Tensor:  # fmt: skip
    """The published procedure row by row, subset by subset; what is held is certain, shown as it is and asked no more."""
    answers = []
    for row in range(len(z)):
        one = z[row : row + 1]
        known = None if held is None else Given(held.values[row : row + 1], held.mask[row : row + 1])
        p = model(one, known).concepts.values[0].clamp(1e-9, 1 - 1e-9).tolist()
        hard = [1.0 if v >= 0.5 else 0.0 for v in p]
        can = [True] * len(p) if ask is None else ask[row].tolist()
        if known is not None:
            hard = [known.values[0, j].item() if known.mask[0, j] else h for j, h in enumerate(hard)]
            can = [a and not bool(known.mask[0, j]) for j, a in enumerate(can)]

        def decide(filled: list[float], one: Tensor = one) -> int:
            given = Given(torch.tensor([filled]), torch.ones(1, len(filled), dtype=torch.bool))
            return int(model(one, given).logits.argmax())

        base, best, chosen = decide(hard), 0.0, ()
        for size in range(1, budget + 1):
            for subset in combinations([j for j, a in enumerate(can) if a], size):
                chance = 0.0
                for fill in product((0.0, 1.0), repeat=size):
                    trial, weight = list(hard), 1.0
                    for j, a in zip(subset, fill, strict=True):
                        trial[j], weight = a, weight * (p[j] if a else 1 - p[j])
                    chance += weight * (decide(trial) != base)
                if chance > best + 1e-9:
                    best, chosen = chance, subset
        if best >= threshold:
            for j in chosen:
                hard[j] = float(c[row, j])
        answers.append(decide(hard))
    return torch.tensor(answers)


@pytest.mark.parametrize("method", ["cbm", "cem"])
@pytest.mark.parametrize("budget", [1, 2, 3])
def test_kflip_agrees_with_brute_force(method: str, budget: int) -> None:
    model, data = fitted(method=method)
    z, c = data.test.x[:20], torch.nan_to_num(data.test.c[:20], 0.0)
    ask = torch.ones(20, 4, dtype=torch.bool)
    given = KFlip(threshold=0.15)(Case(model, z, c, ask), budget)
    got = model(z, given).logits.argmax(1)
    assert torch.equal(got, brute_flip(model, z, c, budget, 0.15))


@pytest.mark.parametrize("method", ["cbm", "cem", "autoregressive"])
@pytest.mark.parametrize("soft", [False, True])
def test_kflip_keeps_what_was_told_and_asks_only_what_it_can(method: str, soft: bool) -> None:
    """By brute force: some concepts are told before, others cannot be asked about, row by row."""
    data = world(("binary",))
    model = registry.get(method).make(build("identity", dim=8), data.space, data.task, epochs=60, lr=3e-2).fit(data)
    z, c = data.test.x, torch.nan_to_num(data.test.c, 0.0)
    draw = torch.rand(c.shape, generator=torch.Generator().manual_seed(1))
    told, ask = draw < 0.3, draw < 0.75
    if method == "autoregressive":  # what is told moves what is read of the others
        model.bottleneck.earlier.mul_(9.0)  # type: ignore[operator]
        model.bottleneck.features.weight.mul_(0.3)  # type: ignore[union-attr, operator]
    before = 0.05 + 0.9 * (1 - c) if soft else 1 - c  # told, and not what the labels say: asking again would show
    held = Given(before, told)
    rows = Case(model, z, c, ask, held=held)
    for budget in (0, 1, 2, 4):
        chosen = KFlip(threshold=0.02).choose(rows, budget)
        assert not bool((chosen & (told | ~ask)).any())
        given = KFlip(threshold=0.02).give(rows, chosen)
        torch.testing.assert_close(given.values[told], before[told])
        want = brute_flip(model, z, c, budget, 0.02, ask, held)
        assert torch.equal(model(z, given).logits.argmax(1), want)
    assert bool(KFlip(threshold=0.02).choose(rows, 2).any())


def test_kflip_weighs_what_was_told_softly_as_it_is() -> None:
    """Class 0 where both are present; of the first .95 was told, so the second decides. As 0 it would decide nothing."""
    model, data = fitted()
    assert isinstance(model.head.map, nn.Linear)
    model.head.map.weight.zero_()
    model.head.map.weight[0, :2] = 10.0
    model.head.map.bias.copy_(torch.tensor([-15.0, 0.0, -10.0]))
    c = torch.nan_to_num(data.test.c, 0.0)
    first = torch.zeros_like(c, dtype=torch.bool)
    first[:, 0] = True
    held = Given(torch.full_like(c, 0.95), first)
    chosen = KFlip(threshold=0.0).choose(Case(model, data.test.x, c, torch.ones_like(first), held=held), 2)
    assert bool(chosen[:, 1].all()) and int(chosen.sum()) == len(c)


def test_kflip_never_asks_what_cannot_help() -> None:
    """Concepts that the head does not read add nothing to the chance of a flip, so no larger set is chosen for rounding."""
    model, data = fitted()
    assert isinstance(model.head.map, nn.Linear)
    with torch.no_grad():  # class 0 where the first concept is present, or the second, else class 1
        model.head.map.weight.zero_()
        model.head.map.weight[0, :2] = 5.0
        model.head.map.bias.fill_(-10.0)
        model.head.map.bias[:2] = torch.tensor([-2.5, 0.0])
    c = torch.nan_to_num(data.test.c, 0.0)
    ask = torch.ones(len(c), 4, dtype=torch.bool)
    chosen = KFlip(threshold=0.0).choose(Case(model, data.test.x, c, ask), 4)
    assert chosen[:, :2].any()
    assert not chosen[:, 2:].any()


def test_kflip_holds_the_rest_hard_and_needs_binary_concepts() -> None:
    model, data = fitted()
    ask = torch.ones(len(data.test), 4, dtype=torch.bool)
    rows = Case(model, data.test.x, gapless(data.test.c, data.space), ask)
    given = KFlip().give(rows, torch.zeros_like(ask))
    assert torch.equal(given.values, hardened(model, data.test.x).values) and bool(given.mask.all())
    other, mixed = fitted(("binary", "categorical"))
    assert KFlip().unfit(model, 4) is None
    wide = SimpleNamespace(space=ConceptSpace.binary([f"c{k}" for k in range(112)]))
    assert "234,248" in (KFlip().unfit(wide, 3) or "")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="binary concepts only"):
        KFlip()(case(other, mixed.test.x, mixed.test.c), 1)


def test_policies_by_name() -> None:
    assert isinstance(policy("ucp"), Uncertain)
    with pytest.raises(UnknownName, match="did you mean 'random'"):
        policy("randm")


def test_bypass_is_zero_when_sealed_and_not_when_features_pass() -> None:
    sealed, data = fitted()
    assert crossed(sealed, data.test.x, data.test.c).sum() == 0
    open_, _ = fitted(method="sidechannel")
    with torch.no_grad():
        open_.head.side.weight.mul_(20)
    assert crossed(open_, data.test.x, data.test.c).mean() > 0.2


def test_a_trace_of_unlabelled_concepts_has_no_curve() -> None:
    model, data = fitted(method="random_concepts")
    made = trace(model, data.test)
    assert made.c is None
    assert made.curves == {}


def test_kflip_believes_no_card_that_an_option_opens() -> None:
    """``realigned(base='cem')`` answers by the features too: one table for all rows would be wrong."""
    data = world(("binary",))
    made = registry.get("realigned").make(build("identity", dim=8), data.space, data.task, base="cem", epochs=10, lr=1e-2)
    model = made.fit(data)
    rows = case(model, data.test.x, gapless(data.test.c, data.space))
    alone = torch.cat([KFlip().choose(rows.part(slice(i, i + 1)), 2) for i in range(len(data.test))])
    assert torch.equal(KFlip().choose(rows, 2), alone)


def test_kflip_at_budget_0_is_the_model_without_corrections() -> None:
    """Its concepts are held hard from 1 on, also where none is corrected; what was told before stays at 0 too."""
    model, data = fitted(method="cem")
    c = gapless(data.test.c, data.space)
    rule = KFlip(threshold=1.0)
    for logits in (False, True):
        line = curve(model, data.test.x, c, rule, (0, 1), y=data.test.y, logits=logits)
        assert torch.equal(line.answers[0], model.answer(data.test.x).logits.argmax(1))
        assert torch.equal(line.answers[1], model.answer(data.test.x, hardened(model, data.test.x)).logits.argmax(1))
        assert not torch.equal(line.answers[0], line.answers[1]) and line.shares == (0.0, 0.0)
    ask = torch.ones(len(c), 4, dtype=torch.bool)
    assert not bool(rule(Case(model, data.test.x, c, ask), 0).mask.any())
    held = Given(1 - c, ask & (torch.arange(4) == 2))
    again = rule(Case(model, data.test.x, c, ask, held=held), 0)
    assert torch.equal(again.mask, held.mask) and torch.equal(again.values, held.values)
