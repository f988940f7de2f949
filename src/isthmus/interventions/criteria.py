"""Policies that score concepts: how uncertain, how wrong, how much they move the answer.

Shin et al., A Closer Look at the Intervention Procedure of Concept Bottleneck Models, ICML 2023 (UCP, LCP, CCTP, ECTP, EUDTP);
Chauhan et al., Interactive Concept Bottleneck Models, AAAI 2023 (CooP); Espinosa Zarlenga et al., Learning to Receive Help,
NeurIPS 2023 (the greedy oracle). Expectations run over a concept's states, by the model's own chances; over the 5th and 95th
percentile of a number. A group scores the mean of its members that can be asked.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from isthmus.errors import DataError
from isthmus.given import Given, reveal
from isthmus.interventions.look import Look, everything, linear
from isthmus.interventions.policies import NEVER, Case, Ordered, count_of, entropy, members, spread, units
from isthmus.model import ConceptModel
from isthmus.numerics import curves
from isthmus.space import ConceptSpace, Task

ROWS = 1024  # rows that are looked at together
DEAREST = 1e300  # what a question may count: finite, so that the dearest is asked last, not never


@dataclass(frozen=True)
class Scored(Ordered):
    """Ask in order of a score, computed once (as the criteria were published) or, ``rescored``, anew after each answer."""

    rescored: bool = False
    pool: Literal["mean", "max"] = "mean"
    reads: ClassVar[bool] = False  # does it look at what is read alone, never at answers?

    @abstractmethod
    def scores(self, case: Case, held: Given | None) -> Tensor:
        """(B, M) the larger, the earlier, when ``held`` is known already."""
        ...

    def unfit(self, model: ConceptModel, budget: int) -> str | None:
        if self.rescored and self.scope == "batch":
            return "a pooled order is computed once; re-scored policies ask row by row"
        return None

    def pooled(self, score: Tensor, case: Case) -> Tensor:
        """(B, U) scores of units from those of concepts (B, M): of members that can be asked."""
        if self.level == "concept":
            return score
        membership = members(case.model.space, self.level).to(score)
        if self.pool == "max":
            inside = membership.bool() & case.askable[:, None]
            return torch.where(inside, score[:, None], -torch.inf).amax(2)
        open_ = case.askable.to(score)
        return (score.nan_to_num() * open_) @ membership.T / (open_ @ membership.T).clamp(min=1)

    def places(self, case: Case, steps: int) -> Tensor:
        size = max(len(case.z), 1) if self.reads and case.composes and not self.rescored else ROWS
        parts = [case.part(slice(at, at + size)) for at in range(0, len(case.z), size)]
        if self.rescored:
            return torch.cat([self._stepwise(part, steps) for part in parts])
        scores = torch.cat([self.pooled(self.scores(part, part.held), part) for part in parts])
        return self.placed(scores, case)

    def _stepwise(self, case: Case, steps: int) -> Tensor:
        """(B, M) places when each question is chosen with the answers so far."""
        space = case.model.space
        membership = members(space, self.level).to(case.z.device)
        open_ = units(case.askable, membership)
        place = torch.full(open_.shape, NEVER, device=open_.device)
        held = Given(case.told.nan_to_num(), torch.zeros_like(case.c, dtype=torch.bool))
        rows = torch.arange(len(case.z), device=open_.device)
        for step in range(min(steps, open_.shape[1])):
            free = open_ & (place == NEVER)
            if not bool(free.any()):
                break
            score = self.pooled(self.scores(case, held if step else case.held), case)
            best = score.double().masked_fill(~free, -torch.inf).argmax(1)
            some = free[rows, best]
            place[rows[some], best[some]] = step
            asked = spread(place, membership, case.askable) < NEVER
            held = reveal(case.told, asked, space)
            if (first := case.held) is not None:
                held = Given(torch.where(first.mask, first.values, held.values), first.mask | held.mask)
        return spread(place, membership, case.askable)


@dataclass(frozen=True)
class Uncertain(Scored):
    """UCP: the concepts whose prediction is least certain first.

    By entropy over the states, as a share of its maximum; ``measure='margin'`` is 1 / (p - .5)^2, published by Shin et al.
    (binary concepts), the same order for single concepts and another mean over groups, which one concept near .5 decides.
    CEM's code takes 1 / |p - .5| and the largest of a group: ``pool='max'``, of binary concepts in the same order.
    """

    reads = True
    measure: Literal["entropy", "margin"] = "entropy"

    def unfit(self, model: ConceptModel, budget: int) -> str | None:
        if self.measure == "margin" and not model.space.plain:
            return "measure 'margin' is of binary concepts only"
        return super().unfit(model, budget)

    def scores(self, case: Case, held: Given | None) -> Tensor:
        read = case.look.reads(held)
        if case.model.space.plain and self.level == "concept":
            return -(read - 0.5).abs()  # the order of either measure
        if self.measure == "margin":
            return 1 / (read.double() - 0.5).square().clamp(min=1e-12)
        return entropy(read, case.model.space)


@dataclass(frozen=True)
class Wrong(Scored):
    """LCP, an oracle: the concepts whose prediction is farthest from the truth first, (p - c)^2."""

    oracle = True
    reads = True

    def scores(self, case: Case, held: Given | None) -> Tensor:
        space = case.model.space
        read = case.look.reads(held)
        far = (space.standardised(read) - space.standardised(case.c)).square().nan_to_num()
        if space.plain:
            return far
        found = far.new_zeros(len(far), space.count).index_add_(1, space.owner_of.to(far.device), far)
        return found / torch.tensor([2.0 if c.kind == "categorical" else 1.0 for c in space.concepts], device=far.device)


@dataclass(frozen=True)
class Expected(Scored):
    """What an answer is expected to do to the decision.

    ``criterion``: 'ectp', the divergence KL(new || now); 'eudtp', the fall of the entropy; 'cctp', the size of the concept's
    share of the logits, summed over classes: |value x weight| of a head that adds up (as published), else the change of
    the logits from the concept's mean state. Labels count one by one; of a number as answer, its squared change ('ectp').
    """

    criterion: Literal["cctp", "ectp", "eudtp"] = "ectp"

    def looks(self, space: ConceptSpace) -> int:
        return states(space)

    def unfit(self, model: ConceptModel, budget: int) -> str | None:
        if model.task.kind == "value" and self.criterion == "eudtp":
            return "a number as answer has no entropy"
        return super().unfit(model, budget)

    def scores(self, case: Case, held: Given | None) -> Tensor:
        look = case.look
        if held is None and look.composes and linear(case.model) is not None:
            return self._fast(look)
        if self.criterion == "cctp" and look.adds:
            return look.shares(look.concepts if held is None else look.held(held)).abs().sum(2)
        read, now = look.at(held)
        chance = look.chances(read)
        parts: list[Tensor] = []
        for rows, logits in look.outcomes(held):
            p = chance[rows]
            if self.criterion == "cctp":
                mean = (p[..., None] * logits).sum(2, keepdim=True)
                parts.append((p[..., None] * (logits - mean)).abs().sum((2, 3)))
                continue
            parts.append((p * change(now[rows, None, None], logits, case.model.task, self.criterion)).sum(2))
        found = torch.cat(parts)
        if self.criterion == "eudtp":
            found = uncertainty(now, case.model.task)[:, None] + found
        return found

    def _fast(self, look: Look) -> Tensor:
        """The same in closed form for binary concepts under a linear head."""
        head, model = linear(look.model), look.model
        assert head is not None
        low, high = (model.bottleneck.value_of(everything(torch.full_like(look.read[:1], v))) for v in (0.0, 1.0))
        values, chances = look.concepts.values, look.read
        if self.criterion == "cctp":
            return values.double().abs() * head.map.weight.double().abs().sum(0)
        found = curves.scores(
            values, head.map.weight, self.criterion, bias=head.map.bias, chances=chances.clamp(0, 1), low=low[0], high=high[0]
        )
        return found.to(values.device)


def states(space: ConceptSpace) -> int:
    """How many states there are to be tried, over all concepts."""
    return sum(max(concept.width, 2) for concept in space.concepts)


def uncertainty(logits: Tensor, task: Task) -> Tensor:
    """(...,) entropy in nats of the answer; of labels, their sum."""
    if task.kind == "classes":
        q = logits.log_softmax(-1)
        return -(q.exp() * q).sum(-1)
    p = logits.sigmoid()
    return (torch.special.entr(p) + torch.special.entr(1 - p)).sum(-1)


def change(now: Tensor, new: Tensor, task: Task, criterion: str) -> Tensor:
    """(...,) 'ectp': KL(new || now), or a number's squared change; 'eudtp': minus the new entropy."""
    if criterion == "eudtp":
        return -uncertainty(new, task)
    if task.kind == "value":
        return (new - now).square().sum(-1)
    if task.kind == "classes":
        q, p = new.log_softmax(-1), now.log_softmax(-1)
        return (q.exp() * (q - p)).sum(-1)
    log = torch.nn.functional.logsigmoid
    q = new.sigmoid()
    return (q * (log(new) - log(now)) + (1 - q) * (log(-new) - log(-now))).sum(-1)


