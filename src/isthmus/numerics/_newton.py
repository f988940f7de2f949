"""Block proximal Newton: a weighted lasso for each class, class after class, on working sets. CPU, l1 and l2.

After Friedman, Hastie and Tibshirani 2010 (glmnet) and Yuan, Ho and Lin 2012 (newGLMNET). Far from the optimum the model's
curvature comes from a sample of rows, near it from all; the gradient is always exact, so the fixed point is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from isthmus.numerics._duality import bound
from isthmus.numerics._links import Pass
from isthmus.numerics._model import FEW_ROWS, Model, price
from isthmus.numerics._penalty import Penalty
from isthmus.numerics._problem import Problem
from isthmus.numerics._run import Point, Progress

ROOM = 20  # columns that may enter a working set at once, or as many as it has
ROWS_EACH = 100  # sampled rows for each column of a working set
MOST = 0.5  # a sample of more than this share of the rows is all of them
NEAR = 0.05  # after a step that lowers the objective by less than this share, all rows are used
ENOUGH = 2e-3  # of what the tolerance allows: sweeps that lower the model by less are the last
HOPE = 10  # times what the tolerance allows: a step that lowers the objective by more is not near enough for a bound
DENSE = 150  # supports above √(DENSE · D) are left to FISTA
STUCK = 8  # steps that lower nothing
MEMORY = 1 << 30  # bytes of gathered columns at most


def solve(problem: Problem, penalty: Penalty, start: Point, progress: Progress, any_density: bool = False) -> Point:
    """Iterate from ``start`` until ``progress`` is satisfied or out of patience, no step goes down, or heads are dense."""
    here = start.within(problem)
    seen = problem.link.look(here.z)
    progress.objective(seen.loss + penalty.value(here.weights))
    model = Model(problem, penalty, enough=ENOUGH * progress.tol * abs(progress.value))
    near = bool((here.weights != 0).any())  # a start with weights is one from nearby
    gradient, slope = problem.gradient(seen.p) if near else problem.still(here.bias)
    lowered = 0.0
    while True:
        hope = lowered <= HOPE * progress.tol * abs(progress.value)
        if progress.done(bound(problem, penalty, seen, gradient, slope, progress.worth) if hope else -math.inf):
            return here
        if not any_density and dense(here.weights, gradient, penalty):
            return here
        active = working_set(here.weights, gradient, penalty)
        rows = sample(problem.x.shape[1], here.weights, near or price(active) < 1 / 2)
        step = model.step(here, seen.p, gradient, slope, active, rows)
        found, seen, value = descend(problem, penalty, here, step, progress.value)
        if found is here and rows == problem.x.shape[1]:
            return here
        lowered = progress.value - value
        near = near or lowered < NEAR * abs(value)
        here = found
        if progress.done(objective=value) or progress.stuck > STUCK:
            return here
        gradient, slope = problem.gradient(seen.p)


def descend(problem: Problem, penalty: Penalty, here: Point, step: Point, before: float) -> tuple[Point, Pass, float]:
    """Halve the step until the objective does not rise by more than rounding; ``here`` itself where none will do."""
    t, slack = 1.0, torch.finfo(here.z.dtype).eps * abs(before)
    while t > 1e-4:
        pairs = ((here.weights, step.weights), (here.bias, step.bias), (here.z, step.z))
        found = Point(*(torch.add(old, by, alpha=t) for old, by in pairs))
        seen = problem.link.look(found.z)
        value = seen.loss + penalty.value(found.weights)
        if value <= before + slack:
            return found, seen, value
        t /= 2
    return here, problem.link.look(here.z), before


def dense(weights: Tensor, gradient: Tensor, penalty: Penalty) -> bool:
    """Would curvature matrices of the support cost more than the many plain gradients of FISTA?"""
    wanted = int(((weights != 0) | (gradient.abs() > penalty.l1)).sum() if penalty.l1 == 0 else (weights != 0).sum())
    return (wanted / len(weights)) ** 2 > DENSE * weights.shape[1]


def working_set(weights: Tensor, gradient: Tensor, penalty: Penalty) -> Tensor:
    """(Y, D) bool: the support, and the worst of the zeros that should not be, at most as many again (or ``ROOM``)."""
    support = weights != 0
    over = torch.where(support, 0, gradient.abs() - penalty.l1).clamp_min(0)
    room = support.sum(1, keepdim=True).clamp_min(ROOM)
    worst, place = over.topk(min(int(room.max()), over.shape[1]), dim=1)
    wanted = (worst > 0) & (torch.arange(worst.shape[1]) < room)
    return support | torch.zeros_like(support).scatter_(1, place, wanted)


def sample(count: int, weights: Tensor, near: bool) -> int:
    """How many rows to take the curvature from: the first so many, for they lie in random order."""
    support = (weights != 0).sum(1)
    likely = int((2 * support).clamp_min(10).sum()) + len(support)  # columns of the working sets, at most
    size = count if near else max(FEW_ROWS, ROWS_EACH * likely // len(support))
    size = min(size, max(MEMORY // (weights.element_size() * likely), FEW_ROWS))
    return size if size < MOST * count else count
