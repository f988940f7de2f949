"""Stages beside ``Learn``: ``Keep`` concepts, ``Name`` discovered ones, a ``Sparse`` head, ``Clipped`` gradients."""

# torch gives no types for split and the like
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from isthmus.concepts.name import nearest_words
from isthmus.errors import DataError, IsthmusError
from isthmus.given import Batch
from isthmus.model import ConceptModel, Concepts, Output
from isthmus.numerics import elastic_net
from isthmus.space import ConceptSpace
from isthmus.train import CHUNK, Fold, Learn, Rows, encode


@dataclass(frozen=True)
class Keep:
    """Keep the concepts (indices into M) that ``choose(model, fold)`` returns; the rest leave space and parts."""

    choose: Callable[[ConceptModel, Fold], Sequence[int]]

    def __call__(self, model: ConceptModel, data: Fold) -> None:
        index = list(self.choose(model, data))
        if not index:
            raise DataError("Keep: expected at least one concept to keep, got none; loosen the rule")
        model.keep(index)


@dataclass(frozen=True)
class Name:
    """Name each column after the nearest word: cosine of the bottleneck's ``atoms`` (K, D) and the vocabulary's vectors."""

    vocabulary: ConceptSpace = field(repr=False)

    @torch.no_grad()
    def __call__(self, model: ConceptModel, data: Fold) -> None:
        atoms, vectors = getattr(model.bottleneck, "atoms", None), self.vocabulary.vectors
        if atoms is None or vectors is None:
            raise IsthmusError("Name: expected a bottleneck with atoms (K, D) and a vocabulary with vectors (V, D)")
        counts: dict[str, int] = {}
        names: list[str] = []
        for ((word, _),) in nearest_words(atoms, self.vocabulary.names, vectors, most=1):
            counts[word] = counts.get(word, 0) + 1
            names.append(word if counts[word] == 1 else f"{word} ({counts[word]})")
        named = [replace(concept, name=name) for concept, name in zip(model.space.concepts, names, strict=True)]
        model.space = model.bottleneck.space = replace(model.space, concepts=tuple(named))


@dataclass(frozen=True)
class OnValues(Learn):
    """``Learn`` for a head that reads concept values alone: those of all rows are computed once, before the first epoch."""

    parts: tuple[str, ...] = ("head",)

    def inputs(self, model: ConceptModel, rows: Rows) -> Batch:
        z = encode(model.features, rows, model.device)
        with torch.no_grad():
            parts = [model.bottleneck(z[at].to(model.device)).values.cpu() for at in torch.split(torch.arange(len(z)), CHUNK)]
            values = torch.cat(parts)
        return rows.batch({"values": values})  # pyright: ignore[reportArgumentType]

    def forward(self, model: ConceptModel, batch: Batch, validating: bool = False) -> Output:
        if not isinstance(batch.x, dict):
            return super().forward(model, batch, validating)
        values = batch.x["values"]
        concepts = Concepts(values)
        return Output(concepts, model.head(concepts, values), values)


@dataclass(frozen=True)
class Clipped(Learn):
    """``Learn`` with the norm of all gradients together cut to ``clip`` before each step."""

    clip: float = 100.0

    def step(self, model: ConceptModel, batch: Batch, optimizer: torch.optim.Optimizer) -> float:
        def cut(optimizer: torch.optim.Optimizer, *_: object) -> None:
            torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.clip)

        hook = optimizer.register_step_pre_hook(cut)
        try:
            return super().step(model, batch, optimizer)
        finally:
            hook.remove()


@dataclass(frozen=True)
class Sparse:
    """The sparse final layer: fit a linear head by elastic net on the concepts as they are shown to it, to a certificate.

    Strength ``lam`` in nats (Wong et al. 2021, equation 1: mean loss + lam * (r |W|_1 + (1 - r)/2 |W|²), r = ``l1_ratio``, on
    columns of deviation 1, or with ``scaled`` False as they are), or the strength that gives ``nec`` concepts a class, cut to
    that exactly (Srivastava et al. 2024). ``family``: 'multinomial', or 'ovr', a logistic regression for each class. Labels
    that may overlap are always 'ovr'.
    """

    lam: float = 7e-4
    nec: float | None = None
    family: Literal["multinomial", "ovr"] = "multinomial"
    l1_ratio: float = 0.99
    tol: float = 1e-4
    scaled: bool = True

    @torch.no_grad()
    def __call__(self, model: ConceptModel, data: Fold) -> None:
        head: Any = getattr(model.head, "inner", model.head)
        z = encode(model.features, data.train, model.device)
        batch = data.train.batch(z)
        shown = model.space.standardised(model.answer(z).concepts.values).double()
        y = batch.y.double() if model.task.kind == "labels" else batch.y
        if model.task.kind == "labels" and bool(y.isnan().any()):
            raise DataError("sparse head: expected every label known, got NaN; fill them, or use a method that learns by steps")
        family = "ovr" if model.task.kind == "labels" else self.family
        how: dict[str, Any] = {"family": family, "classes": model.task.width, "l1_ratio": self.l1_ratio, "weight": batch.weight}
        how["standardize"] = self.scaled
        if self.nec is None:
            found = elastic_net.fit(shown, y, lam=self.lam, tol=self.tol, **how)
            weights = found.weights
        else:
            wanted = min(self.nec, shown.shape[1])
            found = elastic_net.with_nec(shown, y, nec=wanted, tol=max(self.tol, 1e-3), **how)[0]
            weights = elastic_net.truncate(found, wanted)
        head.map.weight.copy_(weights)
        head.map.bias.copy_(found.bias)
        row = {"stage": "sparse head", "lam": found.lam, "gap": found.gap, "nec": float((weights != 0).sum()) / len(weights)}
        model.history.append(row)
