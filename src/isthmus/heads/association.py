"""Heads between classes and concepts in words: LaBo's softmax association, owned descriptors, and class signatures.

Yang et al. 2023, Language in a Bottle, section 3.3; Menon and Vondrick 2023, Visual Classification via Description; Semenov et
al. 2024, arXiv 2404.03323, section 4 (concept matrix search).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import DataError, OptionError
from isthmus.model import Concepts, Head
from isthmus.percentiles import moments
from isthmus.space import ConceptSpace, Task


def membership(space: ConceptSpace, task: Task) -> Tensor:
    """(Y, K) 1 where the column's concept was written for the class, one of its owners; a class without one has a row of 0."""
    names = {name: y for y, name in enumerate(task.names)}
    owned = torch.zeros(task.width, len(space))
    for concept, part in zip(space.concepts, space.slices, strict=True):
        owned[[names[owner] for owner in concept.owners if owner in names], part] = 1.0
    return owned


class AssociationHead(Head):
    """values (B, K) -> ``scale`` * values . softmax over concepts of W (Y, K); no bias.

    W starts at ``start`` where the concept was written for the class and at 0 elsewhere: the prior of the language model.
    """

    def __init__(self, space: ConceptSpace, task: Task, *, scale: float = 100.0, start: float = 1.0) -> None:
        super().__init__()
        self.scale, self.start = scale, start
        self.raw = nn.Parameter(start * membership(space, task))

    @property
    def weights(self) -> Tensor:
        """(Y, K) weights that act on the values; each row sums to ``scale``."""
        return self.scale * self.raw.softmax(-1)

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        return concepts.values @ self.weights.T

    def contributions(self, concepts: Concepts) -> Tensor:
        """(B, Y, K) weight times value."""
        return concepts.values[:, None] * self.weights

    def remainder(self, concepts: Concepts, z: Tensor) -> Tensor:
        """(B, Y): nothing passes beside the concepts, and there is no bias."""
        return torch.zeros_like(concepts.values[:, :1]).expand(-1, len(self.raw))

    def begin(self, owned: Tensor) -> None:
        """Start again from memberships (Y, K) in {0, 1}, of concepts chosen for classes."""
        self.raw.data = self.start * owned.to(self.raw)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        self.raw = nn.Parameter(self.raw[:, index], self.raw.requires_grad)


