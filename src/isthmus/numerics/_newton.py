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
from isthmus.numerics._penalty import Penalty
from isthmus.numerics._problem import Problem
from isthmus.numerics._run import Point, Progress

Array = NDArray[Any]
SWEEPS, INNER = 3, 15
LEAST_ROWS, ROWS_EACH = 3000, 60
LIGHT = 0.02
MEMORY = 1 << 30  # bytes of gathered columns at most


@dataclass
class Block:
    """One class's part of the model: ``columns`` (a,) and its gathered rows ``x`` (a + 1, m), the last of them ones."""

    columns: Array
    rows: Array | slice
    x: Array
    p: Array  # (m,)
    q: Array  # (m,) weight · p, and · (1 - p) where classes are not coupled
    h: Array  # (a + 1, a + 1)
    g: Array  # (a + 1,)
    w: Array
    d: Array
    v: Array  # (m,) x'd


def solve(problem: Problem, penalty: Penalty, start: Point, progress: Progress) -> Point:
    """Iterate from ``start`` until ``progress`` is satisfied or out of patience, or no step goes down any more."""
    here = start.within(problem)
    seen = problem.link.look(here.z)
    progress.objective(seen.loss + penalty.value(here.weights))
    order = torch.randperm(problem.x.shape[1], generator=torch.Generator().manual_seed(0))
    share = 1.0
    while True:
        gradient, slope = problem.gradient(seen.p)
        if progress.done(bound(problem, penalty, seen, gradient, slope, progress.worth)):
            return here
        active = working_set(here.weights, gradient, penalty)
        rows = sample(order, active, share)
        change, shift = direction(problem, penalty, here, seen.p, gradient, slope, active, rows, progress.tol * 1e-3 / problem.classes)
        zd = problem.logits(change, shift)
        t, before = 1.0, progress.value
        while True:
            found = Point(here.weights + t * change, here.bias + t * shift, here.z + t * zd)
            seen = problem.link.look(found.z)
            value = seen.loss + penalty.value(found.weights)
            if value < before or t < 1e-3:
                break
            t /= 2
        if value >= before and len(rows) == len(order):
            return here
        share *= GROWTH
        if value < before:
            here = found
        else:
            seen = problem.link.look(here.z)
        if progress.done(objective=min(value, before)):
            return here


GROWTH = 4.0


def working_set(weights: Tensor, gradient: Tensor, penalty: Penalty) -> Tensor:
    """(Y, D) bool: the support, and the worst of the zeros that should not be, at most as many again (or ten)."""
    support = weights != 0
    over = torch.where(support, 0, gradient.abs() - penalty.l1).clamp_min(0)
    room = support.sum(1).clamp_min(10)
    ranked = over.argsort(dim=1, descending=True).argsort(dim=1)
    return support | ((over > 0) & (ranked < room[:, None]))


def sample(order: Tensor, active: Tensor, share: float) -> Tensor:
    """Sorted rows to take the curvature from: the first of a fixed shuffle, so that a larger sample holds a smaller one."""
    mean = float(active.sum(1).float().mean()) + 1
    size = max(LEAST_ROWS, int(ROWS_EACH * mean * share))
    room = MEMORY // (4 * int(active.sum() + len(active)))
    size = min(size, max(room, LEAST_ROWS))
    return order[:size].sort().values if size < 0.8 * len(order) else order.sort().values


def direction(
    problem: Problem, penalty: Penalty, here: Point, p: Tensor, gradient: Tensor, slope: Tensor, active: Tensor, rows: Tensor, enough: float
) -> tuple[Tensor, Tensor]:
    """The step (Y, D) and (Y,) that minimises the model, nearly."""
    x, weight = problem.x, problem.link.weight
    if len(rows) < x.shape[1]:
        x, p = x.index_select(1, rows), p.index_select(1, rows)
        weight = weight[rows] / weight[rows].sum()
    blocks = [
        block(x.numpy(), weight.numpy(), p[k].numpy(), here, gradient, slope, active, k, problem.link.coupled)
        for k in range(problem.classes)
    ]
    coupling = np.zeros(x.shape[1], x.numpy().dtype)
    for _ in range(SWEEPS if problem.link.coupled else 1):
        greatest = max(sweep(each, coupling, penalty, problem.link.coupled, enough) for each in blocks)
        if greatest < 10 * enough:
            break
    change, shift = torch.zeros_like(here.weights), torch.zeros_like(here.bias)
    for k, each in enumerate(blocks):
        change[k, torch.from_numpy(each.columns)] = torch.from_numpy(each.d[:-1])
        shift[k] = float(each.d[-1])
    return change, shift


def block(
    x: Array, weight: Array, p: Array, here: Point, gradient: Tensor, slope: Tensor, active: Tensor, k: int, coupled: bool
) -> Block:
    """Gather what class ``k`` needs of ``x`` (D, m)."""
    columns = active[k].nonzero()[:, 0].numpy()
    curve = weight * p * (1 - p)
    kept = curve > LIGHT * curve.mean()
    if kept.mean() > 0.6:
        rows: Array | slice = slice(None)
        gathered = np.empty((len(columns) + 1, len(curve)), x.dtype)
        np.take(x, columns, axis=0, out=gathered[:-1], mode="clip")
    else:
        rows = np.flatnonzero(kept)
        curve = curve[rows]
        gathered = np.empty((len(columns) + 1, len(rows)), x.dtype)
        kernels().gather(x, columns, rows, gathered[:-1])
    gathered[-1] = 1
    h = (gathered * curve) @ gathered.T
    h.flat[:: len(h) + 1] *= 1 + 1e-5
    g = np.append(gradient[k].numpy()[columns], slope[k].numpy())
    w = np.append(here.weights[k].numpy()[columns], here.bias[k].numpy())
    q = (weight * p)[rows] if coupled else curve
    return Block(columns, rows, gathered, p[rows], q, h, g, w, np.zeros_like(g), np.zeros_like(gathered[-1]))


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
