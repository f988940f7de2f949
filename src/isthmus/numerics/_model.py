"""The quadratic model of a proximal Newton step: a block for each class, and Gauss-Seidel sweeps over the classes.

s = Σ p_l X d_l, one number a row, carries the whole coupling of the softmax. A block's curvature H comes from the rows that
carry most of it; its gradient, at every sweep, from all rows that carry any, so H only has to be near.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.numerics._kernels import kernels
from isthmus.numerics._penalty import Penalty
from isthmus.numerics._problem import Problem
from isthmus.numerics._run import Point

Array = NDArray[Any]
SWEEPS, INNER = 3, 15  # over classes (one more when all rows come in), and over one class's columns
LIGHT = 0.02  # rows with less than this of a class's mean curvature are left out of its block
DENSE = 0.6  # unless more than this share of rows would stay: then all do
EACH, LEAST = 60, 2000  # H comes from so many rows for each column, but at least so many,
COVER, POOL, FEW = 0.9, 3, 512  # the heaviest that carry this share, of so many times as many; found by looking at a few,
INFLATE = 0.5  # and is raised by this times √(columns / rows), lest a sample's error make a step too long
FEW_ROWS, PATIENT = 3000, 4  # so few rows, or so many steps on all rows, and every row counts
TINY = 1e-30


@dataclass
class Block:
    """One class's part of the model: ``columns`` (a,) and its gathered ``x`` (a + 1, m), the last of them ones."""

    columns: Array
    rows: Array | slice  # (m,)
    x: Array
    h: Array  # (a + 1, a + 1) curvature, from the heaviest rows

    def point(self, weight: Array, p: Array, gradient: Array, here: Array, coupled: bool) -> None:
        """Set the model at a point: ``gradient`` and ``here`` are of D weights and the bias."""
        own = np.append(self.columns, len(gradient) - 1)
        self.g, self.w = gradient[own], here[own]
        self.p = p[self.rows]
        self.q = weight[self.rows] * self.p if coupled else weight[self.rows] * self.p * (1 - self.p)
        self.d, self.v = np.zeros_like(self.g), np.zeros_like(self.p)


class Model:
    """The quadratic model's blocks, kept from one step to the next where the rows are all rows and the columns suffice."""

    def __init__(self, problem: Problem, penalty: Penalty, enough: float) -> None:
        self.problem, self.penalty, self.enough = problem, penalty, enough
        self.blocks: dict[int, Block] = {}
        self.small, self.steps = problem.x.shape[1] <= FEW_ROWS, 0

    def step(self, here: Point, p: Tensor, gradient: Tensor, slope: Tensor, active: Tensor, rows: Tensor) -> Point:
        """The step on ``active`` (Y, D) columns that minimises, nearly, the model from ``rows`` (m,)."""
        link, x, weight = self.problem.link, self.problem.x, self.problem.link.weight
        whole = len(rows) == x.shape[1]
        if self.exact:
            self.blocks = {}
        if not whole:
            x, p = x.index_select(1, rows), p.index_select(1, rows)
            weight = weight[rows] / weight[rows].sum()
            self.blocks = {}
        xs, ps, ws = x.numpy(), p.numpy(), weight.numpy()
        order = None if self.exact else np.random.default_rng(0).permutation(xs.shape[1])
        for k in range(self.problem.classes):
            columns = active[k].nonzero()[:, 0].numpy()
            kept = self.blocks.get(k)
            if kept is None or not np.isin(columns, kept.columns, assume_unique=True).all():
                kept = self.blocks[k] = block(xs, ws, ps[k], columns, order)
            kept.point(ws, ps[k], np.append(gradient[k], slope[k]), np.append(here.weights[k], here.bias[k]), link.coupled)
        self.sweeps(len(weight), whole)
        found = self.gather(here, whole)
        self.steps += whole
        if not whole:
            self.blocks = {}
        return found

    def gather(self, here: Point, whole: bool) -> Point:
        """What the blocks found; a block that has all rows knows its logits."""
        change, shift, z = (torch.zeros_like(part) for part in (here.weights, here.bias, here.z))
        rest: list[int] = []
        for k, each in self.blocks.items():
            change[k, torch.from_numpy(each.columns)] = torch.from_numpy(each.d[:-1])
            shift[k] = float(each.d[-1])
            if whole and isinstance(each.rows, slice):
                z[k] = torch.from_numpy(each.v)
            else:
                rest.append(k)
        if rest:
            z[rest] = self.problem.logits(change[rest], shift[rest])
        return Point(change, shift, z)

    @property
    def exact(self) -> bool:
        """Is every row used? Where rows are few, and where the rows that weigh most have not sufficed."""
        return self.small or self.steps >= PATIENT

    def sweeps(self, rows: int, whole: bool) -> None:
        """Gauss-Seidel over classes."""
        coupled = self.problem.link.coupled
        coupling = np.zeros(rows, self.blocks[0].x.dtype)
        for _ in range(5 * SWEEPS if self.exact else SWEEPS + (whole and not self.steps)):
            greatest = max(sweep(each, coupling, self.penalty, coupled, self.enough) for each in self.blocks.values())
            if greatest < 10 * self.enough:
                break


def block(x: Array, weight: Array, p: Array, columns: Array, order: Array | None) -> Block:
    """Gather one class's ``columns`` of ``x`` (D, m) where its curvature is.

    H comes from heavy rows in the random ``order`` (m,), no more than it takes; from all rows where that is None.
    """
    curve = weight * p * (1 - p)
    level = curve.mean()
    kept = curve > LIGHT * level
    rows: Array | slice = slice(None) if order is None or kept.mean() > DENSE else np.flatnonzero(kept)
    some = np.arange(len(curve)) if order is None else heaviest(curve, order, max(LEAST, EACH * len(columns)))
    most = gathered(x, columns, some)
    total = curve.sum() / max(curve[some].sum(), TINY)
    over = 1.0 if order is None else 1 + INFLATE * (len(columns) / len(some)) ** 0.5
    h = (most * (curve[some] * (total * over))) @ most.T
    h.flat[:: len(h) + 1] *= 1 + 1e-5
    return Block(columns, rows, most if order is None else gathered(x, columns, rows), h)


def heaviest(curve: Array, order: Array, count: int) -> Array:
    """At most ``count`` rows, in ``order``, of those that carry COVER of the curvature, as the first few of them tell."""
    few = np.sort(curve[order[:FEW]])[::-1]
    share = few.cumsum()
    cut = few[min(int(np.searchsorted(share, COVER * share[-1])), len(few) - 1)]
    pool = order[: POOL * count]
    return pool[curve[pool] >= cut][:count]


def gathered(x: Array, columns: Array, rows: Array | slice) -> Array:
    """x[columns][:, rows] (a + 1, m), the last of ones."""
    out = np.empty((len(columns) + 1, x.shape[1] if isinstance(rows, slice) else len(rows)), x.dtype)
    if isinstance(rows, slice):
        np.take(x, columns, axis=0, out=out[:-1], mode="clip")
    else:
        kernels().gather(x, columns, rows, out[:-1])
    out[-1] = 1
    return out


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