@dataclass(frozen=True)
class CooP(Scored):
    """CooP: uncertainty, and the expected change of the chance of the answer as it stands, less what a question costs.

    alpha · entropy (as a share of its maximum) + beta · |E P(ŷ | concept) - P(ŷ)| - gamma · cost. Computed anew after each
    answer. Chauhan et al. tune the weights on validation; these are even, and costs count nothing.
    """

    rescored: bool = True
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 0.0

    def looks(self, space: ConceptSpace) -> int:
        return states(space)

    def unfit(self, model: ConceptModel, budget: int) -> str | None:
        return "a number as answer has no chance" if model.task.kind == "value" else super().unfit(model, budget)

    def scores(self, case: Case, held: Given | None) -> Tensor:
        look, task = case.look, case.model.task
        read, now = look.at(held)
        chance, answer = look.chances(read), task.predict(now)
        parts: list[Tensor] = []
        for rows, logits in look.outcomes(held):
            mean = (chance[rows, ..., None] * task.probabilities(logits)).sum(2) - task.probabilities(now[rows])[:, None]
            if task.kind == "classes":
                index = answer[rows, None, None].expand(-1, mean.shape[1], 1)
                parts.append(mean.gather(2, index)[..., 0].abs())
            else:
                parts.append(mean.abs().sum(2))
        worth = self.alpha * entropy(read, case.model.space) + self.beta * torch.cat(parts)
        if not self.gamma:
            return worth
        costs = [min(self.gamma * concept.cost, DEAREST) for concept in case.model.space.concepts]
        return worth - torch.tensor(costs, device=now.device, dtype=torch.float64)


