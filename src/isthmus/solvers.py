"""Inference that is more than one pass: Monte Carlo, mean field, descent on an energy. Solvers are plain, picklable values.

No row's answer depends on its batch: rows share one bank of noise, and each stops by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.given import Given, hold
from isthmus.model import ConceptModel, Concepts, Output, feedforward
from isthmus.space import ConceptSpace, Task

CELLS = 1 << 23  # numbers in one tensor of draws


class Drawn(Protocol):
    """A bottleneck with a bank of ``noise`` (S, 1, ...) that all rows share, and ``fresh`` noise to learn on."""

    noise: Tensor

    def fresh(self, rows: int) -> Tensor: ...
    def sampled(self, z: Tensor, given: Given | None, noise: Tensor, seen: Tensor | None = None) -> Concepts: ...


@dataclass(frozen=True)
class MonteCarlo:
    """The mean answer over a bottleneck's draws (Kim et al. 2023); without ``sampling``, one pass.

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
    """Outputs of consecutive rows, with logits and vectors of their concepts, as one."""
    concepts = [p.concepts for p in parts]
    logits = torch.cat([c.logits for c in concepts if c.logits is not None])
    vectors = torch.cat([c.vectors for c in concepts if c.vectors is not None])
    made = Concepts(torch.cat([c.values for c in concepts]), logits, vectors)
    return Output(made, torch.cat([p.logits for p in parts]), torch.cat([p.features for p in parts]))


class ConceptEnergies(Protocol):
    """A bottleneck of energies; ``isthmus.bottlenecks.energy`` says what each is."""

    def logits(self, z: Tensor) -> Tensor: ...
    def parts(self, z: Tensor) -> tuple[Tensor, Tensor]: ...
    def table(self) -> tuple[Tensor, Tensor]: ...
    def overlaps(self) -> tuple[Tensor, Tensor]: ...
    def binary(self) -> Tensor: ...


