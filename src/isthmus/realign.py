"""Realignment: after a correction a small network moves the concepts that were not corrected.

Singhi, Kim, Roth, Akata 2024, Improving Intervention Efficacy via Concept Realignment in Concept Bottleneck Models, ECCV.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.given import Batch, Given, hold
from isthmus.model import ConceptModel, Output, feedforward
from isthmus.space import ConceptSpace


class Realigner(nn.Module):
    """A solver: read the concepts, write in what is given, let the network fill in the rest, answer from that.

    The network maps concepts (B, K), corrected in place, to concepts: ``layers`` times linear, batch normalisation, ReLU
    and ``dropout``, then a linear map to logits. Numbers go in and come out standardised. Rows about which nothing is
    given are left alone. The bottleneck sees the network's values as if a person had given them, soft ones, so that any
    method whose corrections are in concept units can be realigned.
    """

    mean: Tensor

    def __init__(self, space: ConceptSpace, hidden: int = 128, layers: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        sizes = [len(space), *[hidden] * layers]
        self.space, self.dropout = space, dropout
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes[1:])
        self.last = nn.Linear(sizes[-1], len(space))
        self.register_buffer("mean", torch.zeros(len(space)))
        for layer in (*self.layers, self.last):
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def logits(self, values: Tensor) -> Tensor:
        """(B, K) logits from concepts (B, K) in their units."""
        h = self.space.standardised(values)
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(h.mean(0), 0.1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            assert isinstance(norm, nn.BatchNorm1d)
            fresh = self.training and len(h) > 1  # one row has no spread of its own
            h = F.batch_norm(layer(h), norm.running_mean, norm.running_var, norm.weight, norm.bias, fresh)
            h = F.dropout(h.relu(), self.dropout, self.training)
        return self.last(h)

    def forward(self, model: ConceptModel, z: Tensor, given: Given | None) -> Output:
        first = feedforward(model, z, given)
        if given is None or not (self.training or bool(given.mask.any())):
            return first  # in training a batch of which nothing is known teaches nothing, but has a gradient: 0
        shape = first.concepts.values.shape
        told = Given(given.values.to(z).expand(shape), given.mask.expand(shape))
        values = hold(model.bottleneck.read(first.concepts.values), told, self.space)
        logits = self.logits(values.detach())
        moved, touched = hold(self.space.activate(logits), told, self.space), told.mask.any(1, keepdim=True).expand(shape)
        out = feedforward(model, z, Given(moved, touched))
        before = first.concepts.logits
        out.concepts = replace(
            out.concepts, logits=logits if before is None else torch.where(touched, logits, before), draws=None
        )
        return out

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        """Keep the columns at ``index``; a dropped one is read at its training mean from then on."""
        gone = torch.ones(len(self.space), dtype=torch.bool)
        gone[index] = False
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        learns = first.weight.requires_grad
        first.bias = nn.Parameter(first.bias.detach() + first.weight.detach()[:, gone] @ self.mean[gone], learns)
        first.weight, first.in_features = nn.Parameter(first.weight.detach()[:, index], learns), len(index)
        self.last.weight = nn.Parameter(self.last.weight.detach()[index], learns)
        self.last.bias = nn.Parameter(self.last.bias.detach()[index], learns)
        self.last.out_features, self.mean, self.space = len(index), self.mean[index], space


@dataclass(frozen=True)
class UpToAll:
    """Training corrections: for each row 1 to M known concepts in random order, every number as often.

    What a walk of a random policy through all its steps shows, one step of it for each row.
    """

    def __call__(self, batch: Batch) -> Given:
        c, space = batch.labels(), batch.space
        known = torch.ones_like(c, dtype=torch.bool) if batch.known is None else batch.known
        place = torch.rand(len(c), space.count).argsort(1).argsort(1)
        count = torch.randint(1, space.count + 1, (len(c), 1))
        return Given(c, space.widen((place < count).to(c.device)) & known)