@dataclass(frozen=True)
class Greedy(Scored):
    """The greedy oracle: the concept (or group) whose true values raise the chance of the true answer most, step by step."""

    rescored: bool = True
    oracle = True

    def looks(self, space: ConceptSpace) -> int:
        return count_of(space, self.level)

    def unready(self, model: ConceptModel) -> str | None:
        return "it looks at the true answer"

    def scores(self, case: Case, held: Given | None) -> Tensor:
        if case.y is None:
            raise DataError("policy 'greedy': it looks at the true answers, got none; pass y=")
        known = Given(case.told.nan_to_num(), torch.zeros_like(case.c, dtype=torch.bool)) if held is None else held
        membership = members(case.model.space, self.level).bool().to(case.z.device)
        labels = case.told.masked_fill(~case.model.space.widen(case.askable), torch.nan)
        return gain(case.look.told(known, labels, membership), case.y, case.model.task)

    def pooled(self, score: Tensor, case: Case) -> Tensor:
        return score  # of whole units already


def gain(logits: Tensor, y: Tensor, task: Task) -> Tensor:
    """(B, U) how good logits (B, U, Y) are for the true answers (B,): their log-chance, or minus the squared error."""
    if task.kind == "classes":
        return logits.log_softmax(-1).gather(-1, y[:, None, None].expand(*logits.shape[:2], 1))[..., 0]
    if task.kind == "labels":
        target = y[:, None].expand_as(logits)
        sign = torch.where(target > 0.5, 1.0, -1.0)
        return torch.where(target.isnan(), 0, torch.nn.functional.logsigmoid(sign * logits)).sum(-1)
    return -(logits[..., 0] - ((y - task.center) / task.scale)[:, None]).square()
