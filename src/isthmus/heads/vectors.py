"""A linear head over concept vectors (concept embedding models)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from isthmus.model import Concepts, Head
from isthmus.space import ConceptSpace, Task


class VectorHead(Head):
    """vectors (B, K, E) -> logits (B, Y), linear: each concept's vector adds its own share."""

    def __init__(self, space: ConceptSpace, task: Task, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(len(space) * width, task.width)
        self.width = width

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        assert concepts.vectors is not None
        return self.map(concepts.vectors.flatten(-2))

    def contributions(self, concepts: Concepts) -> Tensor:
        """(B, Y, K): each concept's vector times its weights."""
        assert concepts.vectors is not None
        weight = self.map.weight.unflatten(-1, (-1, self.width))
        return (concepts.vectors[:, None] * weight).sum(-1)

    def remainder(self, concepts: Concepts, z: Tensor) -> Tensor:
        """(B, Y): the bias."""
        return self.map.bias.expand(len(z), -1)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        keep_blocks(self.map, index, self.width)


class MLPVectorHead(Head):
    """vectors (B, K, E) -> LeakyReLU layers -> logits (B, Y); offers no exact contributions."""

    def __init__(self, space: ConceptSpace, task: Task, width: int, hidden: Sequence[int] = (128,)) -> None:
        super().__init__()
        sizes = [len(space) * width, *hidden]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.LeakyReLU()]
        self.map = nn.Sequential(*layers, nn.Linear(sizes[-1], task.width))
        self.width = width

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        assert concepts.vectors is not None
        return self.map(concepts.vectors.flatten(-2))

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        first = self.map[0]
        assert isinstance(first, nn.Linear)
        keep_blocks(first, index, self.width)


def keep_blocks(layer: nn.Linear, index: Tensor, width: int) -> None:
    """Keep a linear layer's inputs in blocks of ``width``, those at ``index``, in that order."""
    weight = layer.weight.unflatten(-1, (-1, width))[:, index].flatten(1)
    layer.weight, layer.in_features = nn.Parameter(weight, layer.weight.requires_grad), weight.shape[1]
