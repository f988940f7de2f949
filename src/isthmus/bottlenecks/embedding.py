"""Two vectors for each concept, mixed by its probability: more room, still one number to read and correct.

Espinosa Zarlenga et al. 2022, Concept Embedding Models, section 3 (equations 1 and 2); for the bottleneck that learns what
to ask, Espinosa Zarlenga et al. 2023, Learning to Receive Help, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import OptionError
from isthmus.given import Given, hold
from isthmus.model import Bottleneck, Concepts
from isthmus.space import ConceptSpace

Level = Literal["group", "concept"]


@dataclass(slots=True)
class Mixed(Concepts):
    """Concepts whose ``vectors`` are values * ``on`` + (1 - values) * ``off``, each (B, K, E)."""

    on: Tensor | None = None
    off: Tensor | None = None


def mix(p: Tensor, on: Tensor, off: Tensor) -> Tensor:
    """(B, K, E) from probabilities p (B, K)."""
    return off + p[..., None] * (on - off)


class EmbeddingBottleneck(Bottleneck):
    """z (B, D) -> vectors (B, K, E) = p e+ + (1 - p) e-, with p read from both by a scorer.

    All K pairs come from one linear map (the authors loop over K of them); the first half is the positive one. One
    scorer serves all concepts when ``shared``, else each has its own.
    """

    def __init__(self, dim: int, space: ConceptSpace, width: int = 16, *, shared: bool = True) -> None:
        super().__init__(space)
        if "continuous" in space.kinds:
            raise OptionError("embedding bottleneck: a mixture needs probabilities; continuous concepts do not fit")
        self.pair = nn.Linear(dim, len(space) * 2 * width)
        self.score = nn.Linear(2 * width, 1 if shared else len(space))
        self.width, self.shared = width, shared

    def forward(self, z: Tensor, given: Given | None = None) -> Mixed:
        pair = F.leaky_relu(self.pair(z).unflatten(-1, (len(self.space), 2 * self.width)))  # (B, K, 2E)
        each = pair @ self.score.weight[0] if self.shared else (pair * self.score.weight).sum(-1)
        logits = each + self.score.bias
        p = hold(self.space.activate(logits), given, self.space)
        on, off = pair.split(self.width, -1)
        return Mixed(p, logits, mix(p, on, off), on=on, off=off)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        shape = (len(self.space), 2 * self.width)
        learns = self.pair.weight.requires_grad
        self.pair.weight = nn.Parameter(self.pair.weight.unflatten(0, shape)[index].flatten(0, 1), learns)
        self.pair.bias = nn.Parameter(self.pair.bias.unflatten(0, shape)[index].flatten(), learns)
        if not self.shared:
            self.score.weight = nn.Parameter(self.score.weight[index], learns)
            self.score.bias = nn.Parameter(self.score.bias[index], learns)
            self.score.out_features = len(index)
        self.pair.out_features, self.space = len(self.pair.bias), space


class AskingBottleneck(EmbeddingBottleneck):
    """An embedding bottleneck, each concept with its own scorer, and a network that scores what to ask next.

    The network reads the mixed vectors and the mask of what is given, through layers of ``hidden`` units, each behind
    batch normalisation. Its G scores are for groups of concepts, or for concepts (``level``). ``horizon`` is how many
    questions a training rollout may look ahead; the training loss raises it.
    """

    horizon: Tensor

    def __init__(
        self, dim: int, space: ConceptSpace, width: int = 16, *, hidden: Sequence[int] = (256, 128), level: Level = "group"
    ) -> None:
        super().__init__(dim, space, width, shared=False)
        self.asked: Level = level
        sizes = [len(space) * (width + 1), *hidden, len(membership(space, level))]
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes[:-1])
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.register_buffer("horizon", torch.tensor(2.0))

    @property
    def level(self) -> Level:
        """What the scores are for; groups of one concept each are concepts."""
        return "concept" if len(self.space.groups) == self.space.count else self.asked

    def rank(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """(B, G) scores from mixed vectors (B, K, E) and what is given, mask (B, K) in {0, 1}; used ones are not excluded."""
        h = torch.cat([vectors.flatten(1), mask], 1)
        for number, (norm, layer) in enumerate(zip(self.norms, self.layers, strict=True)):
            assert isinstance(norm, nn.BatchNorm1d)
            fresh = self.training and len(h) > 1  # one row has no spread of its own
            h = F.batch_norm(h, norm.running_mean, norm.running_var, norm.weight, norm.bias, fresh)
            h = layer(h if number == 0 else F.leaky_relu(h))
        return h

    def policy_scores(self, z: Tensor, given: Given | None = None) -> Tensor:
        """(B, G) scores of what to ask next, the highest first; -inf where any part of it is given already."""
        out = self(z, given)
        mask = torch.zeros_like(out.values) if given is None else given.mask.expand(out.values.shape).to(out.values)
        used = mask @ membership(self.space, self.asked).to(mask).T > 0
        return self.rank(out.vectors, mask).masked_fill(used, -torch.inf)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        k, (old, new) = len(self.space), (list(units(each, self.asked)) for each in (self.space, space))
        super().keep(index, space)
        inputs = torch.cat([(index[:, None] * self.width + torch.arange(self.width)).flatten(), k * self.width + index])
        first, last, norm = self.layers[0], self.layers[-1], self.norms[0]
        assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
        learns, rows = first.weight.requires_grad, torch.tensor([old.index(name) for name in new], dtype=torch.long)
        first.weight, first.in_features = nn.Parameter(first.weight[:, inputs], learns), len(inputs)
        last.weight, last.bias = nn.Parameter(last.weight[rows], learns), nn.Parameter(last.bias[rows], learns)
        norm.weight, norm.bias = nn.Parameter(norm.weight[inputs], learns), nn.Parameter(norm.bias[inputs], learns)
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean, norm.running_var = norm.running_mean[inputs], norm.running_var[inputs]
        last.out_features, norm.num_features = len(rows), len(inputs)


def units(space: ConceptSpace, level: Level) -> dict[str, tuple[int, ...]]:
    """Concept indices by what is asked at once: a group, or each concept alone."""
    return space.groups if level == "group" else {name: (number,) for number, name in enumerate(space.names)}


def membership(space: ConceptSpace, level: Level) -> Tensor:
    """(G, K) 1 where a column belongs to what is asked at once."""
    found = torch.zeros(len(units(space, level)), space.count)
    for number, inside in enumerate(units(space, level).values()):
        found[number, list(inside)] = 1.0
    return space.widen(found)
