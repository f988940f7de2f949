"""Concept classifiers on unit features, each fitted by itself on as many rows with the concept as without: KnoBo's grounding.

Yang et al. 2024, A Textbook Remedy for Domain Shifts, NeurIPS, section 3.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.errors import DataError
from isthmus.given import Batch, Given, hold
from isthmus.model import Bottleneck, Concepts
from isthmus.numerics import directions
from isthmus.space import ConceptSpace

MOST = 2000  # rows with, and as many without, that a concept is fitted on
LEAST = 10  # of either, or the concept is not grounded


class Grounded(Bottleneck):
    """z (B, D) -> probabilities (B, K) = sigmoid(w . z/|z| + b). ``sure`` (K,) is False where rows were too few to fit."""

    weight: Tensor
    bias: Tensor
    sure: Tensor

    def __init__(self, dim: int, space: ConceptSpace, *, c: float = 1.0) -> None:
        super().__init__(space)
        self.c = c
        self.register_buffer("weight", torch.zeros(len(space), dim))
        self.register_buffer("bias", torch.zeros(len(space)))
        self.register_buffer("sure", torch.ones(len(space), dtype=torch.bool))

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        logits = F.linear(F.normalize(z, dim=-1), self.weight, self.bias)
        return Concepts(hold(logits.sigmoid(), given, self.space), logits)

    def fit(self, z: Tensor, batch: Batch) -> None:
        """Logistic regressions (strength ``c``) on up to 2,000 rows of each kind, the larger side cut to the smaller.

        ``DataError`` where no concept has ten known rows of each kind.
        """
        e, c = F.normalize(z.float().cpu(), dim=-1), batch.labels().cpu()
        known = torch.ones_like(c, dtype=torch.bool) if batch.known is None else batch.known.cpu()
        positive: list[Tensor] = []
        negative: list[Tensor] = []
        sure = torch.zeros(len(self.space), dtype=torch.bool)
        for k in range(len(self.space)):
            sides = [(known[:, k] & ((c[:, k] > 0.5) == side)).nonzero().flatten() for side in (True, False)]
            size = min(MOST, *(len(rows) for rows in sides))
            if size < LEAST:
                continue
            sure[k] = True
            for rows, into in zip(sides, (positive, negative), strict=True):
                into.append(e[rows[torch.randperm(len(rows))[:size]]])
        if not bool(sure.any()):
            raise DataError(f"knobo: expected concepts with at least {LEAST} rows that have them and as many that lack them")
        found = directions.logistic(directions.sets(positive, negative), c=self.c)
        self.weight.zero_()
        self.bias.zero_()
        self.weight[sure], self.bias[sure] = found.weight.to(self.weight), found.bias.to(self.bias)
        self.sure.copy_(sure)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        self.weight, self.bias, self.sure, self.space = self.weight[index], self.bias[index], self.sure[index], space