class ClassEnergies(Protocol):
    """A head of energies; ``isthmus.heads.energy`` says what each is."""

    from_c: Tensor

    @property
    def units(self) -> Tensor: ...
    def reading(self, z: Tensor) -> Tensor: ...
    def seen(self, z: Tensor) -> Tensor: ...
    def implied(self, together: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Weighing:
    """Weights of E(x, y), E(x, c) and E(c, y): in a row of which nothing is given, and in one that was corrected."""

    free: tuple[float, float, float] = (1.0, 1.0, 0.01)
    corrected: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def of(self, rows: Tensor, given: Given | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B,) True in corrected rows; the three weights, each (B, 1)."""
        told = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        told = told if given is None else told | given.mask.any(-1)
        pairs = zip(self.free, self.corrected, strict=True)
        return told, tuple(torch.where(told, corrected, free).to(rows)[:, None] for free, corrected in pairs)


@dataclass(frozen=True)
class MeanField:
    """Independent q(y), q(c_k) nearest to p(c, y | x) ~ p(y | x)^a p(c | x)^b exp(-g E(c, y)), by damped fixed-point steps.

    E(c, y) is read at the mean of q, and whole: what it says of c alone tells which concepts go together. What is given is
    held; the rest follows it and the class that the evidence now favours. A row is done when no probability moves by more than
    ``tolerance``.
    """

    weighing: Weighing = Weighing()
    steps: int = 100
    damping: float = 0.5
    tolerance: float = 1e-6

    def __call__(self, model: ConceptModel, z: Tensor, given: Given | None) -> Output:
        part, head, space = cast("ConceptEnergies", model.bottleneck), cast("ClassEnergies", model.head), model.space
        _, (a, b, g) = self.weighing.of(z, given)
        seen, (table, base) = a * head.seen(z), part.table()
        own = b * part.logits(z)
        logits, going = own.clone(), torch.arange(len(z), device=z.device)
        for _ in range(self.steps):
            if not len(going):
                break
            now = logits[going]
            values = space.activate(now)
            together = hold(values, None if given is None else given.rows(going), space) @ table + base
            answer = (seen[going] + g[going] * head.implied(together)).softmax(-1)
            push = -(1 + answer @ head.units) * head.from_c * (together > 0)  # how -E(c, y) grows with the vector
            logits[going] = now.lerp(own[going] + g[going] * (push @ table.T), 1 - self.damping)
            moved = (space.activate(logits[going]) - values).abs().amax(-1)
            going = going[moved > self.tolerance]
        values = hold(space.activate(logits), given, space)
        together = values @ table + base
        return Output(Concepts(values, logits, together[:, None]), seen + g * head.implied(together), z)


@dataclass(frozen=True)
class Descent:
    """The paper's: Adam from even odds down a E(x, y) + b E(x, c) + g E(c, y), over relaxed y and c, features read once.

    Class and state embeddings are mixed by probability and brought to length 1, for E(c, y) the states' as they are. A
    corrected row starts again from what it had, its class from even odds, with what is given held. Each row stops when its own
    energy has not fallen by ``delta`` for ``patience`` steps. ``selection='hard'`` picks whole states for E(c, y), as the
    authors' code does: no gradient then reaches a concept from the class.
    """

    weighing: Weighing = Weighing()
    selection: Literal["soft", "hard"] = "soft"
    lr: float = 0.1
    steps: int = 300
    patience: int = 10
    delta: float = 0.1

    def __call__(self, model: ConceptModel, z: Tensor, given: Given | None) -> Output:
        told, weights = self.weighing.of(z.double(), given)
        problem = Relaxed(model, z, self.selection)
        start = [torch.zeros(len(z), n, dtype=torch.double, device=z.device) for n in (model.task.width, len(model.space))]
        first = tuple(w.new_full((len(z), 1), each) for w, each in zip(weights, self.weighing.free, strict=True))
        y, c = self.lowered(problem, start, None, first, torch.ones_like(told))
        if bool(told.any()):
            again = [torch.where(told[:, None], 0.0, y), c]
            y, c = self.lowered(problem, again, given, weights, told)
        logits = problem.logits(c).to(z)
        values = hold(model.space.activate(logits), given, model.space)
        together = values @ problem.table.to(z) + problem.base.to(z)
        return Output(Concepts(values, logits, together[:, None]), y.to(z), z)

    def lowered(
        self, problem: Relaxed, point: list[Tensor], given: Given | None, weights: tuple[Tensor, ...], going: Tensor
    ) -> list[Tensor]:
        """The point (y (B, Y), c (B, K)) after descent in the rows ``going`` (B,)."""
        first, second = ([torch.zeros_like(p) for p in point] for _ in range(2))
        best, stale = torch.full_like(point[0][:, 0], math.inf), torch.zeros_like(going, dtype=torch.long)
        for step in range(1, self.steps + 1):
            with torch.enable_grad():
                point = [p.detach().requires_grad_() for p in point]
                energy = problem.energy(point[0], point[1], given, weights)
                slope = torch.autograd.grad(energy.sum(), point)
            better = energy.detach() < best - self.delta
            best, stale = torch.where(better, energy.detach(), best), torch.where(better, 0, stale + 1)
            going = going & (stale <= self.patience)
            if not bool(going.any()):
                break
            first = [0.9 * m + 0.1 * g for m, g in zip(first, slope, strict=True)]
            second = [0.999 * v + 0.001 * g * g for v, g in zip(second, slope, strict=True)]
            scales = 1 - 0.9**step, 1 - 0.999**step
            moves = [m / scales[0] / ((v / scales[1]).sqrt() + 1e-8) for m, v in zip(first, second, strict=True)]
            point = [p - self.lr * going[:, None] * move for p, move in zip(point, moves, strict=True)]
        return [p.detach() for p in point]


class Relaxed:
    """The energy of relaxed classes and concepts for rows z (B, D), in double precision; constants in y and c left out."""

    def __init__(self, model: ConceptModel, z: Tensor, selection: Literal["soft", "hard"]) -> None:
        part, head = cast("ConceptEnergies", model.bottleneck), cast("ClassEnergies", model.head)
        self.space, self.hard = model.space, selection == "hard"
        self.absent, self.present = part.parts(z)[1].detach().double().unbind(-1)  # (B, K)
        self.reading, self.units, self.from_c, self.binary, self.table, self.base, self.gram, self.cross = (
            t.detach().double()
            for t in (head.reading(z), head.units, head.from_c, part.binary(), *part.table(), *part.overlaps())
        )

    def logits(self, c: Tensor) -> Tensor:
        """(B, K) of a softmax over states: a binary concept's two move in opposite directions."""
        return c * (1 + self.binary)

    def energy(self, y: Tensor, c: Tensor, given: Given | None, weights: tuple[Tensor, ...]) -> Tensor:
        """(B,) the weighted sum of the three energies."""
        p = hold(self.space.activate(self.logits(c)), given, self.space)
        label = F.normalize(y.softmax(-1) @ self.units, dim=-1)  # (B, H)
        chosen = decided(p, self.space) if self.hard else p
        together = (chosen @ self.table + self.base).relu() * self.from_c
        terms = ((self.reading * label).sum(-1), self.of_concepts(p), (together * (1 + label)).sum(-1))
        return sum((w[:, 0] * term for w, term in zip(weights, terms, strict=True)), torch.zeros_like(terms[0]))

    def of_concepts(self, p: Tensor) -> Tensor:
        """(B,) sum over concepts of E(x, c_k) at the mixed embedding of length 1, from dot products alone."""
        off = (1 - p) * self.binary
        pull, length = p * self.present + off * self.absent, p * (p @ self.gram) + off * (off + 2 * p * self.cross)
        if not self.space.plain:
            owner, shape = self.space.owner_of.to(p.device), (len(p), self.space.count)
            pull, length = (t.new_zeros(shape).index_add(1, owner, t) for t in (pull, length))
        return (pull / (length + 1e-12).sqrt()).sum(-1)


def decided(p: Tensor, space: ConceptSpace) -> Tensor:
    """Probabilities (B, K) -> the likelier state of each concept, 0 or 1; no gradient passes."""
    hot = (p > 0.5).to(p)
    for index in (each.to(p.device) for each in space.blocks):
        block = p[..., index]
        hot = hot.index_copy(-1, index.flatten(), F.one_hot(block.argmax(-1), block.shape[-1]).to(p).flatten(-2))
    return hot
