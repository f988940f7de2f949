"""Block proximal Newton: a weighted lasso for each class, class after class, on working sets. CPU, l1 and l2.

After Friedman, Hastie and Tibshirani 2010 (glmnet) and Yuan, Ho and Lin 2012 (newGLMNET). Each step solves a quadratic
model of the loss by Gauss-Seidel sweeps over classes: s = Σ p_l X d_l, one number a row, carries the whole coupling of the
softmax. The model's curvature comes from a sample of rows (more of them as the optimum nears) and, in each class, from
the rows that weigh anything; the gradient is exact, so the fixed point is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.numerics._duality import bound
from isthmus.numerics._kernels import kernels
from isthmus.numerics._links import Pass
from isthmus.numerics._penalty import Penalty
from isthmus.numerics._problem import Problem
from isthmus.numerics._run import Point, Progress

Array = NDArray[Any]
SWEEPS, INNER = 3, 15
LEAST_ROWS, ROWS_EACH = 3000, 100
LIGHT, HEAVY, COVER = 0.02, 2.0, 0.9
MEMORY = 1 << 30  # bytes of gathered columns at most


@dataclass
class Block:
    """One class's part of the model: ``columns`` (a,) and its gathered ``x`` (a + 1, m), the last of them ones."""

    columns: Array
    rows: Array  # (m,)
    x: Array
    h: Array  # (a + 1, a + 1) curvature, from the heaviest rows

    def point(self, weight: Array, p: Array, gradient: Array, here: Array, coupled: bool) -> None:
        """Set the model at a point: ``gradient`` and ``here`` are of D weights and the bias."""
        own = np.append(self.columns, len(gradient) - 1)
        self.g, self.w = gradient[own], here[own]
        self.p = p[self.rows]
        self.q = weight[self.rows] * self.p if coupled else weight[self.rows] * self.p * (1 - self.p)
        self.d, self.v = np.zeros_like(self.g), np.zeros_like(self.p)


def solve(problem: Problem, penalty: Penalty, start: Point, progress: Progress, any_density: bool = False) -> Point:
    """Iterate from ``start`` until ``progress`` is satisfied or out of patience, no step goes down, or heads are dense."""
    here = start.within(problem)
    seen = problem.link.look(here.z)
    progress.objective(seen.loss + penalty.value(here.weights))
    order = torch.randperm(problem.x.shape[1], generator=torch.Generator().manual_seed(0))
    share, model = 1.0, Model(problem, penalty, progress.tol * 1e-3 / problem.classes)
    while True:
        gradient, slope = problem.gradient(seen.p)
        if progress.done(bound(problem, penalty, seen, gradient, slope, progress.worth)):
            return here
        if not any_density and dense(here.weights, gradient, penalty):
            return here
        rows = sample(order, here.weights, share)
        change, shift = model.step(here, seen.p, gradient, slope, rows)
        zd = problem.logits(change, shift)
        found, seen, value = descend(
            problem, penalty, here, Point(change, shift, problem.logits(change, shift)), progress.value
        )
        if found is here and len(rows) == len(order):
            return here
        share = FULL if progress.value - value < NEAR * abs(value) else share
        here = found
        if progress.done(objective=value) or progress.stuck > STUCK:
            return here


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
    """(Y, D) bool: the support, and the worst of the zeros that should not be, at most as many again (or ten)."""
    support = weights != 0
    over = torch.where(support, 0, gradient.abs() - penalty.l1).clamp_min(0)
    room = support.sum(1).clamp_min(10)
    ranked = over.argsort(dim=1, descending=True).argsort(dim=1)
    return support | ((over > 0) & (ranked < room[:, None]))


