"""Which concepts a person is asked about: a policy turns true labels and a budget into what is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from isthmus import registry
from isthmus.bottlenecks.linear import harden
from isthmus.errors import OptionError, unknown
from isthmus.given import Given, reveal
from isthmus.model import ConceptModel
from isthmus.space import ConceptSpace
from isthmus.train import natural

MARGIN = 1e-9  # by which a larger set must be likelier to flip the answer: more than rounding in double precision
SUBSETS = 50_000  # the most subsets of concepts that are tried for one answer


class Policy(ABC):
    """Which concepts are asked about, ``choose``, and what is given when they are told, ``give``."""

    def unfit(self, space: ConceptSpace, budget: int) -> str | None:
        """Why the policy cannot ask ``budget`` of these concepts; None when it can."""
        return None

    @abstractmethod
    def choose(self, model: ConceptModel, z: Tensor, c: Tensor, askable: Tensor, budget: int, *, first: int = 0) -> Tensor:
        """(B, M) at most ``budget`` of the ``askable`` (B, M) concepts for features z (B, D) and labels c (B, K).

        ``first``: the table's number of the first row, so that what is drawn at random does not depend on chunks.
        """
        ...

    def give(self, model: ConceptModel, z: Tensor, c: Tensor, chosen: Tensor) -> Given:
        """What is given when the ``chosen`` (B, M) concepts are told: their labels."""
        return reveal(c, chosen, model.space)

    def __call__(self, model: ConceptModel, z: Tensor, c: Tensor, askable: Tensor, budget: int) -> Given:
        """What is given after ``budget`` questions."""
        return self.give(model, z, c, self.choose(model, z, c, askable, budget))


def askable(c: Tensor, space: ConceptSpace, allowed: Tensor | None = None) -> Tensor:
    """(B, M) concepts whose label is known (and allowed): the only ones that can be asked about."""
    known = space.narrow(~c.isnan())
    return known if allowed is None else known & allowed.to(known.device)


@dataclass(frozen=True)
class Random(Policy):
    """A random order of the askable concepts for each row, nested over budgets.

    ``level='group'`` asks the members of a group together, and a budget counts groups.
    """

    seed: int = 0
    level: Literal["concept", "group"] = "concept"

    def choose(self, model: ConceptModel, z: Tensor, c: Tensor, askable: Tensor, budget: int, *, first: int = 0) -> Tensor:
        membership = members(model.space, self.level).to(askable.device)
        open_ = (askable.float() @ membership.T) > 0  # (B, G) a group can be asked when one of its members can
        draws = uniform(self.seed, first, *open_.shape).to(askable.device)
        chosen = ranked(draws, open_) < budget
        return ((chosen & open_).float() @ membership > 0) & askable


def members(space: ConceptSpace, level: str) -> Tensor:
    """(G, M) 1 where a concept belongs to a group; each concept is its own at level 'concept'."""
    if level == "concept":
        return torch.eye(space.count)
    found = torch.zeros(len(space.groups), space.count)
    for number, inside in enumerate(space.groups.values()):
        found[number, list(inside)] = 1.0
    return found


def uniform(seed: int, first: int, rows: int, columns: int) -> Tensor:
    """(rows, columns) draws from 0 to 1 of which row i depends on ``seed`` and ``first + i`` alone."""
    blocks = -(-columns // 4) or 1  # Philox counts in blocks of four numbers
    generator = np.random.Generator(np.random.Philox(key=natural(seed)).advance(first * blocks))
    return torch.from_numpy(generator.random((rows, 4 * blocks))[:, :columns])


def ranked(score: Tensor, askable: Tensor) -> Tensor:
    """(B, M) place of each concept, from 0, in ascending order of score; those not askable come last, ties by column."""
    last = score.double().masked_fill(~askable, torch.inf)
    return last.argsort(dim=1, stable=True).argsort(dim=1)


@dataclass(frozen=True)
class Uncertain(Policy):
    """UCP (Shin et al. 2023): the concepts whose prediction is least certain first; entropy over the states, normalised."""

    def choose(self, model: ConceptModel, z: Tensor, c: Tensor, askable: Tensor, budget: int, *, first: int = 0) -> Tensor:
        score = entropy(readings(model, z), model.space)
        return (ranked(-score, askable) < budget) & askable


def readings(model: ConceptModel, z: Tensor, given: Given | None = None) -> Tensor:
    """(B, K) the concepts as a person reads them: probabilities, and numbers in their unit."""
    return model.bottleneck.read(model.answer(z, given).concepts.values)


def entropy(values: Tensor, space: ConceptSpace) -> Tensor:
    """(B, M) entropy of each concept as a share of its maximum; continuous concepts 0."""
    parts: list[Tensor] = []
    for concept, part in zip(space.concepts, space.slices, strict=True):
        p = values[:, part].clamp(1e-12, 1)
        if concept.kind == "binary":
            p = torch.cat([p, (1 - p).clamp(min=1e-12)], 1)
        h = -(p * p.log()).sum(1) / torch.tensor(float(max(p.shape[1], 2))).log()
        parts.append(torch.zeros_like(h) if concept.kind == "continuous" else h)
    return torch.stack(parts, 1) if parts else values.new_zeros((len(values), 0))


@dataclass(frozen=True)
class KFlip(Policy):
    """k-flip (Ustun group's concept-benchmark): correct the subset most likely to flip the answer, the rest held hard.

    Among all sets of at most ``budget`` concepts, in order of size, the first with the highest chance (under the model's
    own independent concept probabilities) that filling in its truth changes the answer; corrected where that chance
    reaches ``threshold``. The other concepts stand at their decisions, 1 from .5 on. Binary concepts only.
    """

    threshold: float = 0.2

    def unfit(self, space: ConceptSpace, budget: int) -> str | None:
        if not space.plain:
            return "it needs binary concepts only"
        subsets = sum(comb(space.count, size) for size in range(1, budget + 1))
        many = f"{budget} of {space.count} concepts make {subsets:,} subsets (at most {SUBSETS:,})"
        return many if subsets > SUBSETS else None

    def choose(self, model: ConceptModel, z: Tensor, c: Tensor, askable: Tensor, budget: int, *, first: int = 0) -> Tensor:
        space = model.space
        if reason := self.unfit(space, budget):
            raise OptionError(f"policy 'kflip': {reason}; use 'ucp' or 'random'")
        p = readings(model, z)
        hard = _hard(p)
        wrong = torch.where(hard > 0, 1 - p.double(), p.double())  # (B, K) chance that the truth is the other value
        answers = self._answers(model, z, hard)
        base = answers(hard)
        moves: dict[tuple[int, ...], Tensor] = {}  # for each set of concepts turned over: where the answer changes
        best, chosen = wrong.new_zeros(len(z)), torch.zeros_like(askable)
        for size in range(1, min(budget, space.count) + 1):
            for subset in combinations(range(space.count), size):
                at = list(subset)
                moves[subset] = answers(_turned(hard, at)) != base
                flip = self._flip(wrong, subset, moves)
                better = (flip > best + MARGIN) & askable[:, at].all(1)
                best = torch.where(better, flip, best)
                chosen[better] = False
                chosen[better.nonzero(), torch.tensor(at, device=p.device)] = True
        return chosen & (best >= self.threshold)[:, None]

    def give(self, model: ConceptModel, z: Tensor, c: Tensor, chosen: Tensor) -> Given:
        hard = _hard(readings(model, z))
        return Given(torch.where(chosen, c.nan_to_num(), hard), torch.ones_like(chosen))

    def _flip(self, wrong: Tensor, subset: tuple[int, ...], moves: dict[tuple[int, ...], Tensor]) -> Tensor:
        """(B,) chance that filling in the truth of ``subset`` changes the answer: over those of it that turn out wrong."""
        chance = wrong.new_zeros(len(wrong))
        for size in range(1, len(subset) + 1):
            for turned in combinations(subset, size):
                right = [k for k in subset if k not in turned]
                chance += wrong[:, list(turned)].prod(1) * (1 - wrong[:, right]).prod(1) * moves[turned]
        return chance

    def _answers(self, model: ConceptModel, z: Tensor, hard: Tensor) -> Callable[[Tensor], Tensor]:
        """Decision for hard assignments (B, K); a sealed model's come from one table of all 2^K assignments."""
        k, everything = hard.shape[1], torch.ones(1, hard.shape[1], dtype=torch.bool, device=hard.device)
        sealed = model.origin and registry.get(model.origin["method"]).card.sealed
        if not sealed or k > 16:
            return lambda trial: _decide(model, z, Given(trial, everything))
        columns = torch.arange(k, device=hard.device)
        table = ((torch.arange(2**k, device=hard.device)[:, None] >> columns) & 1).float()
        told = _decide(model, z[:1].expand(len(table), *z.shape[1:]), Given(table, everything))
        power = 2**columns
        return lambda trial: told[(trial.long() * power).sum(1)]


def _turned(hard: Tensor, at: list[int]) -> Tensor:
    """Decisions (B, K) with those ``at`` turned over."""
    turned = hard.clone()
    turned[:, at] = 1 - turned[:, at]
    return turned


def _hard(p: Tensor) -> Tensor:
    return (p >= 0.5).to(p.dtype)


def _decide(model: ConceptModel, z: Tensor, given: Given) -> Tensor:
    decision = model.task.predict(model.answer(z, given).logits)
    return decision if decision.ndim == 1 else (decision * 2 ** torch.arange(decision.shape[1], device=decision.device)).sum(1)


def hardened(model: ConceptModel, z: Tensor) -> Given:
    """Every concept held at its own decision: what a head that reads 0/1 sees before any correction."""
    values = readings(model, z)
    decided = harden(values, model.space) if set(model.space.kinds) & {"binary", "categorical"} else values
    return Given(decided, torch.ones(1, values.shape[1], dtype=torch.bool, device=values.device))


POLICIES: dict[str, Callable[[], Policy]] = {"random": Random, "ucp": Uncertain, "kflip": KFlip}


def policy(name: str) -> Policy:
    """A policy by name: 'random', 'ucp', 'kflip'."""
    if name not in POLICIES:
        raise unknown("policy", name, POLICIES)
    return POLICIES[name]()
