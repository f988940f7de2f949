"""How far from the optimum: a lower bound on it from Fenchel's dual, made exactly feasible and searched along a line.

min F = Σ weight·loss + penalty. Any u with rows that are distributions and Σ weight (u - truth) = 0 gives the bound
Σ weight·entropy(u) - conjugate(X'weight(u - truth)). At the optimum u is the model's own p. Away from it p fails the
equality (the bias is not yet right) and strays over l1, which costs (|G| - l1)²/(2 l2) with l2 small: so p is first moved
between classes until the equality holds, in closed form, then mixed with the truth, u = c p + (1 - c) truth, for the best c.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from isthmus.numerics._links import Pass
from isthmus.numerics._penalty import Penalty
from isthmus.numerics._problem import Problem

MIX = 1 - torch.cat([torch.zeros(1, dtype=torch.float64), torch.logspace(-7, -0.1, 24, dtype=torch.float64)])


def bound(problem: Problem, penalty: Penalty, seen: Pass, gradient: Tensor, bias: Tensor, worth: float = -math.inf) -> float:
    """A lower bound on the optimum, from probabilities and their gradient; -inf where it would not reach ``worth``.

    A first estimate leaves the bias as it is; only one that reaches ``worth`` is made exact, which takes another look at p.
    """
    estimate, _ = search(problem, penalty, seen.rest, seen.wrong, gradient.double())
    if estimate < worth:
        return -math.inf
    mean = (bias.double() + problem.shares).clamp_min(1e-300)
    excess = mean - problem.shares
    rest, wrong = problem.link.repaired(seen.p, excess, mean)
    own = (gradient + problem.sums).double()
    exact = problem.link.repaired_gradient(gradient.double(), own, problem.middle.double(), excess, mean)
    return search(problem, penalty, rest, wrong, exact)[0]


def search(problem: Problem, penalty: Penalty, rest: float, wrong: Tensor, gradient: Tensor) -> tuple[float, float]:
    """(best bound, its c): the bound is concave in c, so a bisection of the sorted candidates finds the best of them."""
    mass = float((wrong.double() * problem.link.weight.double()).sum())

    def value(c: float) -> float:
        happened = torch.special.entr(1 - c * wrong.double())
        entropy = c * rest - (c * mass * math.log(c) if c > 0 else 0.0)
        return entropy + float((happened * problem.link.weight.double()).sum()) - penalty.conjugate(c * gradient)

    mixes = [c.item() for c in (MIX if penalty.l2 else feasible(penalty, gradient) * MIX)]
    low, high = 0, len(mixes) - 1
    known: dict[int, float] = {}

    def at(index: int) -> float:
        if index not in known:
            known[index] = value(mixes[index])
        return known[index]

    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) >= at(middle + 1) else (middle + 1, high)
    return at(low), mixes[low]


def feasible(penalty: Penalty, gradient: Tensor) -> float:
    """The largest c in [0, 1] such that c·gradient passes nothing that is free (all that a pure l1 allows)."""
    if float(penalty.excess(gradient).max()) == 0:
        return 1.0
    if not penalty.group:
        return penalty.l1 / float(gradient.abs().max()) * (1 - 1e-12)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        free = float(penalty.excess(middle * gradient).max()) == 0
        low, high = (middle, high) if free else (low, middle)
    return low
