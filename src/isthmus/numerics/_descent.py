"""Preconditioned conjugate gradients for many linear models that read the same rows, finished columns dropped.

Polak-Ribiere+ with an exact line search in the space of scores: a step costs two matrix products, whatever the search
does. For the squared loss it is linear conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor


class Loss(Protocol):
    """Score z, target t in {0, 1} -> slope and curvature, and the value, of the loss of each cell."""

    def slope(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]: ...

    def value(self, z: Tensor, t: Tensor) -> Tensor: ...


class Logistic:
    """log(1 + exp(-y z)) with y = 2 t - 1."""

    def slope(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        p = z.sigmoid()
        return p - t, p * (1 - p)

    def value(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.nn.functional.softplus(z) - t * z


class Squared:
    """(z - y)^2 / 2 with y = 2 t - 1."""

    def slope(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return z - (2 * t - 1), torch.ones_like(z)

    def value(self, z: Tensor, t: Tensor) -> Tensor:
        return (z - (2 * t - 1)).square() / 2


@dataclass
class State:
    """All that belongs to the live columns, each (..., A): parameters w, scores z, gradient g, direction, and their like."""

    at: Tensor  # (A,) which column of the result
    t: Tensor
    known: Tensor
    w: Tensor
    z: Tensor
    r: Tensor  # slope of the loss at z
    h: Tensor  # curvature of the loss at z
    g: Tensor
    p: Tensor  # preconditioned gradient
    move: Tensor
    energy: Tensor  # <g, p>

    def keep(self, columns: Tensor) -> State:
        """The state of some columns."""
        return State(*(getattr(self, field.name)[..., columns].contiguous() for field in fields(self)))


@dataclass(frozen=True)
class Fitted:
    """w (d + 1, C), the last row the bias; objective (C,) float64; done (C,) bool; steps taken."""

    w: Tensor
    objective: Tensor
    done: Tensor
    steps: int


def descend(
    x: Tensor, t: Tensor, known: Tensor, loss: Loss, penalty: float, *, tol: float, limit: int, curvature: float
) -> Fitted:
    """Minimise sum over known rows of loss(x w + b, t) + penalty / 2 |w|^2 for every column of t (n, C).

    ``curvature`` is that of the loss in the preconditioner, curvature x'x + penalty, which all columns share. A column is
    done when half its gradient's square in that metric, times ``curvature`` over the mean curvature of its own loss where
    that is flatter, is at most ``tol`` times its known rows: an estimate of how far it is above its minimum.
    """
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    ridge = torch.full((x.shape[1],), penalty, dtype=x.dtype, device=x.device)
    ridge[-1] = 0
    solve = _preconditioner(x, ridge, curvature)
    whole = bool(known.all())
    rows = known.sum(0).to(x.dtype)
    state = _start(x, t, known.to(x.dtype), loss, solve, whole)
    out, objective = torch.zeros_like(state.w), torch.zeros(t.shape[1], dtype=torch.float64, device=x.device)
    done = torch.zeros(t.shape[1], dtype=torch.bool, device=x.device)
    for step in range(limit + 1):
        flat = curvature / (state.h.sum(0) / rows[state.at]).clamp(min=1e-9)
        finished = state.energy / 2 * flat.clamp(min=1) <= tol * rows[state.at]
        stop = bool(finished.all()) or step == limit
        if stop or finished.double().mean() > 0.1:
            leave = torch.ones_like(finished) if stop else finished
            out[:, state.at[leave]], done[state.at] = state.w[:, leave], finished
            values = (loss.value(state.z[:, leave], state.t[:, leave]) * state.known[:, leave]).sum(0, dtype=torch.float64)
            objective[state.at[leave]] = values + (state.w[:, leave].double().square() * ridge[:, None] / 2).sum(0)
            if stop:
                return Fitted(out, objective, done, step)
            state = state.keep((~finished).nonzero()[:, 0])
        _step(state, x, ridge[:, None], loss, solve, whole)
    raise AssertionError("unreachable")


def _preconditioner(x: Tensor, ridge: Tensor, curvature: float) -> Callable[[Tensor], Tensor]:
    gram = (x.T @ x).double() * curvature
    gram.diagonal().add_(ridge + 1e-6 * gram.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram)).to(x.dtype)
    return lambda g: inverse @ g


def _start(x: Tensor, t: Tensor, known: Tensor, loss: Loss, solve: Callable[[Tensor], Tensor], whole: bool) -> State:
    w, z = x.new_zeros(x.shape[1], t.shape[1]), x.new_zeros(t.shape)
    r, h = _slopes(z, t, known, loss, whole)
    g = x.T @ r
    p = solve(g)
    return State(torch.arange(t.shape[1], device=x.device), t, known, w, z, r, h, g, p, -p, (g * p).sum(0))


def _slopes(z: Tensor, t: Tensor, known: Tensor, loss: Loss, whole: bool) -> tuple[Tensor, Tensor]:
    r, h = loss.slope(z, t)
    return (r, h) if whole else (r * known, h * known)


def _step(s: State, x: Tensor, ridge: Tensor, loss: Loss, solve: Callable[[Tensor], Tensor], whole: bool) -> None:
    """One conjugate step: line search along ``move``, then the gradient and the next direction."""
    along = x @ s.move
    pull, bend = (ridge * s.w * s.move).sum(0), (ridge * s.move.square()).sum(0)
    first, total = (s.r * along).sum(0) + pull, torch.zeros_like(pull)
    slope, square, low, high = first, along.square(), total, torch.full_like(total, torch.inf)
    for _ in range(20):
        aim = total - slope / ((s.h * square).sum(0) + bend).clamp(min=torch.finfo(x.dtype).tiny)
        aim = torch.where((aim > low) & (aim < high), aim, (low + high) / 2).where(slope != 0, total)
        s.z.addcmul_(along, aim - total)
        total = aim
        s.r, s.h = _slopes(s.z, s.t, s.known, loss, whole)
        slope = (s.r * along).sum(0) + pull + total * bend
        if bool((slope.abs() <= 0.2 * first.abs()).all()):
            break
        low, high = torch.where(slope < 0, total, low), torch.where(slope > 0, total, high)
    s.w.addcmul_(s.move, total)
    g = x.T @ s.r + ridge * s.w
    p = solve(g)
    mix = (((g - s.g) * p).sum(0) / s.energy.clamp(min=torch.finfo(x.dtype).tiny)).clamp(min=0)
    move = mix * s.move - p
    s.move = torch.where((move * g).sum(0) < 0, move, -p)
    s.g, s.p, s.energy = g, p, (g * p).sum(0)
