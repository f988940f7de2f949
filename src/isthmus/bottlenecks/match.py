"""Parts of an image matched with descriptions of the same parts: PEEB.

Pham, Chen, Nguyen, Nguyen 2024, PEEB: Part-based Image Classifiers with an Explainable and Editable Language Bottleneck,
Findings of NAACL, section 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import DataError
from isthmus.given import Batch, Given, hold
from isthmus.model import Bottleneck, Concepts
from isthmus.percentiles import Percentiles
from isthmus.space import ConceptSpace


class PartMatch(Bottleneck):
    """z (B, J d) = J patches -> values (B, K): cosine of the embedding of a part's patch with each description of that part.

    For every part the patch with the highest score against the part's query is taken (two parts may take one patch), and
    embedded by three layers, each followed by GELU. ``rows`` (K, E) are unit texts, frozen. ``chosen`` says which patch.
    While it learns, the choice is hard and its gradient that of a softmax over patches. A correction of 0 or 1 writes the
    training 5th or 95th percentile.
    """

    rows: Tensor
    owner: Tensor

    def __init__(self, dim: int, space: ConceptSpace, *, patches: int = 1, width: int | None = None) -> None:
        super().__init__(space)
        if dim % patches:
            raise DataError(f"peeb: expected features of {patches} patches alike, got {dim} columns")
        self.patches, inner = patches, dim // patches
        vectors = space.vectors
        size = width or (inner if vectors is None else vectors.shape[1])
        self.parts, owner = _parts(space)
        self.register_buffer("owner", owner)
        rows = torch.randn(len(space), size) if vectors is None else vectors
        self.register_buffer("rows", F.normalize(rows.float(), dim=-1))
        self.norm, self.query = nn.LayerNorm(inner), nn.Linear(inner, len(self.parts))
        self.embed = nn.Sequential(
            nn.Linear(inner, inner), nn.GELU(), nn.Linear(inner, inner), nn.GELU(), nn.Linear(inner, size), nn.GELU()
        )
        self.percentiles = Percentiles(len(space))

    def chosen(self, z: Tensor) -> Tensor:
        """(B, J, P) one-hot over patches: the patch each part takes."""
        score = self.query(self.norm(z.unflatten(-1, (self.patches, -1))))
        hard = F.one_hot(score.argmax(1), self.patches).transpose(1, 2).to(score)
        if not self.training:
            return hard
        soft = score.softmax(1)
        return hard + soft - soft.detach()

    def embedded(self, z: Tensor) -> Tensor:
        """(B, P, E) unit embeddings of the parts."""
        h = self.norm(z.unflatten(-1, (self.patches, -1)))
        return F.normalize(self.embed(torch.einsum("bjp,bjd->bpd", self.chosen(z), h)), dim=-1)

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        values = (self.embedded(z)[:, self.owner] * self.rows).sum(-1)
        return Concepts(hold(values, given, self.space, None if given is None else self.value_of(given)))

    def fit(self, z: Tensor, batch: Batch) -> None:
        """Read the 5th and 95th percentile of each value on training rows."""
        self.percentiles.take(self(z.to(self.rows.device)).values)

    def value_of(self, given: Given) -> Tensor:
        return self.percentiles.written(given.values, self.space)

    def read(self, values: Tensor) -> Tensor:
        return self.percentiles.read(values, self.space)

    def write_text(self, columns: Tensor, vectors: Tensor) -> None:
        """Put the text vectors (len(columns), E) of new descriptions in place of those at ``columns``."""
        if vectors.ndim != 2 or vectors.shape[1] != self.rows.shape[1]:
            raise DataError(f"descriptor vectors: expected (n, {self.rows.shape[1]}), got {tuple(vectors.shape)}")
        self.rows[columns] = F.normalize(vectors.to(self.rows), dim=-1)

    def refresh(self, columns: Tensor, z: Tensor) -> None:
        """Read the percentiles of the columns at ``columns`` off rows z (B, J d)."""
        self.percentiles.retake(columns, self(z.to(self.rows.device)).values[:, columns])

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        """Keep the descriptions at ``index``, and the queries of the parts that still have one."""
        old = self.parts
        self.parts, owner = _parts(space)
        at = [old.index(part) for part in self.parts]
        for name in ("weight", "bias"):
            values = getattr(self.query, name)
            setattr(self.query, name, nn.Parameter(values[at], values.requires_grad))
        self.query.out_features = len(at)
        self.rows, self.owner, self.space = self.rows[index], owner.to(self.owner.device), space
        self.percentiles.keep(index)


def _parts(space: ConceptSpace) -> tuple[list[str], Tensor]:
    """The parts in order of appearance, and the part (K,) that each concept describes."""
    names = [concept.part or "whole" for concept in space.concepts]
    parts = list(dict.fromkeys(names))
    return parts, torch.tensor([parts.index(name) for name in names], dtype=torch.long)
