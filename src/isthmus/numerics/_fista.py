"""Class-scaled FISTA: each class has its own step, from the curvature of its own probabilities. Any device, any penalty.

Beck and Teboulle 2009, with the gradient restart of O'Donoghue and Candès 2015. The steps rest on diag(p) - pp' <= diag(p):
L_k, the largest eigenvalue of X' diag(p_k (1 - p_k)) X / n, comes for all classes at once from a batched power iteration, and
a common factor on them is found by backtracking. Two matrix products an iteration: extrapolated logits are linear.
"""

from __future__ import annotations

import torch
from torch import Tensor

from isthmus.numerics._duality import bound
from isthmus.numerics._links import tiles
from isthmus.numerics._penalty import Penalty
from isthmus.numerics._problem import Problem
from isthmus.numerics._run import Point, Progress

REFRESH, FIRST, SAFETY = 20, 6, 1.05
GROW, RELAX, LEAST, MOST = 1.5, 0.98, 0.25, 1e6


def solve(problem: Problem, penalty: Penalty, start: Point, progress: Progress) -> Point:
    """Iterate from ``start`` until ``progress`` is satisfied or out of patience."""
    last = here = start.within(problem)
    seen = problem.link.look(here.z)
    momentum, factor = 1.0, 1.0
    curvature = Curvature(problem)
    turn, eps = 0, 2 * torch.finfo(here.z.dtype).eps
    progress.objective(seen.loss + penalty.value(here.weights))
    while True:
        gradient, slope = problem.gradient(seen.p)
        if progress.done(bound(problem, penalty, seen, gradient, slope, progress.worth)):
            return last
        if turn % REFRESH == 0:
            curvature.refresh(seen.p)
        turn += 1
        while True:
            step = 1 / (factor * curvature.columns[:, None])
            if penalty.group:
                step = step.min().expand_as(step)
            weights = penalty.prox(here.weights - step * gradient, step)
            bias = here.bias - slope / (factor * curvature.bias)
            z = problem.logits(weights, bias)
            loss = problem.link.loss(z)
            by, shift = (weights - here.weights).double(), (bias - here.bias).double()
            model = seen.loss + float((gradient.double() * by).sum() + (slope.double() * shift).sum())
            model += float((by.square() / step.double()).sum() + factor * (curvature.bias.double() * shift.square()).sum()) / 2
            if loss <= model + eps * abs(model) or factor > MOST:
                break
            factor *= GROW
        factor = max(factor * RELAX, LEAST)
        found = Point(weights, bias, z)
        if progress.done(objective=loss + penalty.value(weights)):
            return found
        if restart(here, found, last):
            momentum = 1.0
        after = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        here, momentum = found.beyond(last, (momentum - 1) / after), after
        last = found
        seen = problem.link.look(here.z)


def restart(here: Point, found: Point, last: Point) -> bool:
    """Does the momentum point uphill?"""
    uphill = ((here.weights - found.weights) * (found.weights - last.weights)).sum()
    return bool(uphill + ((here.bias - found.bias) * (found.bias - last.bias)).sum() > 0)


class Curvature:
    """The largest curvature of each class's loss along its columns (Y,), and along its bias (Y,)."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        draw = torch.Generator().manual_seed(0)
        first = torch.randn(problem.classes, len(problem.x), generator=draw, dtype=torch.float64)
        self.vectors = torch.nn.functional.normalize(first).to(problem.x)
        self.columns, self.bias = (torch.zeros_like(self.vectors[:, 0]) for _ in range(2))
        self.fresh = True

    def refresh(self, p: Tensor) -> None:
        """A few power iterations from where the last ones ended."""
        x, weight = self.problem.x, self.problem.link.weight
        columns, bias = torch.zeros_like(self.bias), torch.zeros_like(self.bias)
        for _ in range(FIRST if self.fresh else 1):
            found = torch.zeros_like(self.vectors)
            bias.zero_()
            for rows in tiles(p):
                w = p[:, rows] * (1 - p[:, rows]) * weight[rows]
                found.addmm_((self.vectors @ x[:, rows]).mul_(w), x[:, rows].t())
                bias += w.sum(1)
            columns = torch.linalg.vector_norm(found, dim=1)
            self.vectors = torch.nn.functional.normalize(found)
        tiny = torch.finfo(x.dtype).eps
        self.columns, self.bias = ((part * SAFETY).clamp_min(tiny) for part in (columns, bias))
        self.fresh = False
