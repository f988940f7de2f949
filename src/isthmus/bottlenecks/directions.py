"""Directions in feature space, or texts in a space shared with images: how far a row lies along each.

Kim et al. 2018, Interpretability Beyond Feature Attribution, section 3 (concept activation vectors); Yuksekgonul et al. 2023,
Post-hoc Concept Bottleneck Models, section 2; Moayeri et al. 2023, Text-To-Concept, section 3.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import OptionError
from isthmus.given import Batch, Given, hold
from isthmus.model import Bottleneck, Concepts
from isthmus.percentiles import Percentiles, moments
from isthmus.space import ConceptSpace
from isthmus.textspace import TextSpace


class Directions(Bottleneck):
    """z (B, D) -> scores e . row + bias (B, K), where e is z, or z in the space that texts share (``shared``).

    ``rows`` (K, d) are the space's ``vectors`` where it has some (unless ``pointed`` is False), else random unit vectors until
    ``point`` sets them. ``unit`` divides rows by their lengths, ``cosine`` e too. ``standard``: scores are in training
    standard deviations from the training mean, which ``fit`` reads off. A binary concept given 0 or 1 is written as
    the training 5th or 95th percentile of its scores; a continuous one is the score itself.
    """

    rows: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        dim: int,
        space: ConceptSpace,
        *,
        shared: nn.Module | None = None,
        cosine: bool = False,
        unit: bool = False,
        standard: bool = True,
        pointed: bool = True,
    ) -> None:
        super().__init__(space)
        self.shared = TextSpace(dim, shared)
        self.cosine, self.unit, self.standard, self.pointed = cosine, cosine or unit, standard, pointed
        rows = self.shared.rows(space if pointed else replace(space, vectors=None))
        self.register_buffer("rows", F.normalize(rows, dim=-1) if self.unit else rows)
        for name, value in {"bias": 0.0, "mean": 0.0, "std": 1.0}.items():
            self.register_buffer(name, torch.full((len(space),), value))
        self.percentiles = Percentiles(len(space))

    @property
    def atoms(self) -> Tensor:
        """(K, d) the directions."""
        return self.rows

    def embed(self, z: Tensor) -> Tensor:
        """z (B, D) -> e (B, d), in the space of the rows."""
        e = self.shared(z)
        return F.normalize(e, dim=-1) if self.cosine else e

    def score(self, z: Tensor) -> Tensor:
        """(B, K) scores before any correction."""
        return (self.embed(z) @ self.rows.T + self.bias - self.mean) / self.std

    def point(self, rows: Tensor, bias: Tensor | None = None) -> None:
        """Set the directions (K, d), and the bias (K,) of each."""
        self.rows.copy_(F.normalize(rows, dim=-1) if self.unit else rows)
        self.bias.zero_() if bias is None else self.bias.copy_(bias)

    def fit(self, z: Tensor, batch: Batch) -> None:
        """Training mean and deviation of each score, then the 5th and 95th percentile of what is shown."""
        z = z.to(self.rows.device)
        self.mean.zero_()
        self.std.fill_(1.0)
        if self.standard:
            self.mean, self.std = moments(self.score(z))
        self.spread(z, -self.mean / self.std if bool(self.bias.any()) else None)

    def spread(self, z: Tensor, middle: Tensor | None = None) -> None:
        """Read the 5th and 95th percentile of each score; ``middle`` (K,) parts absent from present (default: halfway)."""
        self.percentiles.take(self.score(z), middle)

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        return Concepts(hold(self.score(z), given, self.space, None if given is None else self.value_of(given)))

    def value_of(self, given: Given) -> Tensor:
        return self.percentiles.written(given.values, self.space)

    def read(self, values: Tensor) -> Tensor:
        return self.percentiles.read(values, self.space)

    def write_text(self, columns: Tensor, vectors: Tensor) -> None:
        """Put the text vectors (len(columns), d) of new words in place of those at ``columns``.

        Mean, deviation and percentiles stay those of the old texts until ``refresh``.
        """
        if not self.pointed:
            raise OptionError("retext: these directions were learnt from labelled rows, not from texts; rename the concept")
        vectors = self.shared.place(vectors).to(self.rows)
        self.rows[columns] = F.normalize(vectors, dim=-1) if self.unit else vectors

    def refresh(self, columns: Tensor, z: Tensor) -> None:
        """Read the statistics of the columns at ``columns`` off rows z (B, D)."""
        raw = self.embed(z.to(self.rows.device)) @ self.rows.T + self.bias
        if self.standard:
            self.mean[columns], self.std[columns] = moments(raw[:, columns])
        self.percentiles.retake(columns, ((raw - self.mean) / self.std)[:, columns])

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        for name in ("rows", "bias", "mean", "std"):
            setattr(self, name, getattr(self, name)[index])
        self.percentiles.keep(index)
        self.space = space
