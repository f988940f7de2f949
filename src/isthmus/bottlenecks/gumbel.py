"""A square layer over image-text similarities, made sparse or matched by one of four losses, Gumbel noise among them.

Semenov et al. 2024, Sparse Concept Bottleneck Models: Gumbel Tricks in Contrastive Learning, arXiv 2404.03323, section 3.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.given import Batch, Given, hold
from isthmus.model import Bottleneck, Concepts
from isthmus.percentiles import Percentiles
from isthmus.space import ConceptSpace
from isthmus.textspace import TextSpace

Matching = Literal["gumbel", "gumbel_code", "contrastive", "l1", "similarity"]


class GumbelBottleneck(Bottleneck):
    """z (B, D) -> phi = ``scale`` * cos(e, text) (B, K) -> values h = W phi, W (K, K) without bias.

    While it learns, its penalty 'layer' is ``weight`` times: 'l1' |W|_1 / K; 'contrastive' the two-way cross-entropy that pairs
    row i of h with concept i (a batch and the concepts are unrelated: any pairing serves); 'gumbel' the same with Gumbel noise
    at temperature ``tau`` (the paper); 'gumbel_code' what its code computes, the mean over *all* entries, which the constant
    matrix minimises; 'similarity' minus the cosine of the columns of phi and h, centred by the batch.
    A correction of 0 or 1 writes the training 5th or 95th percentile of h.
    """

    rows: Tensor

    def __init__(
        self,
        dim: int,
        space: ConceptSpace,
        *,
        shared: nn.Module | None = None,
        loss: Matching = "gumbel",
        weight: float = 1.0,
        tau: float = 1.0,
        scale: float = 100.0,
    ) -> None:
        super().__init__(space)
        self.shared = TextSpace(dim, shared)
        self.loss, self.weight, self.tau, self.scale = loss, weight, tau, scale
        self.register_buffer("rows", F.normalize(self.shared.rows(space), dim=-1))
        self.percentiles = Percentiles(len(space))
        self.layer = nn.Linear(len(space), len(space), bias=False)

    def phi(self, z: Tensor) -> Tensor:
        """(B, K) scaled cosines of images and texts."""
        e = self.shared(z)
        return self.scale * (F.normalize(e, dim=-1) @ self.rows.T)

    def penalty(self, phi: Tensor, h: Tensor) -> Tensor:
        """The layer's own loss on a batch (B, K); see the class."""
        if self.loss == "l1":
            return self.layer.weight.abs().sum() / len(self.space)
        if self.loss == "similarity":
            return -F.cosine_similarity(phi - phi.mean(0), h - h.mean(0), dim=0, eps=1e-8).mean()
        if self.loss == "gumbel_code":
            tables = [((h + _noise(h)) / self.tau).log_softmax(dim).mean() for dim in (0, 1)]
            return -(tables[0] + tables[1]) / 2
        scores = (h + _noise(h) if self.loss == "gumbel" else h) / self.tau
        pairs = torch.arange(min(h.shape), device=h.device)
        tables = [scores.log_softmax(dim)[pairs, pairs].mean() for dim in (0, 1)]
        return -(tables[0] + tables[1]) / 2

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        phi = self.phi(z)
        h = self.layer(phi)
        written = None if given is None else self.value_of(given)
        made = Concepts(hold(h, given, self.space, written))
        if self.training and self.weight:
            made.penalties["layer"] = self.weight * self.penalty(phi, h)
        return made

    def fit(self, z: Tensor, batch: Batch) -> None:
        """Read the 5th and 95th percentile of each value on training rows."""
        self.percentiles.take(self.layer(self.phi(z.to(self.rows.device))))

    def value_of(self, given: Given) -> Tensor:
        return self.percentiles.written(given.values, self.space)

    def read(self, values: Tensor) -> Tensor:
        return self.percentiles.read(values, self.space)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **more: Any) -> None:
        rows = state_dict.get(prefix + "rows")
        if rows is not None and len(rows) != len(self.rows):  # of a model whose outputs were dropped: the texts stayed
            self.rows = rows.new_empty(rows.shape)
            self.layer.weight = nn.Parameter(rows.new_empty(len(self.space), len(rows)), self.layer.weight.requires_grad)
            self.layer.in_features = len(rows)
        super()._load_from_state_dict(state_dict, prefix, *args, **more)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        """Keep the outputs at ``index``; the layer still reads every text, in its old order."""
        self.layer.weight = nn.Parameter(self.layer.weight[index], self.layer.weight.requires_grad)
        self.layer.out_features = len(index)
        self.percentiles.keep(index)
        self.space = space


def _noise(h: Tensor) -> Tensor:
    """Standard Gumbel noise in the shape of h."""
    return -torch.empty_like(h).exponential_().clamp(min=torch.finfo(h.dtype).tiny).log()  # it may draw 0
