"""Which concepts a person is asked about: a policy turns true labels and a budget into what is given."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.bottlenecks.linear import harden
from isthmus.errors import DataError, OptionError
from isthmus.given import Given, reveal
from isthmus.interventions.checks import allowed_of, answers_of, checked, counted, features_of, numbers
from isthmus.interventions.look import Look
from isthmus.model import ConceptModel
from isthmus.numerics import curves
from isthmus.space import ConceptSpace
from isthmus.train import natural

Level = Literal["concept", "group"]
Scope = Literal["single", "batch"]
NEVER = 1 << 40  # the place of a concept that is never asked about


@dataclass(frozen=True, eq=False)
class Case:
    """Rows to be asked about: features ``z`` (B, D), true labels ``c`` (B, K, NaN unknown), ``askable`` (B, M).

    ``y``: true answers, which a few oracles look at. ``first``: the table's number of the first row, so that what is drawn at
    random does not depend on chunks. ``answers`` (B, K): what the person tells, where it is not the truth. ``held``: what is
    given before the first question.
    """

    model: ConceptModel
    z: Tensor
    c: Tensor
    askable: Tensor
    y: Tensor | None = None
    first: int = 0
    answers: Tensor | None = None
    composes: bool | None = None  # whether ``Look`` may put answers together; None: to be tried
    held: Given | None = None

    @property
    def told(self) -> Tensor:
        """(B, K) what is told when a concept is asked about."""
        return self.c if self.answers is None else self.answers

    @cached_property
    def look(self) -> Look:
        """The model on these rows."""
        return Look(self.model, self.z, self.composes)

    def part(self, rows: slice) -> Case:
        """Some consecutive rows."""
        if rows.indices(len(self.z))[:2] == (0, len(self.z)):
            return self
        cut = lambda t: None if t is None else t[rows]  # noqa: E731
        own = {"z": self.z[rows], "c": self.c[rows], "askable": self.askable[rows], "first": self.first + (rows.start or 0)}
        held = None if self.held is None else self.held.rows(torch.arange(len(self.z), device=self.z.device)[rows])
        found = replace(self, **own, y=cut(self.y), answers=cut(self.answers), held=held)
        if self.composes and self.look.concepts.vectors is None:  # the bottleneck has run on all rows
            found.__dict__["look"] = self.look.rows(rows)
        return found


def case(
    model: ConceptModel,
    z: Any,
    c: Any,
    *,
    y: Any = None,
    allowed: Any = None,
    first: int = 0,
    answers: Tensor | None = None,
) -> Case:
    """Rows, on the model's device; a concept can be asked about where its label is known and ``allowed`` (B, M) says so.

    Arrays and lists of numbers are as good as tensors. Raises ``DataError`` for features, labels, true answers or ``allowed``
    of another shape, and for labels and answers that are none.
    """
    to = lambda t: None if t is None else t.to(model.device)  # noqa: E731
    z = features_of(z, model)
    labels = labelled(c, model.space, len(z)).to(model.device)
    if y is not None:
        y = answers_of(y, model.task, len(z))
    if allowed is not None:
        shape = (len(z), model.space.count)
        allowed = allowed_of(allowed, shape, f"bool of shape {shape}, rows by concepts")
    return Case(model, z.to(model.device), labels, askable(labels, model.space, allowed), to(y), first, to(answers))


def labelled(c: Any, space: ConceptSpace, rows: int, name: str = "c") -> Tensor:
    """Concept labels (rows, K) as floats, checked: 0 to 1 (continuous: any finite number), NaN unknown; else ``DataError``.

    The states of a categorical concept are all unknown, or sum to 1.
    """
    c = numbers(c, name, f"labels of shape ({rows}, {len(space)})")
    if c.shape != (rows, len(space)):
        raise DataError(f"{name}: expected labels of shape ({rows}, {len(space)}), rows by columns, got {tuple(c.shape)}")
    found = c.float()
    low, high = (float(end) for end in found.aminmax()) if found.numel() else (0.0, 1.0)
    if space.plain and low >= 0 and high <= 1:  # and none is NaN
        return found
    wrong = (found - 0.5).abs() > 0.5
    wrong = wrong if space.plain else (wrong & ~space.continuous.to(found.device)) | found.isinf()
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        said = f"expected a label from 0 to 1 (continuous: a finite number) or NaN, got {found[row, column].item():g}"
        raise DataError(f"{name}, row {row}, {space.columns[column]!r}: {said}")
    for block in space.blocks:
        states = found[:, block.to(found.device)]  # (rows, blocks, states)
        unsure = ((states.sum(-1) - 1).abs() <= 1e-3) | states.isnan().all(-1)
        if not bool(unsure.all()):
            row, at = (~unsure).nonzero()[0].tolist()
            concept, got = space.names[int(space.owner_of[block[at, 0]])], [round(v, 4) for v in states[row, at].tolist()]
            said = f"expected states that sum to 1, or all NaN for unknown, got {got}"
            raise DataError(f"{name}, row {row}, {concept!r}: {said}; a row of space.encode is so")
    return found


class Policy(ABC):
    """Which concepts are asked about, ``choose``, and what is given when they are told, ``give``."""

    oracle = False  # does it look at the truth of what it has not asked yet?

    def __post_init__(self) -> None:  # of those that are dataclasses
        checked(self)

    def looks(self, space: ConceptSpace) -> int:
        """How many answers of the model a row's order takes (each question's, if re-scored): more than 1 if it foresees."""
        return 1

    def unfit(self, model: ConceptModel, budget: int) -> str | None:
        """Why the policy cannot ask ``budget`` concepts of this model; None when it can."""
        return None

    def unready(self, model: ConceptModel) -> str | None:
        """Why the policy cannot ask about one row without more data; None when it can."""
        return None

    def fitted(self, model: ConceptModel, z: Tensor, c: Tensor, y: Tensor, *, held: tuple[Tensor, Tensor, Tensor]) -> Self:
        """The policy with what it learns from training rows z (n, D), c (n, K), y, and ``held`` out (validation) ones."""
        return self

    @abstractmethod
    def choose(self, case: Case, budget: int) -> Tensor:
        """(B, M) at most ``budget`` of the concepts that can be asked about."""
        ...

    def give(self, case: Case, chosen: Tensor) -> Given:
        """What is given when the ``chosen`` (B, M) concepts are told."""
        return reveal(case.told, chosen, case.model.space)

    def __call__(self, case: Case, budget: int) -> Given:
        """What is given after ``budget`` questions; after none, what was before."""
        return self.give(case, self.choose(case, budget)) if budget > 0 else unasked(case)


def unasked(case: Case) -> Given:
    """What is given before the first question: what is held, else nothing."""
    return reveal(case.told, torch.zeros_like(case.askable), case.model.space) if case.held is None else case.held


def askable(c: Tensor, space: ConceptSpace, allowed: Tensor | None = None) -> Tensor:
    """(B, M) concepts whose label is known (and allowed): the only ones that can be asked about."""
    known = space.narrow(~c.isnan())
    return known if allowed is None else known & allowed.to(known.device)


@dataclass(frozen=True)
class Ordered(Policy):
    """A policy whose questions are nested: what k ask, k + 1 ask too.

    ``level='group'`` asks the members of a group together, and a budget counts groups. ``scope='batch'`` pools all rows: k
    questions a row on average, more for some, none for others (Shin et al. 2023, I+B and G+B).
    """

    level: Level = "concept"
    scope: Scope = "single"

    @abstractmethod
    def places(self, case: Case, steps: int) -> Tensor:
        """(B, M) how many questions come before a concept's own; ``NEVER`` where it is not asked within ``steps``."""
        ...

    def choose(self, case: Case, budget: int) -> Tensor:
        if budget <= 0:
            return torch.zeros_like(case.askable)
        budget = min(budget, count_of(case.model.space, self.level))
        return self.places(case, budget) < budget

    def placed(self, score: Tensor, case: Case) -> Tensor:
        """(B, M) places by falling score (B, U) of units, those that can be asked; of equal scores the first unit."""
        membership = members(case.model.space, self.level).to(case.z.device)
        open_ = case.askable if self.level == "concept" else units(case.askable, membership)
        all_open = bool(open_.all())
        known = score if all_open else score.masked_fill(~open_, -torch.inf)
        if self.scope == "batch":
            place = inverse(curves.order(known.flatten()[None])).view_as(known) // max(len(known), 1)
        else:
            order = curves.order(known)
            place = inverse(order)
            if all_open and self.level == "concept":
                case.__dict__["order"] = order  # of which the places are the inverse: the quickest curve reads it
        place = place if all_open else place.masked_fill(~open_, NEVER)
        return place if self.level == "concept" else spread(place, membership, case.askable)


