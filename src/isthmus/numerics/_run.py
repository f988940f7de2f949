"""What the solvers share: a point, and the account of a run (objective, bound, patience)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from isthmus.numerics._problem import Problem

PATIENCE, PRECISION = 200, 1e-9  # give up after so many iterations that did not lower the objective by this share


@dataclass(frozen=True)
class Point:
    """Weights (Y, D) and bias (Y,) of prepared columns, and the logits (Y, n) they give (None = not yet computed)."""

    weights: Tensor
    bias: Tensor
    logits: Tensor | None = None

    @property
    def z(self) -> Tensor:
        """The logits."""
        assert self.logits is not None
        return self.logits

    def within(self, problem: Problem) -> Point:
        """With logits."""
        return self if self.logits is not None else Point(self.weights, self.bias, problem.logits(self.weights, self.bias))

    def towards(self, older: Point, by: float) -> Point:
        """This point, carried on from ``older`` by a share of the step, on its own support and without a change of sign."""
        ahead = torch.where(self.weights != 0, self.weights + by * (self.weights - older.weights), 0)
        return Point(torch.where(ahead * self.weights > 0, ahead, 0), self.bias + by * (self.bias - older.bias))

    def beyond(self, last: Point, by: float) -> Point:
        """This point, carried on from ``last`` by a share of the step."""
        if by <= 0:
            return self
        pairs = ((self.weights, last.weights), (self.bias, last.bias), (self.z, last.z))
        return Point(*(torch.add(new, new - old, alpha=by) for new, old in pairs))


def zero(problem: Problem) -> Point:
    """No weights, and the bias that is best without them."""
    weights = torch.zeros(problem.classes, len(problem.x), dtype=problem.x.dtype, device=problem.x.device)
    bias = problem.prior()
    return Point(weights, bias, bias[:, None].expand(-1, problem.x.shape[1]).contiguous())


@dataclass(frozen=True)
class Step:
    """One moment of a run: iterations so far, the objective there, the best lower bound so far, CPU seconds so far."""

    iterations: int
    objective: float
    bound: float
    seconds: float


@dataclass
class Progress:
    """When to stop: the gap is at most ``tol`` of the objective, the iterations are used up, or nothing moves any more."""

    tol: float
    most: int
    watch: Callable[[Step], None] | None = None
    value: float = float("inf")
    best: float = -float("inf")
    iterations: int = 0
    solver: str = ""
    lowest: float = float("inf")
    lowered: int = 0
    started: float = field(default_factory=time.process_time)

    @property
    def worth(self) -> float:
        """The bound that would end the run."""
        return self.value - self.tol * abs(self.value)

    @property
    def certified(self) -> bool:
        """Is the gap closed?"""
        return self.best >= self.worth

    @property
    def stuck(self) -> int:
        """Iterations since the objective was last lowered."""
        return self.iterations - self.lowered

    @property
    def gap(self) -> float:
        """What is left, as a share of the objective."""
        return (self.value - self.best) / abs(self.value)

    def objective(self, value: float) -> None:
        """Note where the run is."""
        self.value = value

    def done(self, bound: float = -float("inf"), objective: float | None = None) -> bool:
        """Note a bound, or the objective after one more iteration; is that enough?"""
        self.best = max(self.best, bound)
        if objective is not None:
            self.iterations, self.value = self.iterations + 1, objective
            if objective < self.lowest - PRECISION * abs(objective):
                self.lowest, self.lowered = objective, self.iterations
        if self.watch is not None:
            self.watch(Step(self.iterations, self.value, self.best, time.process_time() - self.started))
        return self.certified or self.iterations >= self.most or self.stuck > PATIENCE
