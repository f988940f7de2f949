"""Sparse linear heads: logistic regression with l1, l2 and a concept-level group penalty, along a path, with a certificate.

    min over W, b of  Σ weight·loss(W x + b, y) + lam·(r (1 - g) |W|_1 + r g √Y Σ_d |W[:, d]|_2 + (1 - r)/2 |W|²)

with r = ``l1_ratio``, g = ``group_ratio``, weights of rows that sum to 1, and a bias that is not penalised. The loss is the
softmax cross-entropy ('multinomial'), or the logistic losses of all classes added ('ovr'; 'binary' has one output).
Wong et al., ICML 2021 (sparse final layers); Oikarinen et al., ICLR 2023 (Label-free CBM); Srivastava et al., NeurIPS 2024
(VLG-CBM: NEC, the number of effective concepts, and ANEC, accuracy averaged over several of them).

>>> x = torch.randn(400, 12, generator=torch.Generator().manual_seed(0))
>>> y = (2 * x[:, 0] - x[:, 1] > 0).long()
>>> head = fit(x, y, lam=0.1)
>>> tuple(head.weights.shape), head.certified, head.weights[0].nonzero().flatten().tolist()
((2, 12), True, [0, 1])
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import DataError, OptionError
from isthmus.numerics._duality import bound
from isthmus.numerics._problem import Family, Problem, prepare
from isthmus.numerics._run import Point, Progress, Step, zero
from isthmus.numerics._solve import Setting, Solver, solve

__all__ = ["Family", "Fit", "Solver", "Step", "certificate", "fit", "path", "strongest", "truncate", "with_nec"]

STEP, LEAST, HALVINGS = 0.85, 1e-4, 12  # the search for a number of concepts: each strength over the last, end, bisections

ANEC = (5, 10, 15, 20, 25, 30)  # concepts a class over which VLG-CBM averages


@dataclass(frozen=True)
class Fit:
    """A sparse head and how near it is to the best one.

    ``weights`` (Y, D) and ``bias`` (Y,) act on x as it was given and are of x's kind (torch or numpy) and precision.
    ``scale`` (D,) is what columns were divided by (0: constant, weight 0). ``bound`` <= optimum <= ``objective``, nats.
    """

    weights: Any
    bias: Any
    scale: Any
    lam: float
    objective: float
    bound: float
    tol: float
    iterations: int
    solver: str

    @property
    def gap(self) -> float:
        """The objective lies above the optimum by at most this share of it, >= 0."""
        return max(self.objective - self.bound, 0.0) / abs(self.objective) if self.objective else 0.0

    @property
    def certified(self) -> bool:
        """Is the gap at most ``tol``?"""
        return self.gap <= self.tol

    @property
    def nec(self) -> float:
        """Concepts with a weight, mean over classes."""
        return float((self.weights != 0).sum()) / len(self.weights)


def fit(
    x: Any,
    y: Any,
    *,
    lam: float,
    family: Family = "multinomial",
    classes: int | None = None,
    l1_ratio: float = 0.99,
    group_ratio: float = 0.0,
    standardize: bool = True,
    weight: Any = None,
    tol: float = 1e-4,
    max_iter: int = 2000,
    solver: Solver = "auto",
    start: Fit | None = None,
    watch: Callable[[Step], None] | None = None,
) -> Fit:
    """The head of strength ``lam`` > 0 whose objective lies within ``tol`` (a share of it) of the best, as a bound certifies.

    x (n, D) finite, torch or numpy; float32 or float64 sets the precision. y (n,) class numbers, 0/1 for 'binary', or
    (n, Y) 0/1 for 'ovr'. ``weight`` (n,) >= 0. ``standardize`` scales columns to deviation 1 before they are penalised
    (centring, which the free bias undoes, is always done). A class without rows gets weights 0 and a logit 20 nats below
    all that any row needs ('ovr': a bias of -20; 20 where every row has it). solver 'auto': proximal Newton on a CPU while
    heads are sparse and groups off, else FISTA. ``start``: a fit to begin from. ``watch`` is told each step. An
    uncertified end warns. DataError and OptionError name what does not fit.
    """
    how = Setting(l1_ratio, group_ratio, tol, max_iter, solver, watch)
    problem = prepare(x, y, family=family, classes=classes, weight=weight, standardize=standardize)
    begin = zero(problem) if start is None else inside(problem, start.weights, start.bias)
    return outside(x, problem, lam, how, *solve(problem, lam, how, begin))


def path(
    x: Any,
    y: Any,
    *,
    points: int = 30,
    least: float = 0.02,
    lams: Sequence[float] | None = None,
    family: Family = "multinomial",
    classes: int | None = None,
    l1_ratio: float = 0.99,
    group_ratio: float = 0.0,
    standardize: bool = True,
    weight: Any = None,
    tol: float = 1e-3,
    max_iter: int = 2000,
    solver: Solver = "auto",
) -> tuple[Fit, ...]:
    """Heads from strong to weak, each started from the one before and certified to ``tol``.

    Strengths are ``lams``, or ``points`` in equal ratios down to ``least`` of ``strongest``. Other options: see ``fit``.
    """
    how = Setting(l1_ratio, group_ratio, tol, max_iter, solver)
    problem = prepare(x, y, family=family, classes=classes, weight=weight, standardize=standardize)
    if lams is None:
        chosen = how.ladder(problem, points, least)
        varied(problem)
    else:
        chosen = sorted(map(float, lams), reverse=True)
    return tuple(found for found, _ in walk(x, problem, how, chosen, zero(problem)))


def with_nec(
    x: Any,
    y: Any,
    *,
    nec: Any = None,
    slack: float = 0.5,
    family: Family = "multinomial",
    classes: int | None = None,
    l1_ratio: float = 0.99,
    group_ratio: float = 0.0,
    standardize: bool = True,
    weight: Any = None,
    tol: float = 1e-3,
    max_iter: int = 2000,
    solver: Solver = "auto",
) -> tuple[Fit, ...]:
    """For each wanted ``nec``, a number or several (default: those of ANEC that x has columns for), the head of the path with
    that many concepts a class, or few more.

    The path is walked until it has them, then bisected until the head found has at most ``slack`` more; ``truncate`` makes
    it exact. Where even 1e-4 of the strongest has too few, the last head is given, and a warning. Other options: see ``fit``.
    """
    how = Setting(l1_ratio, group_ratio, tol, max_iter, solver)
    problem = prepare(x, y, family=family, classes=classes, weight=weight, standardize=standardize)
    strong = how.strongest(problem)
    varied(problem)
    nec = numbers(nec, len(problem.x))
    steps = walk(x, problem, how, strong * np.geomspace(1, LEAST, int(np.log(LEAST) / np.log(STEP)) + 1), zero(problem))
    above, found = next(steps), dict[float, Fit]()
    below = above
    for wanted in sorted(nec):
        while below[0].nec < wanted and (after := next(steps, None)) is not None:
            above, below = below, after
        if below[0].nec < wanted:
            warnings.warn(
                f"no head of this path has {wanted:g} concepts a class; the weakest has {below[0].nec:.2f}", stacklevel=2
            )
        found[wanted] = between(x, problem, how, above, below, wanted, slack)
    return tuple(found[wanted] for wanted in nec)


def numbers(nec: Any, columns: int) -> tuple[float, ...]:
    """The wanted numbers of concepts a class, checked."""
    if nec is None:
        if columns < ANEC[0]:
            raise OptionError(f"x has {columns} columns, fewer than the {ANEC[0]} of ANEC's least head: give nec")
        return tuple(float(wanted) for wanted in ANEC if wanted <= columns)
    try:
        found = tuple(np.atleast_1d(np.asarray(nec, dtype=float)).ravel().tolist())
    except (TypeError, ValueError) as error:
        raise OptionError(f"nec must be a number or several; got {nec!r}") from error
    if not found or not all(0 < wanted <= columns for wanted in found):
        raise OptionError(f"nec must lie above 0 and at most {columns}, the columns of x; got {found}")
    return found


def varied(problem: Problem) -> None:
    """Refuse columns that are all constant: there is no strongest penalty to begin a path from."""
    if not bool((problem.scale > 0).any()):
        raise DataError("every column of x is constant, so that no penalty has a head with weights: give columns that vary")


def between(
    x: Any, problem: Problem, how: Setting, above: tuple[Fit, Point], below: tuple[Fit, Point], wanted: float, slack: float
) -> Fit:
    """Bisect between a head with too few concepts and one with enough."""
    for _ in range(HALVINGS):
        if below[0].nec <= wanted + slack:
            break
        middle = next(walk(x, problem, how, [(above[0].lam * below[0].lam) ** 0.5], above[1]))
        above, below = (above, middle) if middle[0].nec >= wanted else (middle, below)
    return below[0]


def walk(x: Any, problem: Problem, how: Setting, lams: Iterable[float], point: Point) -> Iterator[tuple[Fit, Point]]:
    """Fit after fit, each from the points before it, carried on along the logarithm of the strength."""
    past: list[tuple[float, Point]] = []
    for lam in lams:
        start = point
        if len(past) == 2 and past[0][0] > past[1][0] > lam:
            (before, older), (last, newer) = past
            start = newer.towards(older, min(math.log(last / lam) / math.log(before / last), 1.0))
        point, progress = solve(problem, lam, how, start)
        past = [*past[-1:], (lam, point)]
        yield outside(x, problem, lam, how, point, progress), point


def strongest(
    x: Any,
    y: Any,
    *,
    family: Family = "multinomial",
    classes: int | None = None,
    l1_ratio: float = 0.99,
    group_ratio: float = 0.0,
    standardize: bool = True,
    weight: Any = None,
) -> float:
    """The least ``lam`` whose head is all zero; options as in ``fit``."""
    problem = prepare(x, y, family=family, classes=classes, weight=weight, standardize=standardize)
    return Setting(l1_ratio, group_ratio, 0.5, 1, "auto").strongest(problem)


def certificate(
    x: Any,
    y: Any,
    weights: Any,
    bias: Any,
    *,
    lam: float,
    family: Family = "multinomial",
    classes: int | None = None,
    l1_ratio: float = 0.99,
    group_ratio: float = 0.0,
    standardize: bool = True,
    weight: Any = None,
) -> tuple[float, float]:
    """(objective, lower bound on the optimum) of any head (Y, D), (Y,), computed in float64 throughout; options as in ``fit``.

    A head with a bad bias, or far from the optimum, has a loose bound. It takes a copy of x in float64.
    """
    how = Setting(l1_ratio, group_ratio, 0.5, 1, "auto")
    wide = torch.as_tensor(x).double()
    problem = prepare(wide, y, family=family, classes=classes, weight=weight, standardize=standardize)
    point, penalty = inside(problem, weights, bias).within(problem), how.penalty(lam, problem)
    seen = problem.link.look(point.z)
    return seen.loss + penalty.value(point.weights), bound(problem, penalty, seen, *problem.gradient(seen.p))


def truncate(head: Fit, nec: float, *, each: bool = False) -> Any:
    """The head's weights (Y, D) with the largest nec·Y kept and the rest 0 (``each``: the largest ``nec`` of each class).

    Large is measured on the columns' common scale; of equal weights the first are kept. As VLG-CBM sets its NEC.
    """
    count = round(nec) if each else round(nec * len(head.weights))
    if not 0 <= count <= head.weights[0 if each else ...].reshape(-1).shape[0]:
        raise OptionError(f"nec must lie in 0 to {head.weights.shape[1]}, the columns of the weights; got {nec}")
    weights = torch.as_tensor(head.weights)
    size = (weights * torch.as_tensor(head.scale)).abs()
    size = size if each else size.reshape(1, -1)
    kept = torch.zeros_like(size, dtype=torch.bool).scatter_(
        1, size.argsort(dim=1, descending=True, stable=True)[:, :count], True
    )
    cut = torch.where(kept.reshape(weights.shape), weights, 0)
    return cut if isinstance(head.weights, Tensor) else cut.numpy()


def inside(problem: Problem, weights: Any, bias: Any) -> Point:
    """A head for x as given, as a point of the prepared problem."""
    w, b = (torch.as_tensor(part).to(problem.x) for part in (weights, bias))
    if w.shape != (len(problem.present), len(problem.x)) or b.shape != w.shape[:1]:
        raise DataError(
            f"the head must have weights ({len(problem.present)}, {len(problem.x)}) and as many biases; "
            f"got {tuple(w.shape)} and {tuple(b.shape)}"
        )
    if not bool(torch.isfinite(w).all() & torch.isfinite(b).all()):
        raise DataError("the head's weights and bias must be finite; got NaN or infinity: fit it again")
    w, b = w[problem.present], b[problem.present]
    return Point(w * problem.scale, (b.double() + w.double() @ problem.mean).to(b.dtype))


def outside(x: Any, problem: Problem, lam: float, how: Setting, point: Point, progress: Progress) -> Fit:
    """A point of the prepared problem as a head for x as given."""
    weights, bias = problem.outside(point.weights, point.bias, point.z)
    scale: Any = problem.scale
    if not isinstance(x, Tensor):
        weights, bias, scale = weights.numpy(), bias.numpy(), scale.numpy()
    value, lower = progress.value, progress.best
    return Fit(weights, bias, scale, float(lam), value, lower, how.tol, progress.iterations, progress.solver)
