"""Fixed unit directions in feature space: how far a row lies along each, in training standard deviations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.given import Batch, Given, hold
from isthmus.model import Bottleneck, Concepts
from isthmus.space import ConceptSpace


class Directions(Bottleneck):
    """z (B, D) -> margins z . row, standardised by the training mean and deviation that ``fit`` reads off.

    ``rows`` (K, D) are random unit vectors unless loaded. A correction is a number of standard deviations.
    """

    rows: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, space: ConceptSpace) -> None:
        super().__init__(space)
        self.register_buffer("rows", F.normalize(torch.randn(len(space), dim), dim=-1))
        self.register_buffer("mean", torch.zeros(len(space)))
        self.register_buffer("std", torch.ones(len(space)))

    @property
    def atoms(self) -> Tensor:
        """(K, D) the directions."""
        return self.rows

    def fit(self, z: Tensor, batch: Batch) -> None:
        """Training mean and standard deviation of each margin."""
        margin = z.to(self.rows.device) @ self.rows.T
        self.mean.copy_(margin.mean(0))
        self.std.copy_(margin.std(0, correction=0).clamp(min=1e-6))

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        margin = (z @ self.rows.T - self.mean) / self.std
        return Concepts(hold(margin, given, self.space))

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        self.rows, self.mean, self.std = self.rows[index], self.mean[index], self.std[index]
        self.space = space
