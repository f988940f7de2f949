"""k-flip: which few concepts, corrected together, are most likely to change the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import comb

import torch
from torch import Tensor

from isthmus.errors import OptionError
from isthmus.given import Given
from isthmus.interventions.policies import Case, Policy, readings
from isthmus.model import ConceptModel
from isthmus.space import ConceptSpace

MARGIN = 1e-9  # by which a larger set must be likelier to flip the answer: more than rounding in double precision
SUBSETS = 50_000  # the most subsets of concepts that are tried for one answer


@dataclass(frozen=True)
class KFlip(Policy):
    """k-flip (Ustun group's concept-benchmark): correct the subset most likely to flip the answer, the rest held hard.

    Among all sets of at most ``budget`` concepts, in order of size, the first with the highest chance (under the model's
    own independent concept probabilities) that filling in its truth changes the answer; corrected where that chance
    reaches ``threshold``. From the first question on the other concepts stand at their decisions, 1 from .5 on, also on rows
    where no set reaches it; without a question (budget 0) nothing is held. Those told before stand at what was told, and are
    not asked about again. Binary concepts only.
    """

    threshold: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise OptionError(f"KFlip, threshold: expected a chance of 0 to 1, got {self.threshold!r}")

    def unfit(self, model: ConceptModel, budget: int) -> str | None:
        space = model.space
        if not space.plain:
            return "it needs binary concepts only"
        subsets = sum(comb(space.count, size) for size in range(1, min(budget, space.count) + 1))
        many = f"{budget} of {space.count} concepts make {subsets:,} subsets (at most {SUBSETS:,})"
        return many if subsets > SUBSETS else None

    def looks(self, space: ConceptSpace) -> int:
        return space.count * (space.count + 1) // 2  # sets of one or two

    def choose(self, case: Case, budget: int) -> Tensor:
        model, z, space = case.model, case.z, case.model.space
        if reason := self.unfit(model, budget):
            raise OptionError(f"policy 'kflip': {reason}; use 'ucp' or 'random'")
        p, hard = _seen(case)
        wrong = torch.where(p >= 0.5, 1 - p.double(), p.double())  # (B, K) chance that the truth is the other value
        open_ = case.askable
        if case.held is not None:
            wrong = wrong.masked_fill(case.held.mask, 0.0)  # known for sure: turning it over flips nothing
        answers = self._answers(model, z, hard)
        base = answers(hard)
        moves: dict[tuple[int, ...], Tensor] = {}  # for each set of concepts turned over: where the answer changes
        best, chosen = wrong.new_zeros(len(z)), torch.zeros_like(case.askable)
        for size in range(1, min(budget, space.count) + 1):
            for subset in combinations(range(space.count), size):
                at = list(subset)
                moves[subset] = answers(_turned(hard, at)) != base
                flip = self._flip(wrong, subset, moves)
                better = (flip > best + MARGIN) & open_[:, at].all(1)
                best = torch.where(better, flip, best)
                chosen[better] = False
                chosen[better.nonzero(), torch.tensor(at, device=p.device)] = True
        return chosen & (best >= self.threshold)[:, None]

    def give(self, case: Case, chosen: Tensor) -> Given:
        return Given(torch.where(chosen, case.told.nan_to_num(), _seen(case)[1]), torch.ones_like(chosen))

    def _flip(self, wrong: Tensor, subset: tuple[int, ...], moves: dict[tuple[int, ...], Tensor]) -> Tensor:
        """(B,) chance that filling in the truth of ``subset`` changes the answer: over those of it that turn out wrong."""
        chance = wrong.new_zeros(len(wrong))
        for size in range(1, len(subset) + 1):
            for turned in combinations(subset, size):
                right = [k for k in subset if k not in turned]
                chance += wrong[:, list(turned)].prod(1) * (1 - wrong[:, right]).prod(1) * moves[turned]
        return chance

    def _answers(self, model: ConceptModel, z: Tensor, hard: Tensor) -> Callable[[Tensor], Tensor]:
        """Decision for hard assignments (B, K); where concepts alone decide, from one table of all 2^K assignments."""
        k, everything = hard.shape[1], torch.ones(1, hard.shape[1], dtype=torch.bool, device=hard.device)
        if k > 16 or bool(((hard != 0) & (hard != 1)).any()) or not _sealed(model, z, hard):
            return lambda trial: _decide(model, z, Given(trial, everything))
        columns = torch.arange(k, device=hard.device)
        table = ((torch.arange(2**k, device=hard.device)[:, None] >> columns) & 1).float()
        told = _decide(model, z[:1].expand(len(table), *z.shape[1:]), Given(table, everything))
        power = 2**columns
        return lambda trial: told[(trial.long() * power).sum(1)]


def _sealed(model: ConceptModel, z: Tensor, hard: Tensor) -> bool:
    """Do concepts alone decide? Tried, for an option can open what a card calls sealed: other rows' features, same answers."""
    some = Given(hard, torch.ones_like(hard, dtype=torch.bool))
    logits = [model.answer(x, some).logits for x in (z, z[:1].expand_as(z))]
    return torch.equal(*logits)


def _turned(hard: Tensor, at: list[int]) -> Tensor:
    """Decisions (B, K) with those ``at`` turned over."""
    turned = hard.clone()
    turned[:, at] = 1 - turned[:, at]
    return turned


def _seen(case: Case) -> tuple[Tensor, Tensor]:
    """Chances (B, K) as read, and what the head is shown: what was told before, else decisions."""
    held = case.held
    p = readings(case.model, case.z, held)
    hard = (p >= 0.5).to(p.dtype)
    return p, hard if held is None else torch.where(held.mask, held.values.to(p), hard)


def _decide(model: ConceptModel, z: Tensor, given: Given) -> Tensor:
    decision = model.task.predict(model.answer(z, given).logits)
    return decision if decision.ndim == 1 else (decision * 2 ** torch.arange(decision.shape[1], device=decision.device)).sum(1)
