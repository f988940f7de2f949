"""The space that a model's features share with texts, as a part of the model: z to e, and vectors of texts as e sees them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import DataError
from isthmus.space import ConceptSpace


class TextSpace(nn.Module):
    """z (B, D) -> e (B, d): through a copy of ``shared`` (a map with ``dim``, as aligned features bring it), else z itself.

    A map may have a ``center`` (d,), the mean of the texts that it was learnt from: e is measured from there, so texts are too.
    """

    def __init__(self, dim: int, shared: nn.Module | None = None) -> None:
        super().__init__()
        self.map: Any = None if shared is None else deepcopy(shared)
        self.dim = dim if shared is None else int(self.map.dim)

    def forward(self, z: Tensor) -> Tensor:
        return z if self.map is None else self.map(z)

    def place(self, vectors: Tensor) -> Tensor:
        """Text embeddings (n, d) as rows that e is compared with; ``DataError`` where they have another width."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise DataError(
                f"concept vectors: expected shape (K, {self.dim}), the features' text space, got {tuple(vectors.shape)}; "
                "embed the words with the text encoder of these features"
            )
        center = getattr(self.map, "center", None)
        return vectors.float() if center is None else vectors.to(center) - center

    def rows(self, space: ConceptSpace) -> Tensor:
        """(K, d) the texts of a space, placed; random unit vectors where it has none (to be loaded, or pointed later)."""
        if space.vectors is None:
            return F.normalize(torch.randn(len(space), self.dim), dim=-1)
        return self.place(space.vectors)
