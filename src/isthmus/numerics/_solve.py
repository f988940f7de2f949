"""One strength, one start: which solver runs, and when the other carries on."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from isthmus.errors import OptionError
from isthmus.numerics import _fista, _newton
from isthmus.numerics._duality import bound
from isthmus.numerics._penalty import Penalty, largest
from isthmus.numerics._problem import Problem, whole
from isthmus.numerics._run import Point, Progress, Step, zero

Solver = Literal["auto", "newton", "fista"]


@dataclass(frozen=True)
class Setting:
    """What does not change along a path; the fields are those of ``elastic_net.fit``."""

    l1_ratio: float
    group_ratio: float
    tol: float
    max_iter: int
    solver: Solver
    watch: Callable[[Step], None] | None = None

    def __post_init__(self) -> None:
        for name, value in (("l1_ratio", self.l1_ratio), ("group_ratio", self.group_ratio)):
            if not 0 <= value <= 1:
                raise OptionError(f"{name} must lie in 0 to 1; got {value}")
        if not 0 < self.tol < 1:
            raise OptionError(f"tol is a share of the objective and must lie between 0 and 1; got {self.tol}")
        whole("max_iter", self.max_iter)
        if self.max_iter < 1:
            raise OptionError(f"max_iter must be at least 1; got {self.max_iter}")
        if self.solver not in ("auto", "newton", "fista"):
            raise OptionError(f"solver must be 'auto', 'newton' or 'fista'; got {self.solver!r}")
        if self.solver == "newton" and self.group_ratio:
            raise OptionError("solver 'newton' knows no groups: use 'auto' or 'fista', or group_ratio=0")

    def penalty(self, lam: float, problem: Problem) -> Penalty:
        """The penalty of strength ``lam``."""
        return Penalty.of(strength(lam), self.l1_ratio, self.group_ratio, problem.classes)

    def strongest(self, problem: Problem) -> float:
        """The least strength whose head is all zero."""
        if self.l1_ratio == 0:
            raise OptionError("l1_ratio must be above 0: without l1 no strength makes a head all zero, so there is no path")
        gradient, _ = problem.still(problem.prior())
        group = self.group_ratio if problem.classes > 1 else 0.0
        return largest(gradient, self.l1_ratio, group)

    def ladder(self, problem: Problem, points: int, least: float) -> list[float]:
        """``points`` strengths in equal ratios, the last of them ``least`` of the strongest."""
        whole("points", points)
        if points < 1 or not 0 < least < 1:
            raise OptionError(f"a path needs points >= 1 and least between 0 and 1; got {points} and {least}")
        return (self.strongest(problem) * np.geomspace(1, least, points + 1)[1:]).tolist()


def outward() -> int:
    """The stack level, for a warning where this is called, of the first caller outside this package's solvers."""
    frame, level = sys._getframe(1), 1  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("isthmus.numerics."):
        frame, level = frame.f_back, level + 1
    return level


def strength(lam: float) -> float:
    """A checked ``lam``."""
    if not (math.isfinite(lam) and lam > 0):
        raise OptionError(f"lam must be a number above 0 (without a penalty separable rows have no best head); got {lam}")
    return float(lam)


def better(problem: Problem, penalty: Penalty, start: Point) -> tuple[Point, float]:
    """The start, or zero where that has the lower objective; and its objective."""
    start, none = start.within(problem), zero(problem)
    own, empty = (problem.link.loss(each.z) + penalty.value(each.weights) for each in (start, none))
    return (start, own) if own <= empty else (none, empty)


def solve(problem: Problem, lam: float, how: Setting, start: Point) -> tuple[Point, Progress]:
    """Newton on a CPU while solutions are sparse and there are no groups; FISTA where it stops short, and elsewhere."""
    penalty = how.penalty(lam, problem)
    progress = Progress(how.tol, how.max_iter, how.watch)
    start, least = better(problem, penalty, start) if bool(start.weights.any()) else (start, math.inf)
    point = start
    name = "fista"
    if how.solver == "newton" or (how.solver == "auto" and problem.x.device.type == "cpu" and not penalty.group):
        name = "newton"
        point = _newton.solve(problem, penalty, point, progress, any_density=how.solver == "newton")
    if how.solver != "newton" and not progress.certified and progress.iterations < how.max_iter:
        name = "fista"
        point = _fista.solve(problem, penalty, point, progress)
    progress.solver = name
    if progress.value > least:
        point, progress.value = start, least
    if not progress.certified:
        seen = problem.link.look(point.z)
        progress.best = max(progress.best, bound(problem, penalty, seen, *problem.gradient(seen.p)))
    if not progress.certified:
        warnings.warn(
            f"the head of lam={lam:.3g} is certified to {progress.gap:.1e} of its objective, not to tol={how.tol:.1e}, after "
            f"{progress.iterations} iterations: raise max_iter or tol"
            + ("" if problem.x.dtype.itemsize > 4 else ", or give float64"),
            stacklevel=outward(),
        )
    return point, progress
