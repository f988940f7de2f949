"""Concept labels without gaps."""

from __future__ import annotations

from torch import Tensor

from isthmus.space import ConceptSpace


def gapless(c: Tensor, space: ConceptSpace) -> Tensor:
    """Labels with 0 where one is unknown; of a categorical concept the first state."""
    c = c.clone()
    for concept, part in zip(space.concepts, space.slices, strict=True):
        if concept.kind == "categorical":
            c[c[:, part.start].isnan(), part.start] = 1.0
    return c.nan_to_num()