class OwnedHead(Head):
    """The sum or mean of the values of a class's own concepts, times ``scale``: nothing is learnt (PEEB: sum over parts).

    Concepts whose text is one of ``skip`` (lower case) say nothing of an image and count 0. Values are cosines, -1 to 1; a
    class that has no concept gets a logit below what others can have: it is never answered, where 0 would beat a negative sum.
    """

    owned: Tensor

    def __init__(
        self,
        space: ConceptSpace,
        task: Task,
        *,
        pool: Literal["sum", "mean"] = "sum",
        scale: float = 1.0,
        skip: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.space, self.task, self.pool, self.scale, self.skip = space, task, pool, scale, skip
        self.register_buffer("owned", self.counted())

    def counted(self) -> Tensor:
        """(Y, K) 1 where a concept that says something was written for the class."""
        silent = [(concept.text or "").strip().lower() in self.skip for concept in self.space.concepts]
        told = ~torch.tensor(silent, dtype=torch.bool)
        return membership(self.space, self.task) * self.space.widen(told)

    def write_text(self, columns: Tensor, vectors: Tensor) -> None:
        """Count the concepts at ``columns`` by the texts that the space now has for them."""
        self.owned[:, columns] = self.counted().to(self.owned)[:, columns]

    @property
    def weights(self) -> Tensor:
        """(Y, K) weights that act on the values."""
        count = self.owned.sum(-1, keepdim=True).clamp(min=1) if self.pool == "mean" else 1.0
        return self.scale * self.owned / count

    @property
    def floor(self) -> Tensor:
        """(Y,) what stands in the logit of a class without concepts: lower than the least sum of others; else 0."""
        count = self.owned.sum(-1)
        least = 2.0 if self.pool == "mean" else count.max() + 1
        return torch.where(count == 0, -self.scale * least, 0.0)

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        return concepts.values @ self.weights.T + self.floor

    def contributions(self, concepts: Concepts) -> Tensor:
        """(B, Y, K) weight times value."""
        return concepts.values[:, None] * self.weights

    def remainder(self, concepts: Concepts, z: Tensor) -> Tensor:
        """(B, Y): 0, and the floor of classes without concepts."""
        return self.floor.expand(len(concepts.values), -1)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        self.owned, self.space = self.owned[:, index], space


Rule = Literal["similarity", "max"]
Scaling = Literal["rows", "columns"]


class SignatureHead(Head):
    """Concept matrix search: the class whose ``signature`` (Y, K) over the concepts is most like the row's; no training.

    Both matrices are divided by their row sums (of absolute values: cosines may be negative), or ('columns') standardised by
    what training rows and classes show of each concept. 'similarity' scores by the cosine of the two; 'max' takes the
    row's highest concept and scores the classes on it.
    """

    signature: Tensor
    center: Tensor
    spread: Tensor

    def __init__(self, space: ConceptSpace, task: Task, *, rule: Rule = "similarity", scaling: Scaling = "rows") -> None:
        super().__init__()
        self.rule, self.scaling = rule, scaling
        self.register_buffer("signature", torch.zeros(task.width, len(space)))
        self.register_buffer("center", torch.zeros(len(space)))
        self.register_buffer("spread", torch.ones(len(space)))

    def describe(self, signature: Tensor) -> None:
        """Set the cosines (Y, K) of class names and concepts."""
        if signature.shape != self.signature.shape:
            raise DataError(f"signature: expected {tuple(self.signature.shape)}, got {tuple(signature.shape)}")
        self.signature.copy_(signature)

    def fit(self, concepts: Concepts, z: Tensor, batch: object, task: Task) -> None:
        """Read the mean and deviation of each concept over training rows, for scaling='columns'."""
        self.center, self.spread = moments(concepts.values)

    def write_text(self, columns: Tensor, vectors: Tensor) -> None:
        """Refused: the signature of a concept is its likeness to the class names' texts, which are not kept."""
        raise OptionError(
            "retext: class signatures compare class names with the old text; make the model anew with the new list"
        )

    def scaled(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values (B, K) and signatures (Y, K), made comparable."""
        if self.scaling == "rows":
            share = lambda m: m / (m.abs().sum(-1, keepdim=True) + 1e-8)  # noqa: E731
            return share(values), share(self.signature)
        mean, deviation = moments(self.signature)
        return (values - self.center) / self.spread, (self.signature - mean) / deviation

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        v, t = self.scaled(concepts.values)
        if self.rule == "similarity":
            return F.normalize(v, dim=-1) @ F.normalize(t, dim=-1).T
        return t.T[v.argmax(-1)]

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        for name in ("signature", "center", "spread"):
            setattr(self, name, getattr(self, name)[..., index])


class PriorHead(Head):
    """A linear map whose weights are drawn to what is known of classes: ``strength`` * mean |tanh(W) - prior|.

    ``prior`` (Y, K) in {-1, 0, 1}: the class usually lacks the concept, nobody knows, usually has it (Yang et al. 2024,
    KnoBo, section 3.3). The pull is one of the penalties of the concepts while the head learns.
    """

    prior: Tensor

    def __init__(self, space: ConceptSpace, task: Task, *, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength
        self.map = nn.Linear(len(space), task.width)
        self.register_buffer("prior", torch.zeros(task.width, len(space)))

    def believe(self, prior: Tensor) -> None:
        """Set the prior (Y, K); ``OptionError`` for other values than -1, 0 and 1."""
        if prior.shape != self.prior.shape or bool(((prior != 0) & (prior.abs() != 1)).any()):
            raise OptionError(f"prior: expected {tuple(self.prior.shape)} of -1, 0 and 1, got shape {tuple(prior.shape)}")
        self.prior.copy_(prior)

    def pull(self) -> Tensor:
        """mean over classes and concepts of |tanh(W) - prior|."""
        return (self.map.weight.tanh() - self.prior).abs().mean()

    def forward(self, concepts: Concepts, z: Tensor) -> Tensor:
        if self.training and self.strength:
            concepts.penalties["prior"] = self.strength * self.pull()
        return self.map(concepts.values)

    def contributions(self, concepts: Concepts) -> Tensor:
        """(B, Y, K) weight times value."""
        return concepts.values[:, None] * self.map.weight

    def remainder(self, concepts: Concepts, z: Tensor) -> Tensor:
        """(B, Y): the bias."""
        return self.map.bias.expand(len(z), -1)

    @property
    def weights(self) -> Tensor:
        """(Y, K) weights."""
        return self.map.weight

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        self.map.weight = nn.Parameter(self.map.weight[:, index], self.map.weight.requires_grad)
        self.map.in_features = len(index)
        self.prior = self.prior[:, index]
