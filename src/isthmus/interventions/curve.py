"""The correction curve: the task's logits after k concepts were corrected, features computed once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.interventions.policies import Policy, askable
from isthmus.model import ConceptModel

CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Curve:
    """``counts`` (P,) corrected concepts or groups, of ``total``; ``logits`` (P, n, Y) after so many."""

    counts: tuple[int, ...]
    total: int
    logits: Tensor

    @property
    def shares(self) -> list[float]:
        return [k / self.total for k in self.counts]


def points(total: int, most: int = 21) -> tuple[int, ...]:
    """0 to ``total``, all of them or about ``most`` evenly spread with both ends."""
    if total < most:
        return tuple(range(total + 1))
    return tuple(sorted({round(i * total / (most - 1)) for i in range(most)}))


@torch.no_grad()
def curve(
    model: ConceptModel,
    z: Tensor,
    c: Tensor,
    policy: Policy,
    counts: tuple[int, ...],
    *,
    total: int | None = None,
    allowed: Tensor | None = None,
) -> Curve:
    """Logits (P, n, Y) on rows with features z (n, D) and true labels c (n, K, NaN unknown) after each budget.

    Unknown labels are never given; ``allowed`` (n, M) can forbid more. One chunk of rows at a time, on the model's device.
    """
    device, found = model.device, [list[Tensor]() for _ in counts]
    for index in torch.arange(len(z)).split(CHUNK):
        part, labels = z[index].to(device), c[index].to(device)
        ask = askable(labels, model.space, None if allowed is None else allowed[index])
        for number, budget in enumerate(counts):
            given = policy(model, part, labels, ask, budget)
            found[number].append(model.answer(part, given).logits.cpu())
    return Curve(counts, total or model.space.count, torch.stack([torch.cat(parts) for parts in found]))
