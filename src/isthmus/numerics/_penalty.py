"""The elastic net with a group term over the classes of a concept: value, prox, conjugate, and the strength that empties it.

Zou and Hastie 2005 (elastic net); Simon et al. 2013 (sparse group lasso); Fenchel conjugates after Ndiaye et al. 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Penalty:
    """l1 |W|_1 + group Σ_d |W[:, d]|_2 + l2/2 |W|², for weights (Y, D); all strengths at least 0."""

    l1: float
    l2: float
    group: float = 0.0

    @classmethod
    def of(cls, lam: float, l1_ratio: float, group_ratio: float, classes: int) -> Penalty:
        """``lam`` shared out: ``l1_ratio`` of it is sparse, of which ``group_ratio`` goes to groups (times √Y)."""
        sparse = lam * l1_ratio
        group_ratio = group_ratio if classes > 1 else 0.0  # a group of one is an l1
        return cls(sparse * (1 - group_ratio), lam * (1 - l1_ratio), sparse * group_ratio * classes**0.5)

    def value(self, weights: Tensor) -> float:
        """The penalty of (Y, D) weights, summed in float64."""
        w = weights.double()
        grouped = self.group * float(w.norm(dim=0).sum()) if self.group else 0.0
        return self.l1 * float(w.abs().sum()) + grouped + self.l2 / 2 * float(w.square().sum())

    def prox(self, weights: Tensor, step: Tensor) -> Tensor:
        """argmin over V of penalty(V) + |V - W|² / (2 step); ``step`` (Y, 1), one value for all where groups are on."""
        found = shrink(weights, step * self.l1)
        if self.group:
            norm = found.norm(dim=0).clamp_min(torch.finfo(found.dtype).tiny)
            found = found * (1 - step.max() * self.group / norm).clamp_min(0)
        return found / (1 + step * self.l2)

    def excess(self, gradient: Tensor) -> Tensor:
        """How far each entry, or each concept where groups are on, of a float64 gradient (Y, D) passes what is free."""
        over = (gradient.abs() - self.l1).clamp_min(0)
        return (over.norm(dim=0) - self.group).clamp_min(0) if self.group else over

    def conjugate(self, gradient: Tensor) -> float:
        """sup over W of <gradient, W> - penalty(W): infinite past the sparse part where l2 is 0."""
        over = self.excess(gradient)
        if self.l2 == 0:
            return 0.0 if float(over.max()) == 0 else float("inf")
        return float(over.square().sum()) / (2 * self.l2)


def shrink(x: Tensor, by: Tensor) -> Tensor:
    """Soft threshold: towards 0 by ``by``, and no further."""
    return x - torch.minimum(torch.maximum(x, -by), by)


def largest(gradient: Tensor, l1_ratio: float, group_ratio: float) -> float:
    """The least ``lam`` whose solution is all zero, from the gradient (Y, D) at zero weights and the best bias."""
    g = gradient.double().abs()
    if g.numel() == 0 or float(g.max()) == 0:
        return 0.0
    if not group_ratio:
        return float(g.max()) / l1_ratio
    low, high = 0.0, float(g.max()) / l1_ratio / min(group_ratio, 1.0) + float(g.norm(dim=0).max()) / l1_ratio
    for _ in range(100):
        middle = (low + high) / 2
        free = float(Penalty.of(middle, l1_ratio, group_ratio, len(g)).excess(g).max()) == 0
        low, high = (low, middle) if free else (middle, high)
    return high
