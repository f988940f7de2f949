"""No concepts at all: the black box's bottleneck, K = 0."""

from __future__ import annotations

from torch import Tensor

from isthmus.given import Given
from isthmus.model import Bottleneck, Concepts
from isthmus.space import EMPTY, ConceptSpace


class EmptyBottleneck(Bottleneck):
    """z (B, D) -> values (B, 0)."""

    def __init__(self) -> None:
        super().__init__(EMPTY)

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        return Concepts(z.new_zeros((len(z), 0)))

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        self.space = space
