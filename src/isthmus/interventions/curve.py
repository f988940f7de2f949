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
    """``logits`` (P, n, Y) after ``counts`` (P,) questions, at which ``shares`` (P,) of all that can be asked are told."""

    counts: tuple[int, ...]
    shares: tuple[float, ...]
    logits: Tensor


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
    allowed: Tensor | None = None,
) -> Curve:
    """Logits (P, n, Y) on rows with features z (n, D) and true labels c (n, K, NaN unknown) after each budget.

    Unknown labels are never given; ``allowed`` (n, M) can forbid more. A row with fewer labels than the budget gives all of
    them, and ``shares`` count what was told. One chunk of rows at a time, on the model's device.
    """
    device, found = model.device, [list[Tensor]() for _ in counts]
    told, most = [0] * len(counts), 0
    for index in torch.arange(len(z)).split(CHUNK):
        part, labels, first = z[index].to(device), c[index].to(device), int(index[0])
        ask = askable(labels, model.space, None if allowed is None else allowed[index])
        most += int(ask.sum())
        for number, budget in enumerate(counts):
            chosen = policy.choose(model, part, labels, ask, budget, first=first)
            told[number] += int(chosen.sum())
            found[number].append(model.answer(part, policy.give(model, part, labels, chosen)).logits.cpu())
    return Curve(counts, tuple(k / max(most, 1) for k in told), torch.stack([torch.cat(parts) for parts in found]))
