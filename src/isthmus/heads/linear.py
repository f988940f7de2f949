"""Heads that read the concept values: a linear map, or one hidden layer."""

from __future__ import annotations

from typing import Literal, cast

from torch import Tensor, nn

from isthmus.model import Concepts, Head
from isthmus.space import ConceptSpace, Task

Kind = Literal["linear", "mlp"]


class LinearHead(Head):
    """values (B, K) -> logits (B, Y); continuous columns enter on their standardised scale."""

    def __init__(self, space: ConceptSpace, task: Task) -> None:
        super().__init__()
        self.space = space
        self.map = nn.Linear(len(space), task.width)

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        return self.map(self.space.standardised(concepts.values))

    def contributions(self, concepts: Concepts) -> Tensor:
        """(B, Y, K): weight times (standardised) value; with ``remainder`` they add up to the logits."""
        return self.space.standardised(concepts.values)[:, None] * self.map.weight

    def remainder(self, concepts: Concepts, z: Tensor) -> Tensor:
        """(B, Y): the bias."""
        return self.map.bias.expand(len(z), -1)

    @property
    def weights(self) -> Tensor:
        """(Y, K) weights, for sparsity (NEC)."""
        return self.map.weight

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        self.space = space
        keep_inputs(self.map, index)


class MLPHead(Head):
    """values (B, K) -> one hidden layer -> logits (B, Y); offers no exact contributions."""

    def __init__(self, space: ConceptSpace, task: Task, hidden: int = 128) -> None:
        super().__init__()
        self.space = space
        self.map = nn.Sequential(nn.Linear(len(space), hidden), nn.ReLU(), nn.Linear(hidden, task.width))

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        return self.map(self.space.standardised(concepts.values))

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        self.space = space
        keep_inputs(cast("nn.Linear", self.map[0]), index)


def keep_inputs(layer: nn.Linear, index: Tensor) -> None:
    """Keep a linear layer's inputs at ``index``, in that order."""
    layer.weight = nn.Parameter(layer.weight[:, index], layer.weight.requires_grad)
    layer.in_features = len(index)


def make_head(kind: Kind, space: ConceptSpace, task: Task, hidden: int = 128) -> LinearHead | MLPHead:
    """'linear', or 'mlp' with one hidden layer (a pair of cards is no linear function of 52 concepts)."""
    return LinearHead(space, task) if kind == "linear" else MLPHead(space, task, hidden)
