"""The quadratic model of a proximal Newton step: a block for each class, and Gauss-Seidel sweeps over the classes.

s = Σ p_l X d_l, one number a row, carries the whole coupling of the softmax. A block's curvature H comes from as many rows as
it takes; its gradient, at every sweep, from all rows that carry any, so H only has to be near.
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
SWEEPS, INNER = 3, 15  # over classes (one more with all rows), and over one class's columns
FINER = 20  # times finer than a sweep over classes is one over a class's columns
SLOW = 0.3  # a class whose share of a sweep is still more than this of its last one gets its curvature anew
LITTLE = 0.02  # sweeps end with one that lowers the model by less than this share of the first
LIGHT = 0.02  # rows with less than this of a class's mean curvature are left out of its block
DENSE = 0.6  # unless more than this share of rows would stay: then all do
EACH, MOST = 60, 0.8  # H comes from so many rows for each column, counted as if all weighed the same; or, if most, from all
INFLATE = 0.5  # it is raised by this times √(columns / rows), lest a sample's error make a step too long
THOROUGH, FINE = 20, 100  # sweeps where they cost little beside a gradient; and then they end when they lower this much less
THIN = 20  # with fewer classes than this, reading the rows is what a gradient costs
LOOSE = 20  # classes from which on each may take its first step of a sweep as if it were alone, where sweeps are dear
FEW_ROWS, PATIENT = 3000, 4  # so few rows, or so many steps on all rows, and every row counts
TINY = 1e-30


@dataclass
class Block:
    """One class's part of the model: its ``columns`` (a,), which are rows ``at`` (a,) of ``x`` (., m); and the bias."""

    columns: Array
    rows: Array | slice  # (m,)
    x: Array
    at: Array
    h: Array  # (a + 1, a + 1) curvature
    true: bool  # it comes from all rows, at this point

    def point(self, weight: Array, p: Array, gradient: Array, here: Array, coupled: bool) -> None:
        """Set the model at a point: ``gradient`` and ``here`` are of D weights and the bias."""
        own = np.append(self.columns, len(gradient) - 1)
        self.g, self.w = gradient[own], here[own]
        self.p = p[self.rows]
        self.q = weight[self.rows] * self.p if coupled else weight[self.rows] * self.p * (1 - self.p)
        self.d, self.v = np.zeros_like(self.g), np.zeros_like(self.p)

    def renew(self, coupled: bool) -> None:
        """Take the curvature from all rows of the block, at this point."""
        self.h = kernels().curvature(self.x, self.at, self.q * (1 - self.p) if coupled else self.q)
        self.true = True


class Model:
    """The quadratic model's blocks, kept from one step to the next where the rows are all rows and the columns suffice.

    Sweeps that lower the model by ``enough``, in nats, or less are the last.
    """

    def __init__(self, problem: Problem, penalty: Penalty, enough: float) -> None:
        self.problem, self.penalty = problem, penalty
        self.enough, self.least = enough, enough / FINER / problem.classes
        self.blocks: dict[int, Block] = {}
        self.small, self.steps, self.price = problem.x.shape[1] <= FEW_ROWS, 0, 1.0

    def step(self, here: Point, p: Tensor, gradient: Tensor, slope: Tensor, active: Tensor, rows: int) -> Point:
        """The step on ``active`` (Y, D) columns that minimises, nearly, the model from the first ``rows``."""
        link, whole = self.problem.link, rows == self.problem.x.shape[1]
        xs, ps, ws = self.problem.x.numpy(), p.numpy()[:, :rows], link.weight.numpy()[:rows]
        if not whole:
            ws = ws / ws.sum()
        if self.exact or not whole:
            self.blocks = {}
        self.price = price(active)
        slopes, places = (torch.cat([a, b[:, None]], 1).numpy() for a, b in ((gradient, slope), (here.weights, here.bias)))
        for k, wanted in enumerate(active.numpy()):
            kept = self.blocks.get(k)
            if kept is not None and wanted[kept.columns].sum() == wanted.sum():
                kept.true = False
            else:
                kept = self.blocks[k] = block(xs, ws, ps[k], np.flatnonzero(wanted), self.exact)
            kept.point(ws, ps[k], slopes[k], places[k], link.coupled)
        self.sweeps(rows, whole)
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
        """Gauss-Seidel over classes, until a sweep lowers the model by little of what the first one did.

        Where a class lowers it by not much less than in the sweep before, its curvature is taken anew, from all rows. Dear
        sweeps of many classes begin with one that has each class by itself, for it need not read its columns first.
        """
        coupled = self.problem.link.coupled
        cheap, alone = self.price < 1 / 2, self.price > 1 and len(self.blocks) >= LOOSE
        most = THOROUGH if cheap else 5 * SWEEPS if self.exact else SWEEPS + whole
        little, enough = (LITTLE / FINE, self.enough / FINE) if cheap else (LITTLE, self.enough)
        coupling = np.zeros(rows, self.blocks[0].g.dtype)
        first, last = 0.0, dict[int, float]()
        for turn in range(most):
            lowered = {
                k: sweep(each, coupling, self.penalty, coupled, self.least, alone and not turn)
                for k, each in self.blocks.items()
            }
            total = sum(lowered.values())
            if total < self.enough and not turn:
                self.enough, self.least = self.enough / 10, self.least / 10  # else there were no such step: it was not enough
            elif total < max(enough, little * first):
                break
            for k in lowered if turn else ():
                if lowered[k] > SLOW * last[k] and lowered[k] > LITTLE * total / len(lowered) and not self.blocks[k].true:
                    self.blocks[k].renew(coupled)
            first, last = first or total, lowered


