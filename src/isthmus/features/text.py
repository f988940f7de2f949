"""Features of texts from word vectors: the mean of the vectors of the words known.

Pennington, Socher and Manning 2014, "GloVe: Global Vectors for Word Representation".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from isthmus.errors import DataError
from isthmus.features.pretrained import packed
from isthmus.features.registry import Features, features_builder, positive

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|[^\w\s]")


def texts(raw: Any) -> list[str]:
    """A list of texts, or the ``DataError`` that names the first row that is none."""
    if isinstance(raw, str) or not isinstance(raw, Sequence):
        raise DataError(f"x: expected a list of texts, got {type(raw).__name__}")
    rows = list(cast("Sequence[Any]", raw))
    for row, text in enumerate(rows):
        if not isinstance(text, str):
            raise DataError(f"x, row {row}: expected a text, got {type(text).__name__}")
    return rows


def words(text: str) -> list[str]:
    """Lower-case words and single punctuation marks, in order."""
    return _WORD.findall(text.lower())


class WordVectors(Features):
    """Mean of word vectors; the vocabulary travels in the ``state_dict``, as UTF-8 bytes, beside the vectors."""

    pretrained = True
    vectors: Tensor

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.dim, self.index = dim, dict[str, int]()
        self.register_buffer("vectors", torch.zeros(count, dim))
        self.resolved = {"count": count, "dim": dim}

    def fill(self, vocabulary: Sequence[str], vectors: Tensor) -> None:
        """Take words and their vectors (count, D)."""
        self.index = {word: row for row, word in enumerate(vocabulary)}
        self.vectors.copy_(vectors)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(list("\n".join(self.index).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        text = bytes(state.tolist()).decode()
        self.index = {word: row for row, word in enumerate(text.split("\n"))} if text else {}

    def prepare(self, raw: Any) -> Tensor:
        """Texts -> int64 (B, T) vocabulary rows, -1 after the last known word; such a tensor passes unchanged."""
        if isinstance(raw, Tensor):
            return raw
        rows = [[self.index[word] for word in words(text) if word in self.index] for text in texts(raw)]
        out = torch.full((len(rows), max([1, *map(len, rows)])), -1)
        for row, found in enumerate(rows):
            out[row, : len(found)] = torch.tensor(found, dtype=torch.long)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Words (B, T) -> z (B, D); a text without a known word gives 0."""
        known = (x >= 0)[..., None]
        return (self.vectors[x.clamp(min=0)] * known).sum(1) / known.sum(1).clamp(min=1)


@features_builder("glove", blank={"weights": None})
def glove(*, weights: str | Path | None = "twitter", count: int = 11925, dim: int = 25) -> WordVectors:
    """Mean of GloVe word vectors: 'twitter' (25 features) or an .npz with ``words`` (V,) and ``vectors`` (V, D).

    ``weights``: 'twitter' is looked up in ``$ISTHMUS_DATA/weights``; None leaves an empty table of ``count`` words and
    ``dim`` columns, which otherwise come from the file.
    """
    positive("glove, count", count)
    positive("glove, dim", dim)
    if weights is None:
        return WordVectors(count, dim)
    found = packed(weights, {"twitter": "glove_twitter_25d_12k.npz"}, "glove")
    if set(found) != {"words", "vectors"} or found["vectors"].shape[:1] != found["words"].shape:
        raise DataError(f"glove, weights {str(weights)!r}: expected words (V,) and vectors (V, D), got {sorted(found)}")
    module = WordVectors(*found["vectors"].shape)
    module.fill([str(word) for word in found["words"]], torch.from_numpy(found["vectors"]))
    return module
