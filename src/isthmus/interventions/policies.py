"""Which concepts a person is asked about: a policy turns true labels and a budget into what is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import torch
from torch import Tensor

from isthmus import registry
from isthmus.bottlenecks.linear import harden
from isthmus.errors import OptionError, unknown
from isthmus.given import Given, reveal
from isthmus.model import ConceptModel
from isthmus.space import ConceptSpace


class Policy(Protocol):
    """(model, features z (B, D), true labels c (B, K) with NaN unknown, askable (B, M), budget) -> what is given."""

    def __call__(self, model: ConceptModel, z: Tensor, c: Tensor, askable: Tensor, budget: int) -> Given: ...


def askable(c: Tensor, space: ConceptSpace, allowed: Tensor | None = None) -> Tensor:
    """(B, M) concepts whose label is known (and allowed): the only ones that can be asked about."""
    known = space.narrow(~c.isnan())
    return known if allowed is None else known & allowed.to(known.device)


@dataclass(frozen=True)
class Random:
    """A random order for each row, nested over budgets; ``level='group'`` asks the members of a group together."""

    seed: int = 0
    level: str = "concept"

    def __call__(self, model: ConceptModel, z: Tensor, c: Tensor, askable: Tensor, budget: int) -> Given:
        space = model.space
        groups = list(space.groups.values()) if self.level == "group" else [(m,) for m in range(space.count)]
        draws = torch.rand(len(z), len(groups), generator=torch.Generator().manual_seed(self.seed))
        chosen_groups = draws.argsort(1).argsort(1) < budget
        of = torch.empty(space.count, dtype=torch.long)
        for number, members in enumerate(groups):
            of[list(members)] = number
        return reveal(c, chosen_groups[:, of].to(askable.device) & askable, space)


@dataclass(frozen=True)
class Uncertain:
    """UCP (Shin et al. 2023): the concepts whose prediction is least certain first; entropy over the states, normalised."""

    def __call__(self, model: ConceptModel, z: Tensor, c: Tensor, askable: Tensor, budget: int) -> Given:
        values = model.answer(z).concepts.values
        score = entropy(values, model.space).masked_fill(~askable, -1.0)
        rank = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return reveal(c, (rank < budget) & askable, model.space)


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
class KFlip:
    """k-flip (Ustun group's concept-benchmark): correct the subset most likely to flip the answer, the rest held hard.

    Among all sets of at most ``budget`` concepts, in order of size, the first with the highest chance (under the model's
    own independent concept probabilities) that filling in its truth changes the answer; corrected where that chance
    reaches ``threshold``. The other concepts stand at their decisions. Binary concepts only.
    """

    threshold: float = 0.2

    def __call__(self, model: ConceptModel, z: Tensor, c: Tensor, askable: Tensor, budget: int) -> Given:
        space = model.space
        if not space.plain:
            raise OptionError("policy 'kflip': expected binary concepts only; use 'ucp' or 'random'")
        p = model.answer(z).concepts.values.clamp(1e-9, 1 - 1e-9)
        hard = (p >= 0.5).float()
        answers = self._answers(model, z, hard)
        base = answers(hard)
        best, chosen = torch.zeros(len(z)), torch.zeros(len(z), space.count, dtype=torch.bool)
        for size in range(1, min(budget, space.count) + 1):
            for subset in combinations(range(space.count), size):
                at = list(subset)
                flip = self._flip(p[:, at], hard, at, answers, base)
                better = (flip > best + 1e-12) & askable[:, at].all(1)
                best = torch.where(better, flip, best)
                chosen[better] = False
                chosen[better.nonzero(), torch.tensor(at)] = True
        chosen &= (best >= self.threshold)[:, None]
        return Given(torch.where(chosen, c.nan_to_num(), hard), torch.ones_like(chosen))

    def _flip(self, p: Tensor, hard: Tensor, at: list[int], answers: Callable[[Tensor], Tensor], base: Tensor) -> Tensor:
        """(B,) chance that filling the concepts ``at`` with draws from p (B, S) changes the answer."""
        chance = torch.zeros(len(p))
        for code in range(2 ** len(at)):
            fill = torch.tensor([float(code >> i & 1) for i in range(len(at))])
            trial = hard.clone()
            trial[:, at] = fill
            chance += (p * fill + (1 - p) * (1 - fill)).prod(1) * (answers(trial) != base)
        return chance

    def _answers(self, model: ConceptModel, z: Tensor, hard: Tensor) -> Callable[[Tensor], Tensor]:
        """Decision for hard assignments (B, K); a sealed model's come from one table of all 2^K assignments."""
        k, everything = hard.shape[1], torch.ones(1, hard.shape[1], dtype=torch.bool)
        sealed = model.origin and registry.get(model.origin["method"]).card.sealed
        if not sealed or k > 16:
            return lambda trial: _decide(model, z, Given(trial, everything))
        codes = torch.arange(2**k)
        table = ((codes[:, None] >> torch.arange(k)) & 1).float()
        told = _decide(model, z[:1].expand(len(table), *z.shape[1:]), Given(table, everything))
        power = 2 ** torch.arange(k)
        return lambda trial: told[(trial.long() * power).sum(1)]


def _decide(model: ConceptModel, z: Tensor, given: Given) -> Tensor:
    decision = model.task.predict(model.answer(z, given).logits)
    return decision if decision.ndim == 1 else (decision * 2 ** torch.arange(decision.shape[1])).sum(1)


def hardened(model: ConceptModel, z: Tensor) -> Given:
    """Every concept held at its own decision: what a head that reads 0/1 sees before any correction."""
    values = model.answer(z).concepts.values
    decided = harden(values, model.space) if set(model.space.kinds) & {"binary", "categorical"} else values
    return Given(decided, torch.ones(1, values.shape[1], dtype=torch.bool, device=values.device))


POLICIES: dict[str, Callable[[], Policy]] = {"random": Random, "ucp": Uncertain, "kflip": KFlip}


def policy(name: str) -> Policy:
    """A policy by name: 'random', 'ucp', 'kflip'."""
    if name not in POLICIES:
        raise unknown("policy", name, POLICIES)
    return POLICIES[name]()
