"""The correction curve: the task's answers after k questions; bottleneck and order computed once wherever that is exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from isthmus.errors import DataError, OptionError
from isthmus.interventions import person
from isthmus.interventions.checks import counts_of, share_of
from isthmus.interventions.look import composable, everything, linear
from isthmus.interventions.policies import NEVER, Case, Ordered, Policy, case, count_of, inverse, members, unasked
from isthmus.model import ConceptModel
from isthmus.numerics import curves

CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Curve:
    """Answers after ``counts`` (P,) questions, at which ``shares`` (P,) of all that can be asked are told.

    ``answers``: (P, n) classes, (P, n, Y) labels in {0, 1}, or (P, n) numbers. A wrong class may stand for any other wrong one
    when true answers were given. ``costs`` (P,) mean cost of a row's questions. ``logits`` (P, n, Y) where they were asked for.
    """

    counts: tuple[int, ...]
    shares: tuple[float, ...]
    answers: Tensor
    costs: tuple[float, ...] = ()
    logits: Tensor | None = None


def points(total: int, most: int = 21) -> tuple[int, ...]:
    """0 to ``total``, all of them or about ``most`` evenly spread with both ends."""
    if total < most:
        return tuple(range(total + 1))
    return tuple(sorted({round(i * total / (most - 1)) for i in range(most)}))


@torch.no_grad()
def curve(
    model: ConceptModel,
    z: Any,
    c: Any,
    policy: Policy,
    counts: Sequence[int],
    *,
    y: Any = None,
    allowed: Any = None,
    competence: float = 1.0,
    seed: int = 0,
    logits: bool = False,
) -> Curve:
    """Answers on rows with features z (n, D) and true labels c (n, K, NaN unknown) after each budget of ``counts``.

    Unknown labels are never given, and ``allowed`` (n, M) can forbid more (concepts that cannot be seen stay as the model has
    them, at every step). A row with fewer labels than the budget gives all of them, and ``shares`` count what was told. ``y``
    (n,): true answers, for the oracles that look at them, and for the quickest way under linear heads. ``competence``: chance
    that a told label is right. With ``logits`` they are kept. Arrays are as good as tensors. Budgets beyond all that there is
    to ask ask all of it, and 0 is the model without corrections. Raises ``OptionError`` for budgets that are not whole numbers
    of at least 0 and for a policy that does not fit the model, ``DataError`` for no rows and for what does not fit them.
    """
    whole = prepared(model, z, c, y=y, allowed=allowed)
    if share_of(competence, "competence") != 1:
        whole = replace(whole, answers=person.answers(whole.c, model.space, competence, seed))
    return along(whole, policy, counts, logits=logits)


def prepared(model: ConceptModel, z: Any, c: Any, *, y: Any = None, allowed: Any = None) -> Case:
    """Rows for ``along``, where several curves share what the model says of them; arguments as ``case``."""
    whole = case(model, z, c, y=y, allowed=allowed)
    return replace(whole, composes=composable(model, whole.z))


@torch.no_grad()
def along(whole: Case, policy: Policy, counts: Sequence[int], *, logits: bool = False) -> Curve:
    """``curve`` on prepared rows."""
    if not isinstance(policy, Policy):  # pyright: ignore[reportUnnecessaryIsInstance]
        hint = f"isthmus.interventions.policy({policy!r}) makes it" if isinstance(policy, str) else "see isthmus.interventions"
        raise OptionError(f"curve: expected a policy such as Random(), got {policy!r}; {hint}")
    counts = counts_of(counts)
    total = count_of(whole.model.space, policy.level if isinstance(policy, Ordered) else "concept")
    within = tuple(min(k, total) for k in counts)  # beyond all units there is nothing to ask
    if reason := policy.unfit(whole.model, max(within)):
        raise OptionError(f"curve: this policy cannot ask here: {reason}; use Uncertain() or Random()")
    if not len(whole.z):
        raise DataError("curve: expected at least one row of features, got none")
    if isinstance(policy, Ordered):
        return replace(_nested(whole, policy, within, logits), counts=counts)
    return replace(_sets(whole, policy, within, logits), counts=counts)


def _nested(whole: Case, policy: Ordered, counts: tuple[int, ...], keep: bool) -> Curve:
    """One order for all budgets."""
    whole.__dict__.pop("order", None)  # of a policy before
    place = policy.places(whole, max(counts)) if max(counts) else torch.full_like(whole.askable, NEVER, dtype=torch.int64)
    told = _told(whole, place, max(counts))
    account = [[float(part[k]) for k in counts] for part in told]
    if not keep and _quick(whole, policy, place):
        return _curve(whole, counts, account, _walked(whole, policy, place, counts), None)
    return _curve(whole, counts, account, *_asked(whole, policy, counts, lambda at, k: place[at] < k, keep))


def _told(whole: Case, place: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """(most + 1,) how many concepts are told, and what they cost, after 0, 1, ... questions a row."""
    price = torch.tensor([concept.cost for concept in whole.model.space.concepts], device=place.device, dtype=torch.float64)
    even = price[0] if bool((price == price[0]).all()) else None
    if even is not None and "order" in whole.__dict__:  # every row asks every concept, one a question
        number = torch.arange(most + 1, device=place.device, dtype=torch.float64) * len(place)
        return number, number * even
    step = place.clamp(max=most).flatten()
    number = torch.bincount(step, minlength=most + 1).double()
    cost = number * even if even is not None else torch.bincount(step, price.expand_as(place).flatten(), most + 1)
    return tuple(torch.cat([part.new_zeros(1), part[:most].cumsum(0)]) for part in (number, cost))  # type: ignore[return-value]


def _sets(whole: Case, policy: Policy, counts: tuple[int, ...], keep: bool) -> Curve:
    """Each budget chooses anew."""
    parts = [whole.part(slice(at, at + CHUNK)) for at in range(0, len(whole.z), CHUNK)]
    chosen = {k: torch.cat([policy.choose(part, k) for part in parts]) for k in counts}
    price = torch.tensor([concept.cost for concept in whole.model.space.concepts], device=whole.z.device, dtype=torch.float64)
    account = [[float(chosen[k].sum()) for k in counts], [float((chosen[k] * price).sum()) for k in counts]]
    return _curve(whole, counts, account, *_asked(whole, policy, counts, lambda at, k: chosen[k][at], keep))


def _asked(
    whole: Case, policy: Policy, counts: tuple[int, ...], chosen: Callable[[slice, int], Tensor], keep: bool
) -> tuple[Tensor, Tensor | None]:
    """(P, n, ...) answers, a chunk of rows at a time."""
    answers, kept = [list[Tensor]() for _ in counts], [list[Tensor]() for _ in counts]
    for at in range(0, len(whole.z), CHUNK):
        rows = slice(at, at + CHUNK)
        part = whole.part(rows)
        for number, k in enumerate(counts):
            found = part.look.answer(policy.give(part, chosen(rows, k)) if k else unasked(part))
            answers[number].append(whole.model.task.predict(found).cpu())
            if keep:
                kept[number].append(found.cpu())
    stacked = torch.stack([torch.cat(parts) for parts in answers])
    return stacked, torch.stack([torch.cat(parts) for parts in kept]) if keep else None


def _curve(whole: Case, counts: tuple[int, ...], account: list[list[float]], answers: Tensor, logits: Tensor | None) -> Curve:
    """With what was told at each budget, as a share of all that can be, and what it cost a row."""
    most, rows = max(int(torch.count_nonzero(whole.askable)), 1), max(len(whole.z), 1)
    shares, costs = tuple(told / most for told in account[0]), tuple(cost / rows for cost in account[1])
    return Curve(counts, shares, answers, costs, logits)


def _quick(whole: Case, policy: Ordered, place: Tensor) -> bool:
    """Do rank-1 updates of the logits give the answers? Binary concepts, a linear head, one question a row and step."""
    plain = type(policy).give is Policy.give and policy.scope == "single"
    return bool(plain and whole.composes and linear(whole.model) is not None and whole.y is not None and place.shape[1])


def _walked(whole: Case, policy: Ordered, place: Tensor, counts: tuple[int, ...]) -> Tensor:
    """(P, n) answers by ``numerics.curves``: right where it says so, else some other class."""
    model, look, y = whole.model, whole.look, whole.y
    head = linear(model)
    assert head is not None and y is not None
    steps = max(counts)
    inside = members(model.space, policy.level).bool().to(place.device)
    rank = place if policy.level == "concept" else torch.stack([place.masked_fill(~u, NEVER).amin(1) for u in inside], 1)
    order = whole.__dict__.pop("order", None) if policy.level == "concept" else None
    if order is None:
        every = bool((rank < rank.shape[1]).all())  # every row asks every unit: places are a permutation
        order = inverse(rank) if every else rank.argsort(dim=1, stable=True)
    order = order[:, :steps]
    low, high = (model.bottleneck.value_of(everything(look.read.new_full((1, len(model.space)), v))) for v in (0.0, 1.0))
    told = bool((place < steps).all())  # all of it
    truth = whole.told if told else whole.told.masked_fill(place >= steps, torch.nan)
    groups = None if policy.level == "concept" else [list(inside) for inside in model.space.groups.values()]
    right = curves.corrected(
        look.concepts.values, truth, head.map.weight, y, order, bias=head.map.bias, low=low[0], high=high[0], groups=groups
    )
    right = right if counts == tuple(range(right.shape[1])) else right[:, [min(k, order.shape[1]) for k in counts]]
    return torch.where(right, y[:, None], (y[:, None] + 1) % model.task.width).cpu().T