def sample(order: Tensor, weights: Tensor, share: float) -> Tensor:
    """Sorted rows to take the curvature from: the first of a fixed shuffle, so that a larger sample holds a smaller one."""
    support = (weights != 0).sum(1)
    likely = int((2 * support).clamp_min(10).sum()) + len(support)  # columns of the working sets, at most
    size = max(LEAST_ROWS, int(min(ROWS_EACH * likely / len(support) * share, len(order))))
    size = min(size, max(MEMORY // (weights.element_size() * likely), LEAST_ROWS))
    return order[:size].sort().values if size < 0.8 * len(order) else torch.arange(len(order))


class Model:
    """The quadratic model's blocks, kept from one step to the next where the rows are all rows and the columns suffice."""

    def __init__(self, problem: Problem, penalty: Penalty, enough: float) -> None:
        self.problem, self.penalty, self.enough = problem, penalty, enough
        self.blocks: dict[int, Block] = {}
        self.small, self.steps = problem.x.shape[1] <= LEAST_ROWS, 0

    def step(self, here: Point, p: Tensor, gradient: Tensor, slope: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The step (Y, D) and (Y,) that minimises the model, nearly."""
        link, x, weight = self.problem.link, self.problem.x, self.problem.link.weight
        active = working_set(here.weights, gradient, self.penalty)
        whole = len(rows) == x.shape[1]
        if self.exact:
            self.blocks = {}
        if not whole:
            x, p = x.index_select(1, rows), p.index_select(1, rows)
            weight = weight[rows] / weight[rows].sum()
            self.blocks = {}
        xs, ps, ws = x.numpy(), p.numpy(), weight.numpy()
        for k in range(self.problem.classes):
            columns = active[k].nonzero()[:, 0].numpy()
            kept = self.blocks.get(k)
            if kept is None or not np.isin(columns, kept.columns, assume_unique=True).all():
                kept = self.blocks[k] = block(xs, ws, ps[k], columns, self.exact)
            kept.point(ws, ps[k], np.append(gradient[k], slope[k]), np.append(here.weights[k], here.bias[k]), link.coupled)
        self.sweeps(len(weight))
        change, shift = torch.zeros_like(here.weights), torch.zeros_like(here.bias)
        for k, each in self.blocks.items():
            change[k, torch.from_numpy(each.columns)] = torch.from_numpy(each.d[:-1])
            shift[k] = float(each.d[-1])
        self.steps += whole
        if not whole:
            self.blocks = {}
        return change, shift

    @property
    def exact(self) -> bool:
        """Is every row used? Where rows are few, and where the rows that weigh most have not sufficed."""
        return self.small or self.steps >= PATIENT

    def sweeps(self, rows: int) -> None:
        """Gauss-Seidel over classes."""
        coupled = self.problem.link.coupled
        coupling = np.zeros(rows, self.blocks[0].x.dtype)
        for _ in range(SWEEPS * (5 if self.exact else 1)):
            greatest = max(sweep(each, coupling, self.penalty, coupled, self.enough) for each in self.blocks.values())
            if greatest < 10 * self.enough:
                break


def block(x: Array, weight: Array, p: Array, columns: Array, exact: bool) -> Block:
    """Gather one class's ``columns`` of ``x`` (D, m), where its curvature is; the rows that carry most of it come first."""
    curve = weight * p * (1 - p)
    level = curve.mean()
    cut, least = (-1.0, 0.0) if exact else (HEAVY * level, LIGHT * level)
    while curve[curve > cut].sum() < COVER * level * len(curve):
        cut /= 2
    heavy = np.flatnonzero(curve > cut)
    rows = np.concatenate([heavy, np.flatnonzero((curve > least) & (curve <= cut))])
    curve = curve[rows]
    gathered = np.empty((len(columns) + 1, len(rows)), x.dtype)
    kernels().gather(x, columns, rows, gathered[:-1])
    gathered[-1] = 1
    most, most_curve = gathered[:, : len(heavy)], curve[: len(heavy)]
    h = (most * (most_curve * (curve.sum() / max(most_curve.sum(), TINY)))) @ most.T
    h.flat[:: len(h) + 1] *= 1 + 1e-5
    return Block(columns, rows, gathered, h)


def sweep(each: Block, coupling: Array, penalty: Penalty, coupled: bool, enough: float) -> float:
    """Solve one class's lasso with the others held; returns the largest decrease of a coordinate."""
    u = each.q * (each.v - coupling[each.rows]) if coupled else each.q * each.v
    l1, l2 = each.g.dtype.type(penalty.l1), each.g.dtype.type(penalty.l2)
    g, w = each.g + each.x @ u, each.w + each.d
    d = kernels().descend(each.h, g, w, l1, l2, INNER, enough)
    moved = d @ each.x
    each.d += d
    each.v += moved
    if coupled:
        coupling[each.rows] += each.p * moved
    return float((each.h.diagonal() * d * d).max())
