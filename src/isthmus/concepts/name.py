"""Names for directions nobody named: the nearest words of a vocabulary, by the way back from features to texts.

Moayeri et al. 2023, Text-To-Concept (and Back), section 5 (concept to text; by retrieval here, they decode with a
captioner); Rao et al. 2024, Discover-then-Name, section 3.2, for directions that live in the text space already. The stage
``Name`` writes the names into a fitted model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import DataError


@torch.no_grad()
def nearest_words(
    directions: Tensor, words: Sequence[str], vectors: Tensor, *, shared: nn.Module | None = None, most: int = 5
) -> list[list[tuple[str, float]]]:
    """For each direction (m, D) the ``most`` nearest of ``words`` and their cosines, -1 to 1, nearest first.

    ``vectors`` (V, d) are the words' embeddings. ``shared`` is the map of the features into that space (``features.shared``): a
    direction moves a feature by itself, so only the map's linear part is used, and texts are measured from its center. Without
    it directions and words share a space. ``DataError`` where widths differ or there is no word.
    """
    if not len(words) or len(words) != len(vectors):
        raise DataError(f"vocabulary: expected words and a vector for each, got {len(words)} words and {len(vectors)} vectors")
    e = directions.float()
    if shared is not None:
        zero = torch.zeros_like(e[:1])
        e = shared(e) - shared(zero)
        vectors = vectors - getattr(shared, "center", torch.zeros(vectors.shape[1]))
    if e.shape[1] != vectors.shape[1]:
        raise DataError(
            f"vocabulary: expected vectors of {e.shape[1]} columns, those of the directions, got {vectors.shape[1]}"
        )
    cosine = F.normalize(e, dim=-1) @ F.normalize(vectors.float(), dim=-1).T
    best: list[list[int]] = cosine.topk(min(most, len(words)), dim=-1).indices.tolist()
    return [[(words[i], float(row[i])) for i in index] for row, index in zip(cosine, best, strict=True)]
