"""Incumbents of the sparse head, written from their published description: glm_saga as shipped, and the same repaired.

Wong et al., "Leveraging sparse linear layers for debuggable deep networks", ICML 2021; as used by Label-free CBM (batches of
256, step 0.1). Shipped, it walks a per-row DataLoader and forms a batch's gradient as the mean of (B, Y, D) outer products,
twice. Repaired, rows are permuted in memory and the gradient is one matrix product: same updates, same iterates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

BATCH, STEP = 256, 0.1
Batch = tuple[Tensor, Tensor, Tensor]


@dataclass
class Saga:
    """SAGA on the multinomial elastic net of standardised columns ``x`` (n, D); ``epoch`` passes over the rows once."""

    x: Tensor
    y: Tensor
    classes: int
    l1: float
    l2: float
    shipped: bool = False

    def __post_init__(self) -> None:
        n, d = self.x.shape
        self.weights, self.bias = torch.zeros(self.classes, d), torch.zeros(self.classes)
        self.table = torch.zeros(n, self.classes)
        self.mean_w, self.mean_b = torch.zeros_like(self.weights), torch.zeros_like(self.bias)
        self.draw = torch.Generator().manual_seed(0)
        rows = TensorDataset(self.x, self.y, torch.arange(n))
        self.loader = DataLoader(rows, batch_size=BATCH, shuffle=True, generator=self.draw)

    def batches(self) -> Iterator[Batch]:
        """Rows, labels and indices of one pass."""
        if self.shipped:
            yield from self.loader
            return
        for index in torch.randperm(len(self.x), generator=self.draw).split(BATCH):
            yield self.x[index], self.y[index], index

    def epoch(self) -> None:
        """One pass: per-row residuals in a table, their mean gradient kept up to date, a proximal step for each batch."""
        for x, y, index in self.batches():
            fresh = torch.softmax(torch.addmm(self.bias, x, self.weights.T), 1)
            fresh[torch.arange(len(y)), y] -= 1
            stale = self.table[index]
            by_w = outer(fresh, x) - outer(stale, x) if self.shipped else product(fresh - stale, x)
            by_b = (fresh - stale).mean(0)
            moved = self.weights - STEP * (by_w + self.mean_w)
            moved = torch.sign(moved) * (moved.abs() - STEP * self.l1).clamp_min(0)
            self.weights = moved / (1 + STEP * self.l2)
            self.bias = self.bias - STEP * (by_b + self.mean_b)
            self.table[index] = fresh
            share = len(y) / len(self.x)
            self.mean_w.add_(by_w, alpha=share)
            self.mean_b.add_(by_b, alpha=share)


def product(residual: Tensor, x: Tensor) -> Tensor:
    """Mean gradient (Y, D) as one matrix product."""
    return residual.T @ x / len(x)


def outer(residual: Tensor, x: Tensor) -> Tensor:
    """Mean gradient (Y, D) as the mean of (B, Y, D) outer products."""
    return (residual.unsqueeze(2) * x.unsqueeze(1)).mean(0)
