"""Two energies of a class: with the features, and with all concepts together. The class embeddings are shared.

Xu et al. 2024, Energy-Based Concept Bottleneck Models, ICLR, section 3.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.model import Concepts, Head
from isthmus.space import ConceptSpace, Task


class EnergyHead(Head):
    """E(x, y) = w . relu(u + u * v_y), u = W x; E(c, y) = w' . relu(s + s * v_y), s = ``vectors`` (B, 1, H) of all concepts.

    Every use has the same unit class embeddings v_y, nowhere below -1, so that relu(a + a * v) = relu(a) * (1 + v). Not
    sealed: E(x, y) reads the features. In one pass both count alike; a solver weighs them.
    """

    def __init__(self, dim: int, task: Task, width: int = 512, dropout: float = 0.2) -> None:
        super().__init__()
        edge = 1 / math.sqrt(width)
        self.project, self.drop = nn.Linear(dim, width), nn.Dropout(dropout)
        self.classes = nn.Parameter(torch.randn(task.width, width))
        self.from_x, self.from_c = (nn.Parameter(torch.empty(width).uniform_(-edge, edge)) for _ in range(2))

    @property
    def units(self) -> Tensor:
        """(Y, H) class embeddings of length 1."""
        return F.normalize(self.classes, dim=-1)

    def reading(self, z: Tensor) -> Tensor:
        """(B, H) w * relu(u): its dot product with 1 + v is E(x, y)."""
        return self.drop(self.project(z)).relu() * self.from_x

    def seen(self, z: Tensor) -> Tensor:
        """(B, Y) minus E(x, y): logits of p(y | x)."""
        return -(self.reading(z) @ (1 + self.units).T)

    def implied(self, together: Tensor) -> Tensor:
        """(B, H) the vector of all concepts -> (B, Y) minus E(c, y): logits of p(y | c)."""
        return -((together.relu() * self.from_c) @ (1 + self.units).T)

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        assert concepts.vectors is not None
        return self.seen(z) + self.implied(concepts.vectors[:, 0])

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        """Nothing to keep: the bottleneck hands over one vector for all concepts."""
