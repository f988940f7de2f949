"""Losses: (output, batch, task) -> named terms. Parts report their own penalties beside these."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.given import Batch
from isthmus.model import Output
from isthmus.space import Task


def task(out: Output, batch: Batch, task: Task) -> dict[str, Tensor]:
    """Cross-entropy (classes), binary cross-entropy (labels) or squared error on the unit scale (value); mean of rows."""
    if task.kind == "classes":
        if batch.weight is None:
            return {"task": F.cross_entropy(out.logits, batch.y)}
        return {"task": (F.cross_entropy(out.logits, batch.y, reduction="none") * batch.weight).mean()}
    y = batch.y if task.kind == "labels" else ((batch.y - task.center) / task.scale)[:, None]
    known = ~y.isnan()
    scale = known if batch.weight is None else known * batch.weight[:, None]
    if task.kind == "labels":
        each = F.binary_cross_entropy_with_logits(out.logits, y.nan_to_num(), reduction="none")
    else:
        each = (out.logits - y.nan_to_num()).square()
    return {"task": (each * scale).sum() / known.sum().clamp(min=1)}


@dataclass(frozen=True)
class ConceptLoss:
    """The concepts' own negative log-likelihood, mean over known labels (nats); CEM's convention, not Koh's sum.

    ``balance`` scales each binary concept's whole loss by its imbalance ratio n/n_pos - 1 (Koh et al. 2020, their code).
    """

    balance: tuple[float, ...] | None = None

    def __call__(self, out: Output, batch: Batch, task: Task) -> dict[str, Tensor]:
        weight = None if self.balance is None else torch.tensor(self.balance, device=out.logits.device)
        return {"concept": out.concepts.nll(batch.labels(), batch.space, known=batch.known, weight=weight, rows=batch.weight)}


concept = ConceptLoss()


@dataclass(frozen=True)
class Both:
    """Task + ``weight`` times concept: the joint objective."""

    weight: float = 1.0

    def __call__(self, out: Output, batch: Batch, kind: Task) -> dict[str, Tensor]:
        terms = task(out, batch, kind) | concept(out, batch, kind)
        return terms if self.weight == 1 else terms | {"concept": self.weight * terms["concept"]}