def block(x: Array, weight: Array, p: Array, columns: Array, exact: bool) -> Block:
    """One class's ``columns`` of ``x`` (D, n), with those of the first m rows where its curvature is; weight, p (m,).

    H comes from all those rows where they are few, or where it must be exact; else from the first of them.
    """
    curve = weight * p * (1 - p)
    kept = curve > LIGHT * curve.mean()
    rows: Array | slice = slice(None) if exact or kept.mean() > DENSE else np.flatnonzero(kept)
    here, at = gathered(x, columns, rows, len(weight))
    heavy = curve[rows]
    total = heavy.sum()
    share = EACH * (len(columns) + 1) * float(heavy @ heavy) / max(float(total) ** 2, TINY)
    over, true = 1.0, exact or share >= MOST
    if not true:
        heavy = heavy[: int(share * len(heavy)) + 1]
        over += INFLATE * EACH**-0.5
    h = kernels().curvature(here, at, heavy * (curve.sum() * over / max(heavy.sum(), TINY)))
    return Block(columns, rows, here, at, h, true)


def gathered(x: Array, columns: Array, rows: Array | slice, count: int) -> tuple[Array, Array]:
    """(a matrix, its rows) that hold x[columns][:, rows]: x itself where the first ``count`` do and kernels can walk it."""
    if isinstance(rows, slice):
        return (x, columns) if kernels().compiled else (x[columns, :count], np.arange(len(columns)))
    return taken(x, columns, rows), np.arange(len(columns))


def taken(x: Array, at: Array, rows: Array) -> Array:
    """x[at][:, rows] (a, m)."""
    out = np.empty((len(at), len(rows)), x.dtype)
    kernels().gather(x, at, rows, out)
    return out


def price(active: Tensor) -> float:
    """What a sweep over ``active`` (Y, D) columns costs, in gradients: each is read twice, and a gradient reads all D."""
    return 2 * int(active.sum()) / (active.shape[1] * max(len(active) / THIN, 1))


def sweep(each: Block, coupling: Array, penalty: Penalty, coupled: bool, enough: float, alone: bool = False) -> float:
    """Solve one class's lasso with the others held, or not yet moved; returns about by how much that lowers the model."""
    own = coupling[each.rows]
    g = each.g if alone else each.g + kernels().pull(each.x, each.at, each.q, each.v, own, coupled)
    l1, l2 = each.g.dtype.type(penalty.l1), each.g.dtype.type(penalty.l2)
    d = kernels().descend(each.h, g, each.w + each.d, l1, l2, INNER, enough)
    each.d += d
    kernels().push(each.x, each.at, d, each.p, each.v, own, coupled)
    if coupled and not isinstance(each.rows, slice):
        coupling[each.rows] = own
    return float(d @ each.h @ d)
