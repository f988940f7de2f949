"""The one call: features -> bottleneck -> concepts -> head -> logits, with what is given passed in."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import DataError
from isthmus.given import Given, moved
from isthmus.space import ConceptSpace, Task


@dataclass(slots=True)
class Concepts:
    """The state of a bottleneck: ``values`` (B, K) is what a person reads and may overwrite.

    ``logits`` (B, K), ``vectors`` (B, K, E), ``draws`` (S, B, K) logits sampled from the posterior (``correlated``
    across concepts or not), ``where`` maps (B, K, ...), ``penalties`` the part's own loss terms.
    """

    values: Tensor
    logits: Tensor | None = None
    vectors: Tensor | None = None
    draws: Tensor | None = None
    correlated: bool = True
    where: Tensor | None = None
    penalties: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def nll(
        self, c: Tensor, space: ConceptSpace, *, known: Tensor | None = None, weight: Tensor | None = None,
        pos_weight: Tensor | None = None, rows: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Negative log-likelihood (nats) of labels c (B, K), mean over the known concepts; 0 when none is known.

        Bernoulli, categorical or unit Gaussian (on the standardised scale) by block. With ``draws``: the log of the
        mean joint likelihood when correlated, of each concept's mean likelihood when not. NaN in c is unknown, or
        ``known`` (B, K) says so. ``weight`` (K,) scales a concept's whole loss (Koh's imbalance ratio), ``pos_weight``
        (K,) its positives only, ``rows`` (B,) each row.
        """
        if self.logits is None and self.draws is None:
            raise DataError("concepts: expected logits or draws to score labels against, got a bottleneck with neither")
        if known is None and bool(c.sum().isnan()):  # one NaN makes the sum NaN, and a sum costs less than a search
            known, c = ~c.isnan(), c.nan_to_num()
        scale = weight if rows is None else rows[:, None] if weight is None else rows[:, None] * weight
        if known is not None:
            known = known.to(c.dtype)
            scale = known if scale is None else known * scale
        if self.draws is None and space.plain and self.logits is not None:
            if scale is None:
                return F.binary_cross_entropy_with_logits(self.logits, c, pos_weight=pos_weight)
            total = F.binary_cross_entropy_with_logits(self.logits, c, scale, reduction="sum", pos_weight=pos_weight)
            return total / (c.numel() if known is None else known.sum().clamp(min=1))
        count = c.shape[0] * space.count if known is None else space.narrow(known).sum().clamp(min=1)
        if self.draws is None and self.logits is not None:
            cells = likelihood(self.logits, c, space, pos_weight)
            return -(cells if scale is None else cells * scale).sum() / count
        assert self.draws is not None
        cells = likelihood(self.draws, c, space, pos_weight)
        cells = cells if scale is None else cells * scale
        if self.correlated:
            total = cells.sum(-1).logsumexp(0) - math.log(len(cells))
        else:
            each = cells.new_zeros((*cells.shape[:-1], space.count)).index_add(-1, space.owner_of.to(c.device), cells)
            total = (each.logsumexp(0) - math.log(len(each))).sum(-1)
        return -total.sum() / count


def likelihood(logits: Tensor, c: Tensor, space: ConceptSpace, pos_weight: Tensor | None = None) -> Tensor:
    """Log-likelihood (..., B, K) of labels c (B, K), by kind; a block's columns add up to the block's."""
    cells = -F.binary_cross_entropy_with_logits(logits, c.expand_as(logits), pos_weight=pos_weight, reduction="none")
    for index in (each.to(logits.device) for each in space.blocks):
        block = c[..., index] * logits[..., index].log_softmax(-1)
        cells = cells.index_copy(-1, index.flatten(), block.flatten(-2))
    if "continuous" in space.kinds:
        cells = torch.where(space.continuous.to(c.device), -0.5 * (logits - space.standardised(c)).square(), cells)
    return cells


