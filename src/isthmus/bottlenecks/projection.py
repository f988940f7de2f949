"""A linear projection of frozen features that learns to vary as image-text similarities do: Label-free CBM.

Oikarinen, Das, Nguyen, Weng 2023, Label-Free Concept Bottleneck Models, ICLR, section 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.given import Batch, Given, hold
from isthmus.model import Bottleneck, Concepts
from isthmus.percentiles import Percentiles, moments
from isthmus.space import ConceptSpace
from isthmus.textspace import TextSpace


def cos_cubed(q: Tensor, p: Tensor) -> Tensor:
    """(K,) similarity of the columns of q and p (B, K) over the batch, -1 to 1: the cosine of their centred values, cubed.

    A column that does not vary, rounding aside, has similarity 0 (Oikarinen et al. 2023, equation 2).
    """
    a, b = (_cubes(m) for m in (q, p))
    return (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0)).clamp(min=1e-12)


def _cubes(m: Tensor) -> Tensor:
    """(B, K) cubes of centred columns, the largest 1 (their scale is free); 0 where nothing but rounding moves a column."""
    centred, size = m - m.mean(0), m.detach().abs().amax(0)
    most = centred.detach().abs().amax(0)
    varies = most > 16 * torch.finfo(m.dtype).eps * size
    return (centred * varies / torch.where(varies, most, 1.0)) ** 3


class Projection(Bottleneck):
    """z (B, D) -> (W z - mean) / deviation (B, K), without bias; ``target`` is the similarity that W learns to follow.

    A correction of 0 or 1 writes the training 5th or 95th percentile; 0 in these units is the training mean.
    """

    rows: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, space: ConceptSpace, *, shared: nn.Module | None = None) -> None:
        super().__init__(space)
        self.shared = TextSpace(dim, shared)
        self.map = nn.Linear(dim, len(space), bias=False)
        self.register_buffer("rows", F.normalize(self.shared.rows(space), dim=-1))
        for name, value in {"mean": 0.0, "std": 1.0}.items():
            self.register_buffer(name, torch.full((len(space),), value))
        self.percentiles = Percentiles(len(space))

    def target(self, z: Tensor) -> Tensor:
        """(B, K) cosines of images and texts."""
        e = self.shared(z)
        return F.normalize(e, dim=-1) @ self.rows.T

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        shown = (self.map(z) - self.mean) / self.std
        return Concepts(hold(shown, given, self.space, None if given is None else self.value_of(given)))

    def fit(self, z: Tensor, batch: Batch) -> None:
        """Training mean and (unbiased) deviation of each column, then percentiles."""
        raw = self.map(z.to(self.mean.device))
        self.mean, self.std = moments(raw, correction=1)
        self.percentiles.take((raw - self.mean) / self.std)

    def value_of(self, given: Given) -> Tensor:
        return self.percentiles.written(given.values, self.space)

    def read(self, values: Tensor) -> Tensor:
        return self.percentiles.read(values, self.space)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        self.map.weight = nn.Parameter(self.map.weight[index], self.map.weight.requires_grad)
        self.map.out_features = len(index)
        for name in ("rows", "mean", "std"):
            setattr(self, name, getattr(self, name)[index])
        self.percentiles.keep(index)
        self.space = space
