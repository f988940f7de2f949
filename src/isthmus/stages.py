"""Stages beside ``Learn``: ``Keep`` some of the concepts, ``Name`` discovered ones, learn with ``Clipped`` gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F

from isthmus.errors import DataError, IsthmusError
from isthmus.given import Batch
from isthmus.model import ConceptModel
from isthmus.space import ConceptSpace
from isthmus.train import Fold, Learn


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
        nearest = (F.normalize(atoms, dim=-1) @ F.normalize(vectors, dim=-1).T).argmax(-1)
        counts: dict[str, int] = {}
        names: list[str] = []
        for word in (self.vocabulary.names[int(i)] for i in nearest):
            counts[word] = counts.get(word, 0) + 1
            names.append(word if counts[word] == 1 else f"{word} ({counts[word]})")
        named = [replace(concept, name=name) for concept, name in zip(model.space.concepts, names, strict=True)]
        model.space = model.bottleneck.space = replace(model.space, concepts=tuple(named))


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
