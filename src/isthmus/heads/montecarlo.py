"""A head read once for each sample of the concepts; its probabilities are averaged, never its logits.

Havasi et al. 2022 (Addressing Leakage), Vandenhirtz et al. 2024 (Stochastic Concept Bottleneck Models).
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from isthmus.draws import Sampled
from isthmus.model import Concepts, Head
from isthmus.space import ConceptSpace, Task


class MonteCarloHead(Head):
    """Samples (S, B, K) -> logits (B, Y) of the mean probability (classes, labels) or the mean number (value).

    Offers no contributions: the log of a mean of probabilities is no sum over concepts.
    """

    def __init__(self, inner: Head, task: Task) -> None:
        super().__init__()
        self.inner, self.kind = inner, task.kind

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        if not isinstance(concepts, Sampled) or concepts.samples is None:
            return self.inner(concepts, z)
        each = self.inner(Concepts(concepts.samples), z)  # (S, B, Y)
        share = None if concepts.share is None else concepts.share.to(each)[..., None]
        if self.kind == "value":
            return each.mean(0) if share is None else (share * each).sum(0)
        weight = each.new_tensor(-math.log(len(each))) if share is None else share.clamp(min=1e-38).log()
        if self.kind == "classes":
            return (each.log_softmax(-1) + weight).logsumexp(0)
        return (F.logsigmoid(each) + weight).logsumexp(0) - (F.logsigmoid(-each) + weight).logsumexp(0)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        self.inner.keep(index, space)
