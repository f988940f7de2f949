"""Inference that is more than one pass: Monte Carlo over a bottleneck's draws. Solvers are plain, picklable values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.given import Given
from isthmus.model import ConceptModel, Concepts, Output, feedforward
from isthmus.space import Task

CELLS = 1 << 23  # numbers in one tensor of draws


class Drawn(Protocol):
    """A bottleneck with a bank of ``noise`` (S, 1, ...) that all rows share, and ``fresh`` noise to learn on."""

    noise: Tensor

    def fresh(self, rows: int) -> Tensor: ...
    def sampled(self, z: Tensor, given: Given | None, noise: Tensor, seen: Tensor | None = None) -> Concepts: ...


@dataclass(frozen=True)
class MonteCarlo:
    """The mean answer over a bottleneck's draws (Kim et al. 2023, section 3.2); without ``sampling``, one pass.

    All rows share the bottleneck's stored noise, so that no row's answer depends on the others. While the head learns,
    noise is fresh, and what is given shows in each (row, draw) with chance ``swap``, all concepts at once.
    """

    sampling: bool = False
    swap: float = 0.5

    def __call__(self, model: ConceptModel, z: Tensor, given: Given | None) -> Output:
        part = cast("Drawn", model.bottleneck)
        if model.head.training:
            noise = part.fresh(len(z))
            seen = torch.rand(noise.shape[:2], device=z.device) < self.swap
            return self.answer(model, z, part.sampled(z, given, noise, seen))
        if not self.sampling:
            return feedforward(model, z, given)
        rows = max(1, CELLS // max(part.noise.numel(), 1))
        index = [torch.arange(len(z), device=z.device)[at : at + rows] for at in range(0, len(z), rows)]
        held = [None if given is None else given.rows(at) for at in index]
        parts = [self.answer(model, z[at], part.sampled(z[at], g, part.noise)) for at, g in zip(index, held, strict=True)]
        return joined(parts) if parts else feedforward(model, z, given)

    def answer(self, model: ConceptModel, z: Tensor, concepts: Concepts) -> Output:
        """The mean of what the head says of each draw; the concepts' vectors become their mean."""
        logits = averaged(model.head(concepts, z), model.task)
        assert concepts.vectors is not None
        return Output(Concepts(concepts.values, concepts.logits, concepts.vectors.mean(0)), logits, z)


def averaged(logits: Tensor, task: Task) -> Tensor:
    """Logits (S, B, Y) -> logits (B, Y) of the mean probability; the mean, where the task is a number."""
    if task.kind == "classes":
        return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))
    return logits.mean(0) if task.kind == "value" else F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)


def joined(parts: list[Output]) -> Output:
    """Outputs of consecutive rows as one."""
    values, logits, vectors = (
        torch.cat([each for p in parts if (each := get(p.concepts)) is not None])
        for get in (lambda c: c.values, lambda c: c.logits, lambda c: c.vectors)
    )
    rows, features = torch.cat([p.logits for p in parts]), torch.cat([p.features for p in parts])
    return Output(Concepts(values, logits, vectors), rows, features)