def inverse(order: Tensor) -> Tensor:
    """(B, U) the place of each unit in an order (B, U)."""
    return torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))


def units(askable: Tensor, membership: Tensor) -> Tensor:
    """(B, U) a unit can be asked when one of its members can."""
    return (askable.float() @ membership.T) > 0


def spread(place: Tensor, membership: Tensor, askable: Tensor) -> Tensor:
    """Places (B, U) of units -> (B, M) of their members; ``NEVER`` where a concept cannot be asked."""
    owner = membership.argmax(0)
    return place[:, owner].masked_fill(~askable, NEVER)


@dataclass(frozen=True)
class Random(Ordered):
    """A random order of the askable concepts (or groups) for each row, nested over budgets."""

    seed: int = 0
    level: Level = "concept"
    scope: Scope = "single"

    def places(self, case: Case, steps: int) -> Tensor:
        draws = uniform(self.seed, case.first, len(case.z), count_of(case.model.space, self.level)).to(case.z.device)
        return self.placed(-draws, case)


@dataclass(frozen=True)
class Fixed(Ordered):
    """The same order for every row: ``order`` names units by number (concepts, or groups), the rest follow.

    Without an order it is found on the rows given to ``fitted``: units by the validation score that each alone, corrected,
    brings ('global validation improvement' of Espinosa Zarlenga et al. 2023).
    """

    order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        order = counted(self.order)
        if order is None and self.order != ():
            raise OptionError(f"Fixed: expected order as different whole numbers from 0, of units, got {self.order!r}")
        object.__setattr__(self, "order", order or ())

    def fitted(self, model: ConceptModel, z: Tensor, c: Tensor, y: Tensor, *, held: tuple[Tensor, Tensor, Tensor]) -> Fixed:
        if self.order:
            return self
        z, c, y = (part.to(model.device) for part in held)
        look, ask, member = Look(model, z), askable(c, model.space), members(model.space, self.level).to(z.device)
        gains = [float(score(look.answer(reveal(c, ask & row.bool(), model.space)), y, model)) for row in member]
        order = torch.tensor(gains).argsort(descending=True, stable=True)
        return Fixed(self.level, self.scope, tuple(order.tolist()))

    def unready(self, model: ConceptModel) -> str | None:
        return None if self.order else "its order is found on validation rows"

    def unfit(self, model: ConceptModel, budget: int) -> str | None:
        count = count_of(model.space, self.level)
        wrong = [u for u in self.order if not 0 <= u < count]
        if wrong:
            return f"its order names {wrong[0]}, of {count} {self.level}s"
        twice = [u for u in self.order if self.order.count(u) > 1]
        return f"its order names {twice[0]} twice" if twice else None

    def places(self, case: Case, steps: int) -> Tensor:
        if reason := self.unfit(case.model, steps) or self.unready(case.model):
            raise OptionError(f"policy 'static': {reason}; pass order=, or call fitted() with training and validation rows")
        rest = [u for u in range(count_of(case.model.space, self.level)) if u not in self.order]
        rank = torch.tensor([*self.order, *rest], device=case.z.device).argsort()
        return self.placed(-rank.float().expand(len(case.z), -1), case)