@dataclass(slots=True)
class Output:
    """What a model says: ``concepts``, ``logits`` (B, Y) and the ``features`` (B, D) they came from."""

    concepts: Concepts
    logits: Tensor
    features: Tensor


class Bottleneck(nn.Module, ABC):
    """Features to concepts. It must hold what is given; it may move the rest."""

    def __init__(self, space: ConceptSpace) -> None:
        super().__init__()
        self.space = space

    @abstractmethod
    def forward(self, z: Tensor, given: Given | None = None) -> Concepts: ...

    def value_of(self, given: Given) -> Tensor:
        """What a correction writes into ``values``: concept units, unless the bottleneck has a unit of its own."""
        return given.values

    def read(self, values: Tensor) -> Tensor:
        """Values (B, K) in concept units, the inverse of ``value_of``: what a person reads, and scores are made from."""
        return values

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        """Keep the columns at ``index`` (in that order), which now mean ``space``."""
        raise NotImplementedError(f"{type(self).__name__} cannot drop or reorder concepts")


class Head(nn.Module, ABC):
    """Concepts to task logits. A head that adds up may offer ``contributions``."""

    @abstractmethod
    def forward(self, concepts: Concepts, z: Tensor) -> Tensor: ...

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        """Keep the concept columns at ``index`` (in that order), which now mean ``space``."""
        raise NotImplementedError(f"{type(self).__name__} cannot drop or reorder concepts")


@runtime_checkable
class Contributes(Protocol):
    """A head whose logits are a sum over concepts: contributions (B, Y, K) + remainder (B, Y) = logits."""

    def contributions(self, concepts: Concepts) -> Tensor: ...

    def remainder(self, concepts: Concepts, z: Tensor) -> Tensor: ...


Solver = Callable[["ConceptModel", Tensor, Given | None], Output]


def feedforward(model: ConceptModel, z: Tensor, given: Given | None) -> Output:
    """Inference in one pass."""
    concepts = model.bottleneck(z, given)
    return Output(concepts, model.head(concepts, z), z)


class ConceptModel(nn.Module):
    """Final. ``model(x, given)`` is the only call that metrics, interventions, reports and the studio use."""

    def __init__(
        self, features: nn.Module, bottleneck: Bottleneck, head: Head, space: ConceptSpace, task: Task,
        solver: Solver = feedforward,
    ) -> None:  # fmt: skip
        super().__init__()
        self.features, self.bottleneck, self.head = features, bottleneck, head
        self.space, self.task, self.solver = space, task, solver
        self.history: list[dict[str, Any]] = []
        self.origin: dict[str, Any] = {}

    def forward(self, x: Any, given: Given | None = None) -> Output:
        """x: a prepared tensor, or raw rows that ``features.prepare`` understands -> Output. Solves for what is free."""
        return self.answer(self.encode(x), given)

    def encode(self, x: Any) -> Tensor:
        """x, on any device -> features z (B, D), on the model's."""
        ready = isinstance(x, Tensor) and x.is_floating_point()
        return self.features(moved(x if ready else self.features.prepare(x), self.device))  # pyright: ignore[reportCallIssue]

    def answer(self, z: Tensor, given: Given | None = None) -> Output:
        """Features z (B, D) -> Output, on the model's device; what metrics call when features were computed before."""
        if given is not None:
            given.check(self.space, len(z))
            given = given.to(self.device)
        return self.solver(self, z.to(self.device), given)

    def keep(self, index: list[int]) -> None:
        """Keep the concepts at ``index`` (into M), in that order: a permutation moves columns and leaves the logits."""
        columns, space = self.space.columns_of(index), self.space.keep(index)
        for part in (part for part in (self.bottleneck, self.head, self.solver) if hasattr(part, "keep")):
            cast("Head", part).keep(columns, space)
        self.space = space

    @property
    def device(self) -> torch.device:
        return next(self.parameters(), next(self.buffers(), torch.empty(0))).device
