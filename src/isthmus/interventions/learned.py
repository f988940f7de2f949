"""A learnt policy: the method's own where it has one, else a network that imitates the greedy oracle.

Espinosa Zarlenga et al., Learning to Receive Help: Intervention-Aware Concept Embedding Models, NeurIPS 2023: IntCEM's policy
network, and behavioural cloning of the greedy oracle for models without (an MLP of 256 and 128 units, 100 epochs of SGD at
.01 on 5,000 states).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import DataError
from isthmus.given import Given
from isthmus.interventions.criteria import Greedy, Scored
from isthmus.interventions.look import composable
from isthmus.interventions.policies import Case, case, count_of, members, units
from isthmus.model import ConceptModel
from isthmus.train import seeded

STATES, HIDDEN, EPOCHS, RATE, BATCH = 5000, (256, 128), 100, 0.01, 256
FEW = 300  # states where every look at the oracle is a whole inference


@runtime_checkable
class Asks(Protocol):
    """A bottleneck (or head) that learnt what to ask: scores (B, U) of units for features z when ``given`` is held."""

    level: str

    def policy_scores(self, z: Tensor, given: Given) -> Tensor: ...


def own(model: ConceptModel) -> Asks | None:
    """The model's own policy, if it learnt one."""
    for part in (model.bottleneck, model.head):
        if isinstance(part, Asks):
            return part
    return None


@dataclass(frozen=True)
class Learned(Scored):
    """The model's own policy, or ``fitted`` to imitate the greedy oracle on training rows."""

    rescored: bool = True
    states: int = STATES
    epochs: int = EPOCHS
    seed: int = 0
    net: nn.Module | None = None

    def unready(self, model: ConceptModel) -> str | None:
        mine = own(model)
        known = self.net is not None or (mine is not None and mine.level == self.level)
        return None if known else "this model learnt no policy of its own"

    def fitted(self, model: ConceptModel, z: Tensor, c: Tensor, y: Tensor, *, held: tuple[Tensor, Tensor, Tensor]) -> Learned:
        if self.unready(model) is None:
            return self
        made = case(model, z, c, y=y)
        inputs, targets, open_ = self._examples(made)
        with seeded(self.seed), torch.enable_grad():
            net = network(inputs.shape[1], open_.shape[1]).to(inputs.device)
            optimiser = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9)
            for _ in range(self.epochs):
                for index in torch.randperm(len(inputs)).split(BATCH):
                    logits = net(inputs[index]).masked_fill(~open_[index], -1e4)
                    optimiser.zero_grad()
                    F.cross_entropy(logits, targets[index]).backward()
                    optimiser.step()
        return replace(self, net=net.eval().requires_grad_(False))

    def _examples(self, made: Case) -> tuple[Tensor, Tensor, Tensor]:
        """States after a random number of random answers, what the greedy oracle asks there, and what could be asked."""
        space, device = made.model.space, made.z.device
        membership = members(space, self.level).to(device)
        draw = torch.Generator().manual_seed(self.seed)
        number = self.states if composable(made.model, made.z) else min(self.states, FEW)
        index = torch.randint(len(made.z), (number,), generator=draw)
        share, order = torch.rand(number, 1, generator=draw), torch.rand(number, len(membership), generator=draw)
        inputs, targets, opens = list[Tensor](), list[Tensor](), list[Tensor]()
        for at in torch.arange(number).split(512):
            rows = index[at].to(device)
            part = replace(
                made, z=made.z[rows], c=made.c[rows], askable=made.askable[rows], y=None if made.y is None else made.y[rows]
            )
            can = units(part.askable, membership)
            asked = can & (order[at].to(device) < share[at].to(device) * 0.999)
            free = can & ~asked
            some = free.any(1)
            told = (asked.to(membership) @ membership > 0) & part.askable
            held = Given(part.c.nan_to_num(), space.widen(told) & ~part.c.isnan())
            score = Greedy(level=self.level).scores(part, held)
            inputs.append(state(part, held, asked)[some])
            targets.append(score.masked_fill(~free, -torch.inf).argmax(1)[some])
            opens.append(free[some])
        return torch.cat(inputs), torch.cat(targets), torch.cat(opens)

    def scores(self, case: Case, held: Given | None) -> Tensor:
        known = Given(case.told.nan_to_num(), torch.zeros_like(case.c, dtype=torch.bool)) if held is None else held
        mine = own(case.model)
        if mine is not None and mine.level == self.level:
            return mine.policy_scores(case.z, known)
        if self.net is None:
            raise DataError("policy 'learned': this model learnt none; call fitted() with training rows first")
        membership = members(case.model.space, self.level).to(case.z.device)
        asked = units(case.model.space.narrow(known.mask).expand(len(case.z), -1), membership)
        return self.net(state(case, known, asked))

    def pooled(self, score: Tensor, case: Case) -> Tensor:
        return score  # of units already

    def unfit(self, model: ConceptModel, budget: int) -> str | None:
        return super().unfit(model, budget) if count_of(model.space, self.level) else "no concepts"


def state(case: Case, held: Given, asked: Tensor) -> Tensor:
    """(B, K + Y + U) what the imitation sees: concepts as read, the answer's chances, which units are known."""
    read, logits = case.look.at(held)
    return torch.cat([case.model.space.standardised(read), case.model.task.probabilities(logits), asked.to(read)], 1)


def network(inputs: int, outputs: int) -> nn.Sequential:
    """LeakyReLU layers of 256 and 128."""
    sizes, layers = [inputs, *HIDDEN], list[nn.Module]()
    for a, b in zip(sizes, HIDDEN, strict=False):
        layers += [nn.Linear(a, b), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Linear(HIDDEN[-1], outputs))
