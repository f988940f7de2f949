"""Entropic optimal transport between many pairs of weighted sets at once, of any sizes, safe at small regularisation.

Sinkhorn (Cuturi, NeurIPS 2013) in potentials, with absorbed scalings and a falling epsilon (Schmitzer, SIAM J. Sci. Comput.
2019): one exact update in the log domain, then products with the plan, which cost no exponential, as long as their numbers
stay harmless.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from isthmus.errors import DataError
from isthmus.numerics._check import Array, count, number, tensor

__all__ = ["Transport", "entropic"]

INNER = 20  # products with the plan between two exact updates
FALL, MILD = 4.0, 100.0  # epsilon falls by this factor a round, from where costs span so many epsilons
HARMLESS = 1e8  # scalings beyond this, or below its inverse, are thrown away


@dataclass(frozen=True)
class Transport:
    """B solved problems, of the type of the cost.

    ``plan`` (B, n, m) >= 0 with columns summing to b; ``cost`` (B,) = sum of plan * cost, in units of the cost; potentials
    ``f`` (B, n) and ``g`` (B, m) with plan = exp((f + g - cost) / epsilon), -inf where there is no weight; ``error`` (B,), how
    far the plan's rows are from a (sum of absolute differences, as a share of the mass); ``converged`` (B,) bool.
    """

    plan: Tensor
    cost: Tensor
    f: Tensor
    g: Tensor
    error: Tensor
    converged: Tensor


@dataclass
class _State:
    """The problems still running: which they are, cost / epsilon, log weights, how many times too large epsilon is for now,
    potentials over that epsilon, and the error of the rows."""

    at: Tensor
    c: Tensor
    log_a: Tensor
    log_b: Tensor
    soft: Tensor
    f: Tensor
    g: Tensor
    error: Tensor

    def keep(self, rows: Tensor) -> _State:
        return _State(*(getattr(self, field.name)[rows] for field in fields(self)))


def entropic(
    cost: Array,
    *,
    a: Array | None = None,
    b: Array | None = None,
    epsilon: float = 0.05,
    tol: float = 1e-5,
    limit: int = 10_000,
) -> Transport:
    """min <plan, cost> + epsilon * sum of plan (log plan - 1) over plans with row sums a and column sums b.

    ``cost`` (B, n, m), in any unit, ``epsilon`` > 0 in the same; ``a`` (B, n) and ``b`` (B, m) >= 0, of equal sum in each
    problem (default: uniform, 1/n and 1/m). Sets of unlike sizes are padded: a point of weight 0 does not exist, and its costs
    may be anything, NaN too. A problem stops when its rows miss a by at most ``tol`` of the mass (float32 reaches about
    1e-7 * cost / epsilon),
    by itself: nothing depends on the rest of the batch. ``converged`` is False where ``limit`` iterations were not enough.
    Raises ``DataError`` for shapes, negative or unequal weights, costs that are not finite between existing points, or
    so much larger than epsilon that their squares are not.
    """
    table = tensor("cost", cost, "B n m", nan=True, infinite=True)
    number("epsilon", epsilon, above=0)
    number("tol", tol, above=0)
    weights = [_weights(name, given, table, axis) for name, given, axis in (("a", a, 1), ("b", b, 2))]
    _same_mass(*weights)
    exists = (weights[0] > 0)[:, :, None] & (weights[1] > 0)[:, None]
    if not bool(table.isfinite()[exists].all()):
        raise DataError(
            "cost: expected finite numbers between points of positive weight, got NaN or inf; give padding weight 0"
        )
    mass = weights[0].sum(1)
    scaled = [(weight / mass[:, None]).log() for weight in weights]
    c = torch.where(exists, table, 0) / epsilon
    most = torch.finfo(c.dtype).max ** 0.5
    if c.numel() and not bool(c.abs().max() < most):
        got = float(torch.where(exists, table, 0).abs().max())
        raise DataError(
            f"cost: expected sizes below {most:.0e} times epsilon ({epsilon:g}), got {got:g}; divide by their scale"
        )
    f, g, error = _solve(c, *scaled, tol=tol, limit=count("limit", limit))
    plan = (f[:, :, None] + g[:, None] - c).exp() * mass[:, None, None]
    shift = epsilon * mass.log()[:, None]
    value = (plan * torch.where(exists, table, 0)).sum((1, 2))
    return Transport(plan, value, epsilon * f + shift, epsilon * g, error, error <= tol)


def _weights(name: str, given: Array | None, table: Tensor, axis: int) -> Tensor:
    size = table.shape[axis]
    if given is None:
        return table.new_full((len(table), size), 1 / size)
    weight = tensor(name, given, f"{len(table)} {size}").to(table)
    if bool((weight < 0).any()):
        raise DataError(
            f"{name}: expected weights of at least 0, got {weight.min().item():g}; clip them, or shift the cost instead"
        )
    return weight


def _same_mass(a: Tensor, b: Tensor) -> None:
    one, two = a.sum(1), b.sum(1)
    bad = ((one - two).abs() > 1e-4 * one) | (one <= 0)
    if bool(bad.any()):
        k = int(bad.nonzero()[0])
        got = f"{one[k].item():g} and {two[k].item():g} in problem {k}"
        raise DataError(f"b: expected the positive sum of a in each problem, got sums {got}; normalise both")


def _solve(c: Tensor, log_a: Tensor, log_b: Tensor, *, tol: float, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Potentials over epsilon, and the error of the rows; columns are exact."""
    f0, g0 = (torch.where(log_weight.isinf(), log_weight, 0.0) for log_weight in (log_a, log_b))
    void = log_a.isinf()[:, :, None] | log_b.isinf()[:, None]
    span = c.masked_fill(void, -torch.inf).amax((1, 2)) - c.masked_fill(void, torch.inf).amin((1, 2))
    soft = (span / MILD).clamp(min=1)
    state = _State(torch.arange(len(c), device=c.device), c, log_a, log_b, soft, f0, g0, soft)
    f, g, error = log_a.clone(), log_b.clone(), log_a.new_full((len(c),), torch.inf)
    for _ in range(-(-limit // (INNER + 1))):
        table = state.c / state.soft[:, None, None]
        _exact(state, table)
        _scale(state, table)
        _harden(state)
        f[state.at], g[state.at], error[state.at] = state.f, state.g, state.error
        left = ~(state.error <= tol)
        if not bool(left.any()):
            break
        if not bool(left.all()):
            state = state.keep(left)
    return f, g, error


def _harden(s: _State) -> None:
    """Let epsilon fall where it is still too large; such a problem has not ended, whatever its error."""
    on_its_way, sharper = s.soft > 1, (s.soft / FALL).clamp(min=1)
    s.f, s.g = s.f * (s.soft / sharper)[:, None], s.g * (s.soft / sharper)[:, None]
    s.error, s.soft = torch.where(on_its_way, torch.inf, s.error), sharper


def _exact(s: _State, c: Tensor) -> None:
    """One Sinkhorn iteration in the log domain; where nothing exists the potential is -inf."""
    s.f = _finite(s.log_a - (s.g[:, None] - c).logsumexp(2), s.log_a)
    s.g = _finite(s.log_b - (s.f[:, :, None] - c).logsumexp(1), s.log_b)


def _finite(potential: Tensor, log_weight: Tensor) -> Tensor:
    return torch.where(log_weight.isinf(), log_weight, potential)


def _scale(s: _State, c: Tensor) -> None:
    """INNER iterations on the plan itself, kept for the problems where every scaling stayed harmless; then the error."""
    plan = (s.f[:, :, None] + s.g[:, None] - c).exp()
    a, b = s.log_a.exp()[:, :, None], s.log_b.exp()[:, None]
    u, v = torch.ones_like(a), torch.ones_like(b)
    for _ in range(INNER):
        u = _ratio(a, plan @ v.mT)
        v = _ratio(b, u.mT @ plan)
    good = ((u < HARMLESS) & (u > 1 / HARMLESS)).all(1)[:, 0] & ((v < HARMLESS) & (v > 1 / HARMLESS)).all(2)[:, 0]
    u, v = torch.where(good[:, None, None], u, 1), torch.where(good[:, None, None], v, 1)
    s.error = (u * (plan @ v.mT) - a).abs().sum((1, 2))
    s.f, s.g = s.f + u[:, :, 0].log(), s.g + v[:, 0].log()


def _ratio(weight: Tensor, found: Tensor) -> Tensor:
    """weight / found, 1 where there is no weight."""
    return torch.where(weight > 0, weight / found, 1)
