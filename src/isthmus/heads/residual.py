"""Heads that look past the strip: features straight to the task, alone or beside a head over concepts."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from isthmus.model import Concepts, Contributes, Head
from isthmus.space import ConceptSpace, Task


class FeatureHead(Head):
    """z (B, D) -> logits (B, Y), linear or with one hidden layer; no concept is read."""

    def __init__(self, dim: int, task: Task, kind: Literal["linear", "mlp"] = "linear", hidden: int = 128) -> None:
        super().__init__()
        if kind == "linear":
            self.map: nn.Module = nn.Linear(dim, task.width)
        else:
            self.map = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, task.width))

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        return self.map(z)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        """Nothing to keep: the head reads no concept."""


class ResidualHead(Head):
    """A head over concepts plus a linear side channel from the features, dropped (whole) while training.

    Not sealed. What passes beside the strip is the remainder, never spread over concepts.
    """

    def __init__(self, inner: Head, dim: int, task: Task, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner, self.side, self.dropout = inner, nn.Linear(dim, task.width, bias=False), dropout

    def channel(self, z: Tensor) -> Tensor:
        """(B, Y) what the side channel adds; in training each row loses it with probability ``dropout``."""
        if self.training and self.dropout:
            keep = z.new_empty((len(z), 1)).bernoulli_(1 - self.dropout)
            return self.side(z) * keep
        return self.side(z)

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        return self.inner(concepts, z) + self.channel(z)

    def __getattr__(self, name: str) -> Any:
        # contributions exist exactly where the inner head offers them
        if name in ("contributions", "weights"):
            return getattr(self.inner, name)
        if name == "remainder" and isinstance(self.inner, Contributes):
            return self._remainder
        return super().__getattr__(name)

    def _remainder(self, concepts: Concepts, z: Tensor) -> Tensor:
        """(B, Y): the bias and all that passes beside the strip."""
        inner = self.inner
        assert isinstance(inner, Contributes)
        return inner.remainder(concepts, z) + self.channel(z)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        self.inner.keep(index, space)
