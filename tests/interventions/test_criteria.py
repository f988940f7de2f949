"""Every criterion against enumeration on models that answer themselves, for all kinds of concepts, tasks and heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus import registry
from isthmus.bottlenecks.linear import LinearBottleneck
from isthmus.errors import DataError, OptionError, UnknownName
from isthmus.features import build
from isthmus.given import Given
from isthmus.heads.linear import LinearHead
from isthmus.interventions import (
    POLICIES,
    Case,
    CooP,
    Expected,
    Fixed,
    Greedy,
    Learned,
    Look,
    Random,
    Uncertain,
    Wrong,
    case,
    curve,
    policy,
)
from isthmus.interventions import look as looking
from isthmus.interventions.policies import NEVER, entropy, readings
from isthmus.model import ConceptModel, Output, feedforward
from isthmus.testing import world

ROWS = 6
MODELS: dict[str, dict[str, Any]] = {
    "cbm": {},
    "cbm logit": {"method": "cbm", "reading": "logit", "mode": "sequential"},
    "cbm mlp": {"method": "cbm", "head": "mlp"},
    "cem": {},
    "cem mlp": {"method": "cem", "head": "mlp"},
    "sidechannel": {},
}
MOVING: dict[str, dict[str, Any]] = {  # an answer moves the concepts nobody gave, or the model answers in many steps
    "scbm": {"covariance": "global", "draws": 20},
    "ecbm": {"width": 16},
    "autoregressive": {"draws": 20},
    "realigned": {"hidden": 16, "layers": 1, "batch_size": 32},
}
MODELS |= MOVING


def filled(c: Tensor, space: ConceptSpace) -> Tensor:
    """Labels with the unknown as absent, an unknown state as the first."""
    c = torch.nan_to_num(c)
    for index in space.blocks:
        c[:, index[:, 0]] += 1 - c[:, index].sum(-1)
    return c


def whole(model: ConceptModel, z: Tensor, given: Given | None) -> Output:
    """A solver that is feedforward and does not say so: nothing may be put together."""
    return feedforward(model, z, given)


def made(name: str, kinds: tuple[str, ...] = ("binary",), task: str = "classes") -> tuple[ConceptModel, Any]:
    options = dict(MODELS[name])
    data = world(kinds, task)
    method = registry.get(options.pop("method", name))
    options = {k: v for k, v in options.items() if k in method.options}
    model = method.make(build("identity", dim=8), data.space, data.task, epochs=15, lr=1e-2, **options).fit(data)
    if name == "scbm":  # the world's concepts are independent of each other: here what goes with what is put in
        model.bottleneck.raw.add_(3.0)  # type: ignore[operator]
    elif name == "autoregressive":
        model.bottleneck.earlier.mul_(9.0)  # type: ignore[operator]
        model.bottleneck.features.weight.mul_(0.3)  # type: ignore[union-attr, operator]
    return model, data


def held_first(model: ConceptModel, c: Tensor, told: int = 1) -> Given:
    """Concept ``told`` of every row given as it is."""
    mask = torch.zeros_like(c, dtype=torch.bool)
    mask[:, model.space.slices[told]] = True
    return Given(c, mask)


def outcome(model: ConceptModel, z: Tensor, held: dict[int, Tensor], m: int, state: Tensor) -> Tensor:
    """Logits (Y,) of one row when the concepts held, and concept m in ``state``, are given."""
    values, mask = torch.zeros(1, len(model.space)), torch.zeros(1, len(model.space), dtype=torch.bool)
    for index, value in {**held, m: state}.items():
        values[0, model.space.slices[index]] = value
        mask[0, model.space.slices[index]] = True
    return model.answer(z[None], Given(values, mask)).logits[0]


def states(model: ConceptModel, m: int) -> list[Tensor]:
    concept = model.space.concepts[m]
    if concept.kind == "categorical":
        return list(torch.eye(concept.width))
    low, high = (0.0, 1.0) if concept.kind == "binary" else (concept.low, concept.high)
    return [torch.tensor([low]), torch.tensor([high])]


def chances(model: ConceptModel, read: Tensor, m: int) -> list[float]:
    concept, p = model.space.concepts[m], read[model.space.slices[m]]
    if concept.kind == "categorical":
        return p.tolist()
    share = float(p) if concept.kind == "binary" else (float(p) - concept.low) / (concept.high - concept.low)
    share = min(max(share, 0.0), 1.0)
    return [1 - share, share]


def entropy_of(q: np.ndarray) -> float:
    return float(-(q * np.log(q)).sum())


def brute(model: ConceptModel, z: Tensor, criterion: str, held: dict[int, Tensor]) -> list[float]:
    """Scores of one row, concept by concept and state by state, from the model's own answers in double precision."""
    values, mask = torch.zeros(1, len(model.space)), torch.zeros(1, len(model.space), dtype=torch.bool)
    for index, value in held.items():
        values[0, model.space.slices[index]], mask[0, model.space.slices[index]] = value, True
    now = model.answer(z[None], Given(values, mask))
    read = model.bottleneck.read(now.concepts.values)[0]
    p = now.logits[0].double().softmax(0).numpy()
    found = []
    for m in range(model.space.count):
        score = 0.0
        mean = np.zeros_like(p)
        for chance, state in zip(chances(model, read, m), states(model, m), strict=True):
            q = outcome(model, z, held, m, state).double().softmax(0).numpy()
            mean += chance * q
            score += chance * (float((q * np.log(q / p)).sum()) if criterion == "ectp" else -entropy_of(q))
        if criterion == "eudtp":
            score += entropy_of(p)
        if criterion == "coop":
            own = np.array(chances(model, read, m))
            concept = model.space.concepts[m]
            h = 0.0 if concept.kind == "continuous" else entropy_of(own.clip(1e-12)) / np.log(len(own))
            score = h + abs(mean[p.argmax()] - p[p.argmax()])
        found.append(score)
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kinds", [("binary",), ("binary", "categorical"), ("binary", "continuous")], ids="+".join)
@pytest.mark.parametrize("opaque", [False, True])
def test_expectations_match_enumeration(name: str, kinds: tuple[str, ...], opaque: bool) -> None:
    if "continuous" in kinds and name.startswith(("cem", "ecbm")):
        pytest.skip("a mixture needs probabilities, a state an energy")
    if opaque and name in MOVING:
        pytest.skip("the model is asked anew as it is")
    model, data = made(name, kinds)
    if opaque:
        model.solver = whole
    z, c = data.test.x[:ROWS], filled(data.test.c[:ROWS], model.space)
    rows = case(model, z, c, y=data.test.y[:ROWS])
    assert rows.look.composes == (not opaque and name not in MOVING)
    for held, known in ((None, {}), (held_first(model, c), {1})):
        given = [{m: c[r, model.space.slices[m]] for m in known} for r in range(ROWS)]
        for rule, criterion in (
            (Expected(criterion="ectp"), "ectp"),
            (Expected(criterion="eudtp"), "eudtp"),
            (CooP(), "coop"),
        ):
            got = rule.scores(rows, held)
            want = torch.tensor([brute(model, z[r], criterion, given[r]) for r in range(ROWS)])
            free = [m for m in range(model.space.count) if m not in known]
            torch.testing.assert_close(got[:, free].double(), want[:, free].double(), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kinds", [("binary",), ("binary", "categorical")], ids="+".join)
def test_what_is_read_is_read_with_what_is_told(name: str, kinds: tuple[str, ...]) -> None:
    """UCP and LCP after an answer: by the model's own values then, row by row; scored anew they ask in that order."""
    model, data = made(name, kinds)
    z, c = data.test.x[:ROWS], filled(data.test.c[:ROWS], model.space)
    rows, held, space = case(model, z, c), held_first(model, c), model.space
    now = torch.cat([readings(model, z[r : r + 1], held.rows(torch.tensor([r]))) for r in range(ROWS)])
    free = [m for m in range(space.count) if m != 1]
    for rule in (Uncertain(), Uncertain(level="group"), Uncertain(measure="margin", level="group"), Wrong()):
        if rule.unfit(model, 1):
            continue
        want = torch.zeros(ROWS, space.count)
        for m, part in enumerate(space.slices):
            p, width = now[:, part], part.stop - part.start
            if isinstance(rule, Wrong):
                want[:, m] = (p - c[:, part]).square().sum(1) / min(width, 2)
            elif space.plain and rule.level == "concept":
                want[:, m] = -(p[:, 0] - 0.5).abs()
            elif rule.measure == "margin":
                want[:, m] = 1 / (p[:, 0] - 0.5).square()
            else:
                q = (torch.cat([1 - p, p], 1) if width == 1 else p).double().clamp(1e-12)
                want[:, m] = -(q * q.log()).sum(1) / np.log(q.shape[1])
        torch.testing.assert_close(rule.scores(rows, held)[:, free].float(), want[:, free], atol=1e-4, rtol=1e-3)
    if name in MOVING and space.plain:
        before = readings(model, z)
        assert float((now - before)[:, free].abs().max()) > 0.01, "the others must move, or nothing is shown"


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("base", ["ucp", "lcp", "coop", "ectp"])
def test_scored_anew_each_question_follows_the_answers_so_far(name: str, base: str) -> None:
    model, data = made(name)
    z, c = data.test.x[:ROWS], filled(data.test.c[:ROWS], model.space)
    place = policy(f"{base}:rescored").places(case(model, z, c), 4)  # type: ignore[union-attr]
    for r in range(ROWS):
        asked: list[int] = []
        for _ in range(4):
            known = {m: c[r, m : m + 1] for m in asked}
            if base in ("coop", "ectp"):
                score = brute(model, z[r], base, known)
            else:
                mask = torch.tensor([[m in asked for m in range(4)]])
                p = model.answer(z[r : r + 1], Given(c[r : r + 1], mask)).concepts.values[0]
                score = (-(p - 0.5).abs() if base == "ucp" else (p - c[r]).square()).tolist()
            best = int(place[r].tolist().index(len(asked)))
            assert score[best] >= max(s for m, s in enumerate(score) if m not in asked) - 1e-4, (r, asked)
            asked.append(best)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("level", ["concept", "group"])
def test_greedy_matches_enumeration(name: str, level: str) -> None:
    model, data = made(name)
    z, c, y = data.test.x[:ROWS], filled(data.test.c[:ROWS], model.space), data.test.y[:ROWS]
    units = list(model.space.groups.values()) if level == "group" else [(m,) for m in range(model.space.count)]
    place = Greedy(level=level).places(case(model, z, c, y=y), len(units))  # type: ignore[arg-type]
    for r in range(ROWS):
        asked: list[int] = []
        for step in range(len(units)):
            best, most = -1, -np.inf
            for u, members in enumerate(units):
                if members[0] in asked:
                    continue
                told = {m: c[r, model.space.slices[m]] for m in (*asked, *members)}
                some = next(iter(told))
                value = float(outcome(model, z[r], told, some, told[some]).log_softmax(0)[y[r]])
                if value > most + 1e-6:
                    best, most = u, value
            assert {m for m in range(model.space.count) if int(place[r, m]) == step} == set(units[best]), (r, step)
            asked += units[best]


@pytest.mark.parametrize("task", ["labels", "value"])
def test_other_tasks_are_scored_or_refused_by_name(task: str) -> None:
    if task == "labels":
        model, data = made("cbm", task=task)
    else:  # no method of ours takes one yet
        data = world(("binary",), "value")
        model = ConceptModel(
            build("identity", dim=8), LinearBottleneck(8, data.space), LinearHead(data.space, data.task), data.space, data.task
        ).eval()
    rows = case(model, data.test.x, torch.nan_to_num(data.test.c), y=data.test.y)
    for name in ("ectp", "eudtp", "coop", "cctp", "greedy", "ucp", "lcp"):
        rule = policy(name)
        reason = rule.unfit(model, 2)
        assert (reason is not None) == (task == "value" and name in ("eudtp", "coop")), name
        if reason is None:
            chosen = rule.choose(rows, 2)
            assert chosen.sum(1).tolist() == [2] * len(chosen), name


def test_contributions_decide_cctp() -> None:
    """|value x weight|, summed over classes; for logits as values, the logit's."""
    for name in ("cbm", "cbm logit"):
        model, data = made(name)
        rows = case(model, data.test.x, torch.nan_to_num(data.test.c))
        want = rows.look.concepts.values.abs() * model.head.map.weight.abs().sum(0)  # type: ignore[union-attr]
        torch.testing.assert_close(Expected(criterion="cctp").scores(rows, None).float(), want)


def test_ucp_by_margin_is_the_published_score_and_groups_take_the_mean() -> None:
    model, data = made("cbm")
    rows = case(model, data.test.x, torch.nan_to_num(data.test.c))
    p = rows.look.read.double()
    got = Uncertain(measure="margin", level="group").scores(rows, None)
    torch.testing.assert_close(got, 1 / (p - 0.5).square())
    single = Uncertain().places(rows, 4)
    assert torch.equal(single, Uncertain(measure="margin").places(rows, 4))
    assert torch.equal(single.argsort(dim=1), entropy(rows.look.read, model.space).argsort(dim=1, descending=True))
    for concept_score in (got, rows.look.read):
        pooled = Uncertain(level="group").pooled(concept_score, rows)
        torch.testing.assert_close(pooled[:, 0], concept_score[:, :2].mean(1))
        most = Uncertain(level="group", pool="max").pooled(concept_score, rows)
        torch.testing.assert_close(most[:, 0], concept_score[:, :2].amax(1))
    few = Case(model, rows.z, rows.c, rows.askable.clone().index_fill_(1, torch.tensor([0]), False))
    torch.testing.assert_close(
        Uncertain(level="group").pooled(got, few)[:, 0], got[:, 1]
    )  # what cannot be asked weighs nothing
    certain = Uncertain(measure="margin").scores(Case(model, rows.z[:0], rows.c[:0], rows.askable[:0]), None)
    assert certain.shape == (0, 4)


def test_lcp_asks_the_most_wrong_first() -> None:
    model, data = made("cbm")
    c = torch.nan_to_num(data.test.c)
    rows = case(model, data.test.x, c)
    place = Wrong().places(rows, 4)
    want = (rows.look.read - c).square().argsort(dim=1, descending=True)
    assert torch.equal(place.argsort(dim=1), want)
    assert Wrong.oracle
    assert Greedy.oracle
    assert not Uncertain.oracle


def test_a_pooled_order_gives_some_rows_more_than_others() -> None:
    """Step t takes the next n pairs of row and concept, and no pair twice."""
    model, data = made("cbm")
    rows = case(model, data.test.x, torch.nan_to_num(data.test.c))
    n, m = rows.askable.shape
    score = Uncertain().scores(rows, None)
    place = Uncertain(scope="batch").places(rows, m)
    for k in range(m + 1):
        chosen = place < k
        assert int(chosen.sum()) == k * n
        if 0 < k < m:
            assert float(score[chosen].min()) >= float(score[~chosen].max())
    assert len({int(s) for s in (place < 1).sum(1)}) > 1
    grouped = Uncertain(scope="batch", level="group").places(rows, 3)
    assert torch.equal(grouped[:, 0], grouped[:, 1])
    with pytest.raises(UnknownName):
        policy("ucp:btach")
    assert policy("ucp:group:margin") == Uncertain(level="group", measure="margin")
    assert policy("ucp:group:max") == Uncertain(level="group", pool="max")
    assert policy("ectp:group:max") == Expected(level="group", pool="max")
    for wrong in ("greedy:max", "learned:max", "random:max", "ectp:margin", "kflip:max"):
        with pytest.raises(OptionError, match="knows no (pool|measure); leave"):
            policy(wrong)
    assert "row by row" in (CooP(scope="batch").unfit(model, 1) or "")


@pytest.mark.parametrize("name", ["ucp", "ectp", "eudtp:rescored", "coop", "lcp", "greedy", "random", "cctp:batch"])
def test_what_cannot_be_seen_is_left_out_at_every_step(name: str) -> None:
    """Not only at the first: the mask is never overwritten by the answers."""
    model, data = made("cbm")
    c = torch.nan_to_num(data.test.c)
    visible = torch.ones_like(c, dtype=torch.bool)
    visible[:, 2] = False
    visible[::2, 0] = False
    before = (visible.clone(), c.clone())
    rows = case(model, data.test.x, c, y=data.test.y, allowed=visible)
    place = policy(name).places(rows, 4)  # type: ignore[union-attr]
    assert bool((place[~visible] == NEVER).all())
    assert bool((place[visible] < NEVER).all())
    line = curve(model, data.test.x, c, policy(name), (0, 1, 2, 3, 4), y=data.test.y, allowed=visible, logits=True)
    assert line.logits is not None
    want = model.answer(data.test.x, Given(c, visible)).logits
    torch.testing.assert_close(line.logits[-1], want, atol=1e-5, rtol=1e-5)
    assert torch.equal(visible, before[0])
    assert torch.equal(c, before[1])


def test_ties_are_asked_in_order_and_rows_do_not_share_their_questions() -> None:
    """Each row has its own concepts (not the union of all rows'), and of equal scores the first column comes first."""
    model, data = made("cbm")
    rows = case(model, data.test.x, torch.nan_to_num(data.test.c))
    even = Random()
    place = even.placed(torch.zeros(len(rows.z), 4), rows)
    assert torch.equal(place, torch.arange(4).expand(len(rows.z), -1))
    chosen = Wrong().choose(rows, 1)
    assert chosen.sum(1).tolist() == [1] * len(rows.z)
    assert int(chosen.any(0).sum()) > 1


@pytest.mark.parametrize("name", ["cbm", "cbm logit"])
@pytest.mark.parametrize("level", ["concept", "group"])
def test_the_quick_curve_is_the_slow_one(name: str, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank-1 updates say which rows are right, exactly as the model itself does; with labels unknown, too."""
    model, data = made(name)
    c = data.test.c.clone()
    c[1::3, 1] = float("nan")
    budgets = tuple(range(5)) if level == "concept" else tuple(range(4))
    for rule in (Random(level=level), Expected(level=level), Uncertain(level=level)):  # type: ignore[arg-type]
        quick = curve(model, data.test.x, c, rule, budgets, y=data.test.y)
        slow = curve(model, data.test.x, c, rule, budgets, y=data.test.y, logits=True)
        assert quick.logits is None
        assert torch.equal(quick.answers == data.test.y, slow.answers == data.test.y)
        assert quick.shares == slow.shares
    with monkeypatch.context() as patch:
        patch.setattr(looking, "composable", lambda *_: False)
        plain = curve(model, data.test.x, c, Random(level=level), budgets, logits=True)  # type: ignore[arg-type]
    assert plain.logits is not None
    torch.testing.assert_close(
        plain.logits,
        curve(model, data.test.x, c, Random(level=level), budgets, logits=True).logits,  # type: ignore[arg-type]
        atol=1e-5,
        rtol=1e-5,
    )


def test_composition_is_tried_not_believed() -> None:
    """A bottleneck that moves what nobody gave is asked itself."""
    model, data = made("cbm")
    assert Look(model, data.test.x).composes
    inner = model.bottleneck.forward

    def moving(z: Tensor, given: Given | None = None) -> Any:
        concepts = inner(z, given)
        if given is not None:
            share = given.mask.float().mean(1, keepdim=True)
            concepts.values = torch.where(given.mask, concepts.values, concepts.values * (1 - share))
        return concepts

    model.bottleneck.forward = moving  # type: ignore[method-assign]
    look = Look(model, data.test.x)
    assert not look.composes
    c = torch.nan_to_num(data.test.c)
    mask = torch.zeros_like(c, dtype=torch.bool)
    mask[:, 0] = True
    torch.testing.assert_close(look.answer(Given(c, mask)), model.answer(data.test.x, Given(c, mask)).logits)


def test_a_person_who_errs_tells_the_wrong_value_so_often() -> None:
    from isthmus.interventions.person import answers

    data = world(("binary", "categorical"), rows=4000)
    c, space = data.train.c, data.space
    told = answers(c, space, 0.7, seed=1)
    for part in space.slices:
        known = ~c[:, part.start].isnan()
        wrong = (told[known][:, part] != c[known][:, part]).any(1).float().mean()
        assert abs(float(wrong) - 0.3) < 4 * (0.21 / int(known.sum())) ** 0.5
        if part.stop - part.start > 1:
            assert bool((told[known][:, part].sum(1) == 1).all())
    assert torch.equal(told.isnan(), c.isnan())
    assert answers(c, space, 1.0) is c
    assert torch.equal(answers(c[5:], space, 0.7, seed=1, first=5).nan_to_num(), told[5:].nan_to_num())
    with pytest.raises(OptionError, match="0 to 1"):
        answers(c, space, 1.2)
    model, small = made("cbm")
    labels = torch.nan_to_num(small.test.c)
    right, half = (curve(model, small.test.x, labels, Random(), (0, 4), competence=q, logits=True) for q in (1.0, 0.0))
    assert right.logits is not None
    assert half.logits is not None
    whole_wrong = model.answer(small.test.x, Given(1 - labels, torch.ones_like(labels, dtype=torch.bool))).logits
    torch.testing.assert_close(half.logits[1], whole_wrong, atol=1e-5, rtol=1e-5)


def test_costs_are_counted_and_coop_avoids_what_is_dear() -> None:
    from dataclasses import replace

    model, data = made("cbm")
    dear = tuple(replace(concept, cost=100.0 if m == 0 else 1.0) for m, concept in enumerate(model.space.concepts))
    model.space = replace(model.space, concepts=dear)
    c = torch.nan_to_num(data.test.c)
    rows = case(model, data.test.x, c)
    assert not bool(CooP(gamma=1.0).choose(rows, 3)[:, 0].any())
    assert bool(CooP(gamma=0.0).choose(rows, 3)[:, 0].any())
    assert curve(model, data.test.x, c, Random(), (0, 4)).costs == (0.0, 103.0)


@pytest.mark.parametrize("scope", ["concept", "group"])
def test_the_dearest_concept_is_asked_last_and_costs_nothing_where_they_do_not_count(scope: str) -> None:
    """1e308 is infinite as float32, and 0 times infinite is no number, which is the largest of all."""
    from dataclasses import replace

    model, data = made("cbm")
    c = torch.nan_to_num(data.test.c)
    free = CooP(level=scope).places(case(model, data.test.x, c), 4)  # type: ignore[arg-type]
    dear = tuple(replace(concept, cost=1e308 if m < 2 else 1.0) for m, concept in enumerate(model.space.concepts))
    model.space = replace(model.space, concepts=dear)
    rows = case(model, data.test.x, c)
    assert torch.equal(CooP(level=scope, gamma=0.0).places(rows, 4), free)  # type: ignore[arg-type]
    for gamma in (1.0, 3.0):
        last = CooP(level=scope, gamma=gamma).places(rows, 4)  # type: ignore[arg-type]
        assert bool((last[:, :2].amin(1) > last[:, 2:].amax(1)).all()) and bool((last < NEVER).all())
    costs = curve(model, data.test.x, c, policy("kflip"), (0, 1)).costs
    assert costs[0] == 0.0


def test_a_fixed_order_and_one_found_on_validation() -> None:
    model, data = made("cbm")
    c = torch.nan_to_num(data.test.c)
    rows = case(model, data.test.x, c)
    assert torch.equal(Fixed(order=(2, 0)).places(rows, 4), torch.tensor([1, 2, 0, 3]).expand(len(c), -1))
    c[0, 2] = float("nan")
    assert Fixed(order=(2, 0)).places(case(model, data.test.x, c), 4)[0].tolist() == [0, 1, NEVER, 2]
    data = world(("binary",), rows=1500)  # so many that gains differ
    model = registry.get("cbm").make(build("identity", dim=8), data.space, data.task, epochs=15, lr=1e-2).fit(data)
    held = (data.validation.x, torch.nan_to_num(data.validation.c), data.validation.y)
    found = Fixed().fitted(model, *held, held=held)
    gains = []
    for m in range(4):
        mask = torch.zeros_like(held[1], dtype=torch.bool)
        mask[:, m] = True
        gains.append(float((model.answer(held[0], Given(held[1], mask)).logits.argmax(1) == held[2]).float().mean()))
    assert [gains[m] for m in found.order] == sorted(gains, reverse=True) and len(set(gains)) == 4
    assert "names 9" in (Fixed(order=(9,)).unfit(model, 1) or "")


def test_a_policy_that_imitates_the_oracle_beats_chance() -> None:
    """On rows it has not seen, the imitation asks what the oracle asks far more often than one in four."""
    data = world(("binary",), rows=1500)
    model = registry.get("cbm").make(build("identity", dim=8), data.space, data.task, epochs=15, lr=1e-2).fit(data)
    train = (data.train.x, torch.nan_to_num(data.train.c), data.train.y)
    learned = Learned(states=1500, epochs=60).fitted(model, *train, held=train)
    rows = case(model, data.test.x, torch.nan_to_num(data.test.c), y=data.test.y)
    same = (learned.places(rows, 1) == 0) == (Greedy().places(rows, 1) == 0)
    assert float(same.all(1).float().mean()) > 0.5
    with pytest.raises(DataError, match="learnt none"):
        Learned().places(rows, 1)


@pytest.mark.parametrize("level", ["concept", "group"])
def test_the_imitation_is_never_shown_as_target_what_is_told_or_cannot_be_asked(level: str) -> None:
    model, data = made("cbm")
    c = data.train.c.clone()
    c[:, 1] = float("nan")
    rows = case(model, data.train.x, c, y=data.train.y)
    _, targets, opens = Learned(level=level, states=600)._examples(rows)  # type: ignore[arg-type]
    assert len(targets) > 300 and bool(opens.gather(1, targets[:, None]).all())
    assert len(opens.unique(dim=0)) > 3
    if level == "concept":
        assert not bool(opens[:, 1].any())


@pytest.mark.parametrize("name", [name for name in POLICIES if name not in ("kflip", "learned")])
def test_places_do_not_depend_on_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = made("cem")
    held = (data.validation.x, torch.nan_to_num(data.validation.c), data.validation.y)
    rule = policy(name).fitted(model, *held, held=held)
    rows = case(model, data.test.x, torch.nan_to_num(data.test.c), y=data.test.y)
    want = rule.places(rows, 4)  # type: ignore[union-attr]
    monkeypatch.setattr("isthmus.interventions.criteria.ROWS", 7)
    monkeypatch.setattr("isthmus.interventions.look.ROOM", 50)
    again = case(model, data.test.x, torch.nan_to_num(data.test.c), y=data.test.y)
    assert torch.equal(rule.places(again, 4), want)  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(5))
def test_a_person_errs_no_matter_when_asked(seed: int) -> None:
    """The random order and the errors are drawn apart: right answers do not all come first."""
    from isthmus.interventions.person import answers

    data = world(("binary",), rows=600)
    model = registry.get("cbm").make(build("identity", dim=8), data.space, data.task, epochs=1).fit(data)
    c = torch.nan_to_num(data.train.c)
    right = answers(c, data.space, 0.5, seed) == c
    place = Random(seed=seed).places(case(model, data.train.x, c), data.space.count)
    early, late = (float(right[place == k].float().mean()) for k in (0, data.space.count - 1))
    assert abs(early - 0.5) < 0.12 and abs(late - 0.5) < 0.12
    sorted_rows = (right.gather(1, place.argsort(1)).int().diff(dim=1) <= 0).all(1)
    assert not bool(sorted_rows.all())


@pytest.mark.parametrize(
    ("name", "counts", "said"),
    [
        ("coop:batch", (0, 1), "row by row"),
        ("greedy:batch", (0, 1), "row by row"),
        ("ucp", (-1, 2), "at least 0"),
        ("ucp", (), "whole numbers"),
        ("ucp", (0.5, 1), "whole numbers"),
        ("ucp", (True,), "whole numbers"),
        ("static", (0, 1), "its order is found on validation rows"),
    ],
)
def test_a_curve_that_cannot_be_asked_is_refused(name: str, counts: tuple[Any, ...], said: str) -> None:
    model, data = made("cbm")
    with pytest.raises(OptionError, match=said):
        curve(model, data.test.x, data.test.c, policy(name), counts, y=data.test.y)


@pytest.mark.parametrize("name", ["ucp", "random:group", "kflip", "greedy", "ucp:batch", "static"])
@pytest.mark.parametrize("logits", [False, True])
def test_a_budget_beyond_all_concepts_asks_all_and_takes_no_room(name: str, logits: bool) -> None:
    """A list with a number for each question typed would not fit any memory."""
    model, data = made("cbm")
    c, held = data.test.c, (data.validation.x, torch.nan_to_num(data.validation.c), data.validation.y)
    rule = policy(name).fitted(model, *held, held=held)
    total = 3 if "group" in name else 4
    far, near = (curve(model, data.test.x, c, rule, (0, k), y=data.test.y, logits=logits) for k in (10**15, total))
    assert far.counts == (0, 10**15)
    assert torch.equal(far.answers, near.answers) and far.shares == near.shares and far.costs == near.costs
    assert torch.equal(rule.choose(case(model, data.test.x, c, y=data.test.y), 10**15).sum(0) >= 0, torch.ones(4).bool())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"c": lambda c: c[:, :3]}, r"c: expected labels of shape \(32, 4\), rows by columns, got \(32, 3\)"),
        ({"c": lambda c: c[:-1]}, r"c: expected labels of shape \(32, 4\)"),
        ({"c": lambda c: 2 * c.nan_to_num(1.0)}, "c, row 0, 'yes or no .': expected a label from 0 to 1 .* got 2"),
        ({"allowed": lambda c: torch.ones(len(c), 3, dtype=torch.bool)}, r"allowed: expected bool of shape \(32, 4\)"),
        ({"allowed": torch.ones_like}, "allowed: expected bool .*got torch.float32"),
        ({"y": lambda c: torch.zeros(5, dtype=torch.long)}, "y: expected 32 true answers, .* got 5"),
    ],
)
@pytest.mark.parametrize("logits", [False, True])
def test_labels_that_do_not_fit_the_rows(change: dict[str, Any], said: str, logits: bool) -> None:
    model, data = made("cbm")
    inputs = {"c": data.test.c, "y": data.test.y} | {name: make(data.test.c) for name, make in change.items()}
    for competence in (1.0, 0.5):
        with pytest.raises(DataError, match=said):
            curve(model, data.test.x, policy=Random(), counts=(0, 1), logits=logits, competence=competence, **inputs)


def test_labels_of_numbers_are_in_their_unit_and_whole_ones_are_labels_too() -> None:
    model, data = made("cbm", ("binary", "continuous"))
    assert float(data.test.c.nan_to_num().max()) > 1
    assert curve(model, data.test.x, data.test.c, Random(), (0, 6)).shares[1] == 1.0
    c = data.test.c.clone()
    c[2, 4] = float("inf")
    with pytest.raises(DataError, match="c, row 2, 'age': .* got inf"):
        curve(model, data.test.x, c, Random(), (0, 1))
    plain, rows = made("cbm")
    whole = rows.test.c.nan_to_num()
    lines = [curve(plain, rows.test.x, each, Random(), (0, 4)).answers for each in (whole, whole.long(), whole.bool())]
    assert torch.equal(lines[0], lines[1]) and torch.equal(lines[0], lines[2])


def test_other_curves_that_are_refused() -> None:
    model, data = made("cbm")
    with pytest.raises(OptionError, match="twice"):
        curve(model, data.test.x, data.test.c, Fixed(order=(0, 0)), (0, 1))
    with pytest.raises(DataError, match="at least one row"):
        curve(model, data.test.x[:0], data.test.c[:0], Random(), (0, 1))
    value, rows = made("cbm", task="value")
    with pytest.raises(OptionError, match="no entropy"):
        curve(value, rows.test.x, rows.test.c, policy("eudtp"), (0, 1))


@pytest.mark.parametrize("name", ["coop", "ectp:rescored"])
def test_what_is_held_counts_from_the_first_question(name: str) -> None:
    from isthmus import intervene

    model, data = made("cem")
    for row in range(4):
        x, c = data.test.x[row : row + 1], torch.nan_to_num(data.test.c[row])
        known = {model.space.names[0]: float(c[0])}
        told = intervene(model, x, known, policy=name)
        asked = intervene(model, x, known, truth=c, policy=name, budget=1)
        given_now = [step["concept"] for step in asked.steps]
        assert told.ask_next[0] in given_now and len(given_now) == 2


def test_policies_that_share_their_rows_do_not_share_their_order() -> None:
    from isthmus.interventions.curve import along, prepared

    model, data = made("cbm")
    c, y = torch.nan_to_num(data.test.c), data.test.y
    rows = prepared(model, data.test.x, c, y=y)
    along(rows, policy("ucp"), (0, 1, 2), logits=True)
    for name in ("coop", "random", "lcp:rescored"):
        alone = curve(model, data.test.x, c, policy(name), (0, 1, 2), y=y)
        assert torch.equal(along(rows, policy(name), (0, 1, 2)).answers, alone.answers)
