"""A concept bottleneck and a concept embedding model as a competent person writes them without a library: plain torch.

The mathematics, the order of random draws and the optimiser's settings are those of ``isthmus``: the losses must agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainCBM(nn.Module):
    """x (B, D) -> concept logits (B, K) and class logits (B, Y)."""

    def __init__(self, dim: int, concepts: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, concepts)
        self.head = nn.Linear(concepts, classes)

    def forward(self, x: Tensor, c: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
        logits = self.score(x)
        return logits, self.head(logits.sigmoid())


class PlainCEM(nn.Module):
    """As ``PlainCBM``, with two vectors for each concept from one linear map, and RandInt by one draw for the batch."""

    def __init__(self, dim: int, concepts: int, classes: int, width: int = 16, randint: float = 0.25) -> None:
        super().__init__()
        self.pair = nn.Linear(dim, concepts * 2 * width)
        self.score = nn.Linear(2 * width, 1)
        self.head = nn.Linear(concepts * width, classes)
        self.concepts, self.width, self.randint = concepts, width, randint

    def forward(self, x: Tensor, c: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
        pair = F.leaky_relu(self.pair(x).view(len(x), self.concepts, 2 * self.width))
        logits = self.score(pair).squeeze(-1)
        given = torch.rand(1, self.concepts) < self.randint
        p = torch.where(given if known is None else given & known, c, logits.sigmoid())
        on, off = pair[..., : self.width], pair[..., self.width :]
        return logits, self.head((off + p[..., None] * (on - off)).flatten(1))


@dataclass(frozen=True)
class Settings:
    """What both sides train with."""

    epochs: int
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 4e-5


def train(model: nn.Module, x: Tensor, c: Tensor, y: Tensor, how: Settings, *, fused: bool | None = None) -> list[float]:
    """The loop without a thought for unknown labels; returns the loss of each step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=how.lr, weight_decay=how.weight_decay, fused=fused)
    losses: list[float] = []
    for _ in range(how.epochs):
        for index in torch.randperm(len(x)).split(how.batch):
            cb = c[index]
            logits, answer = model(x[index], cb, None)
            loss = F.cross_entropy(answer, y[index]) + F.binary_cross_entropy_with_logits(logits, cb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def train_masked(model: nn.Module, x: Tensor, c: Tensor, y: Tensor, how: Settings, *, fused: bool | None = None) -> list[float]:
    """The loop that masks: c (B, K) with NaN where unknown, split once into labels and a mask before training."""
    known, c = ~c.isnan(), c.nan_to_num()
    optimizer = torch.optim.Adam(model.parameters(), lr=how.lr, weight_decay=how.weight_decay, fused=fused)
    losses: list[float] = []
    for _ in range(how.epochs):
        for index in torch.randperm(len(x)).split(how.batch):
            cb, kb = c[index], known[index]
            logits, answer = model(x[index], cb, kb)
            weight = kb.float()
            concept = F.binary_cross_entropy_with_logits(logits, cb, weight, reduction="sum") / weight.sum()
            loss = F.cross_entropy(answer, y[index]) + concept
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses
