"""Intervention-aware concept embeddings: training plays out corrections, and learns which concept to ask about next.

Espinosa Zarlenga, Collins, Dvijotham, Weller, Shams, Jamnik 2023, Learning to Receive Help, NeurIPS, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus import losses
from isthmus.bottlenecks.embedding import AskingBottleneck, Level, Mixed, membership, mix
from isthmus.given import Batch
from isthmus.heads.vectors import VectorHead
from isthmus.model import ConceptModel, Concepts, Output
from isthmus.registry import Card, Count, Rate, Share, Weight, Whole, method
from isthmus.space import ConceptSpace, Task
from isthmus.stages import Clipped
from isthmus.train import Plan

CARD = Card(
    title="Intervention-aware concept embedding model",
    paper="Espinosa Zarlenga et al., Learning to Receive Help, NeurIPS 2023, arXiv 2309.16928",
    year=2023,
    family="embedding",
    code="mateoespinosa/cem (MIT)",
    kinds=("binary", "categorical"),
    exempt={5: "the two vectors of a concept are read from x, so x still reaches the task when every concept is given"},
    tune={"lr": (1e-3, 1e-2), "rollout_weight": (1.0, 5.0)},
    notes="Its policy is 'learned' ('learned:group' where concepts have groups). What is given already is never the oracle's "
    "target nor drawn again (in the authors' code it can be both); a concept without a label is never asked about.",
)


@method(CARD)
def intcem(
    features: Any,
    space: ConceptSpace,
    task: Task,
    *,
    width: Whole = 16,
    randint: Share = 0.25,
    level: Level = "group",
    policy: tuple[int, ...] = (256, 128),
    rollout_weight: Weight = 5.0,
    discount: Rate = 1.1,
    longest: Whole = 6,
    horizon_rate: Rate = 1.005,
    concept_weight: Weight = 1.0,
    clip: Rate = 100.0,
    lr: Rate = 1e-3,
    weight_decay: Weight = 4e-5,
    epochs: Whole = 100,
    batch_size: Whole = 256,
    patience: Count = 15,
) -> Plan:
    """``discount`` gamma weighs the task after a rollout, ``rollout_weight`` the policy's loss; both tuned in the paper.

    ``policy`` are the hidden layers of the policy network, ``longest`` the most questions of a rollout. A rollout's limit
    starts at 2 and grows by ``horizon_rate`` with each step. ``level``: what is asked about at once.
    """
    bottleneck = AskingBottleneck(features.dim, space, width, hidden=policy, level=level)
    head = VectorHead(space, task, width)
    loss = Rollouts(bottleneck, head, randint, rollout_weight, discount, longest, horizon_rate, concept_weight)
    how = dict[str, Any](lr=lr, weight_decay=weight_decay, epochs=epochs, batch_size=batch_size, patience=patience)
    return Plan(ConceptModel(features, bottleneck, head, space, task), [Clipped(loss, clip=clip, name="joint", **how)])


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Task, concept and policy loss of a batch, some of whose concepts are corrected one after another.

    RandInt corrects some, n more are added at random, then T are drawn from the policy (Gumbel, straight through), each
    after the last. Task: (CE with RandInt's alone + gamma^T CE with all) / (1 + gamma^T); policy: mean over the T steps of
    the cross-entropy between its scores and the greedy oracle's choice. In evaluation nothing is corrected.
    """

    bottleneck: AskingBottleneck
    head: VectorHead
    randint: float
    weight: float
    discount: float
    longest: int
    rate: float
    concept_weight: float

    def __call__(self, out: Output, batch: Batch, task: Task) -> dict[str, Tensor]:
        terms = losses.task(out, batch, task) | {"concept": self.concept_weight * losses.concept(out, batch, task)["concept"]}
        return self.rollout(out, batch, task, terms) if self.bottleneck.training else terms

    def rollout(self, out: Output, batch: Batch, task: Task, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        p, c = out.concepts.values, batch.labels()
        known = torch.ones_like(c) if batch.known is None else batch.known.to(c)
        member = membership(batch.space, self.bottleneck.asked).to(c)
        mask = known * batch.space.widen(torch.rand(1, batch.space.count) < self.randint).to(known)  # (B, K), RandInt
        before = losses.task(self.output(out, self.mixed(out, p, c, mask)), batch, task)["task"]
        free = free_of(mask, known, member)  # (B, G)
        more, steps = self.horizon(len(member), int(free.sum(1).max()))
        noise = torch.rand(free.shape, device=c.device).masked_fill(~free, -1.0)
        first = (noise.argsort(1, descending=True).argsort(1) < more) & free
        mask = torch.maximum(mask, known * (first.to(c) @ member))
        asked, effects = out.logits.new_zeros(()), self.effects(out)
        for _ in range(steps):
            free, seen = free_of(mask, known, member), mask
            scores = self.bottleneck.rank(self.mixed(out, p, c, mask), mask)
            scores = scores.masked_fill(~free, -1e9)
            with torch.no_grad():
                target = greedy(out.logits, effects, c - p, seen, known, member, batch.y, task).masked_fill(~free, -torch.inf)
            open_ = free.any(1)
            each = F.cross_entropy(scores, target.argmax(1), reduction="none")
            weight = open_.to(each) if batch.weight is None else open_ * batch.weight
            asked = asked + (each * weight).sum() / len(each) / steps
            drawn = F.gumbel_softmax(scores, tau=1, hard=True) * open_[:, None]
            mask = mask + (1 - mask) * known * (drawn @ member)
        if steps:
            after = losses.task(self.output(out, self.mixed(out, p, c, mask)), batch, task)["task"]
            gamma = self.discount**steps
            before = (before + gamma * after) / (1 + gamma)
        with torch.no_grad():
            if float(self.bottleneck.horizon) < len(member) + 1:
                self.bottleneck.horizon.mul_(self.rate)
        return terms | {"task": before, "rollout": self.weight * asked}

    def horizon(self, units: int, free: int) -> tuple[int, int]:
        """How many more are corrected first, and how many one after another: uniform, upper ends excluded."""
        limit, used = int(self.bottleneck.horizon), units - free
        bottom = min(limit, units - used - 1)
        more = int(torch.randint(0, bottom, ())) if bottom > 0 else 0
        end = min(limit, self.longest, units - used - more)
        start = 1 if end > 1 else 0
        return more, int(torch.randint(start, end, ())) if end > start else 0

    def mixed(self, out: Output, p: Tensor, c: Tensor, mask: Tensor) -> Tensor:
        """(B, K, E) vectors with the labels where mask (B, K) is 1."""
        on, off = pair(out.concepts)
        return mix(p + mask * (c - p), on, off)

    def output(self, out: Output, vectors: Tensor) -> Output:
        concepts = Concepts(out.concepts.values, out.concepts.logits, vectors)
        return Output(concepts, self.head(concepts, out.features), out.features)

    def effects(self, out: Output) -> Tensor:
        """(B, Y, K) what the logits gain when a concept goes from 0 to 1: the head adds up."""
        on, off = pair(out.concepts)
        return self.head.contributions(Concepts(out.concepts.values, vectors=on - off)).detach()


def pair(concepts: Concepts) -> tuple[Tensor, Tensor]:
    """The two vectors (B, K, E) of each concept."""
    assert isinstance(concepts, Mixed) and concepts.on is not None and concepts.off is not None
    return concepts.on, concepts.off


def free_of(mask: Tensor, known: Tensor, member: Tensor) -> Tensor:
    """(B, G) True where nothing is given and something is known, from mask and known (B, K) and member (G, K)."""
    return (mask @ member.T == 0) & (known @ member.T > 0)


def greedy(
    logits: Tensor, effects: Tensor, gap: Tensor, mask: Tensor, known: Tensor, member: Tensor, y: Tensor, task: Task
) -> Tensor:
    """(B, G) the truth's score after each group is also corrected: the logit of the true class; labels: signed logits added.

    logits (B, Y) before any correction, effects (B, Y, K), gap c - p (B, K), mask what is given. One sum: the logits move
    by gap times effect for each corrected column.
    """
    moves = effects * (gap * known)[:, None]  # (B, Y, K)
    base = logits + (moves * mask[:, None]).sum(-1)
    after = base[:, :, None] + (moves * (1 - mask)[:, None]) @ member.T  # (B, Y, G)
    if task.kind == "classes":
        return after.gather(1, y.long()[:, None, None].expand(-1, 1, after.shape[2])).squeeze(1)
    return ((2 * y - 1).nan_to_num()[:, :, None] * after).sum(1)