def score(logits: Tensor, y: Tensor, model: ConceptModel) -> Tensor:
    """How well logits (n, Y) answer y, larger is better: share of right answers, or minus the squared error."""
    answer = model.task.predict(logits)
    if model.task.kind == "value":
        return -(answer - y).square().nanmean()
    known = ~y.isnan() if y.is_floating_point() else torch.ones_like(y, dtype=torch.bool)
    return ((answer == y) & known).sum() / known.sum().clamp(min=1)


def count_of(space: ConceptSpace, level: str) -> int:
    """U, how many units can be asked about."""
    return len(space.groups) if level == "group" else space.count


def members(space: ConceptSpace, level: str) -> Tensor:
    """(U, M) 1 where a concept belongs to a unit: its group, or at level 'concept' itself."""
    if level == "concept":
        return torch.eye(space.count)
    found = torch.zeros(len(space.groups), space.count)
    for number, inside in enumerate(space.groups.values()):
        found[number, list(inside)] = 1.0
    return found


def uniform(seed: int, first: int, rows: int, columns: int, stream: int = 0) -> Tensor:
    """(rows, columns) draws from 0 to 1 of which row i depends on ``seed``, ``stream`` and ``first + i`` alone."""
    blocks = -(-columns // 4) or 1  # Philox counts in blocks of four numbers
    generator = np.random.Generator(np.random.Philox(key=natural(seed) + (stream << 64)).advance(first * blocks))
    return torch.from_numpy(generator.random((rows, 4 * blocks))[:, :columns])


def ranked(score: Tensor, askable: Tensor) -> Tensor:
    """(B, M) place of each concept, from 0, in ascending order of score; those not askable come last, ties by column."""
    last = score.double().masked_fill(~askable, torch.inf)
    return last.argsort(dim=1, stable=True).argsort(dim=1)


def readings(model: ConceptModel, z: Tensor, given: Given | None = None) -> Tensor:
    """(B, K) the concepts as a person reads them: probabilities, and numbers in their unit."""
    return model.bottleneck.read(model.answer(z, given).concepts.values)


def entropy(values: Tensor, space: ConceptSpace) -> Tensor:
    """(B, M) entropy of each concept as a share of its maximum; continuous concepts 0."""
    if space.plain:
        p = values.clamp(1e-12, 1)
        q = (1 - p).clamp_(min=1e-12)
        return (p * p.log()).add_(q * q.log()).mul_(-1 / math.log(2))
    parts: list[Tensor] = []
    for concept, part in zip(space.concepts, space.slices, strict=True):
        p = values[:, part].clamp(1e-12, 1)
        if concept.kind == "binary":
            p = torch.cat([p, (1 - p).clamp(min=1e-12)], 1)
        h = -(p * p.log()).sum(1) / torch.tensor(float(max(p.shape[1], 2))).log()
        parts.append(torch.zeros_like(h) if concept.kind == "continuous" else h)
    return torch.stack(parts, 1) if parts else values.new_zeros((len(values), 0))


def hardened(model: ConceptModel, z: Tensor) -> Given:
    """Every concept held at its own decision: what a head that reads 0/1 sees before any correction."""
    values = readings(model, z)
    decided = harden(values, model.space) if set(model.space.kinds) & {"binary", "categorical"} else values
    return Given(decided, torch.ones(1, values.shape[1], dtype=torch.bool, device=values.device))
