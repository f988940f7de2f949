"""Multinomial logistic regression with a low-rank matrix of weights beside fixed logits: a convex path by the nuclear norm.

    min over M of  mean cross-entropy(base + M x, y) + mu |M|_*

by accelerated proximal gradient: each step shrinks the singular values by step * mu. Toh & Yun 2010, An accelerated proximal
gradient algorithm for nuclear norm regularized linear least squares problems; restarts as O'Donoghue & Candès 2015.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.errors import DataError, OptionError


@dataclass(frozen=True)
class LowRank:
    """``weights`` (Y, D) float64 of strength ``mu``, ``rank`` singular values above 0, ``objective`` in nats, ``steps`` taken.

    ``slope``: the norm of the last step's generalised gradient, 0 at the optimum, over mu.
    """

    weights: Tensor
    mu: float
    rank: int
    objective: float
    slope: float
    steps: int


def strongest(x: Tensor, y: Tensor, base: Tensor) -> float:
    """The least mu whose weights are all 0: the largest singular value of the gradient there."""
    x, y, base = _checked(x, y, base)
    return float(torch.linalg.matrix_norm(_gradient(x, y, base, x.new_zeros(base.shape[1], x.shape[1])), 2))


def fit(
    x: Tensor, y: Tensor, base: Tensor, *, mu: float, start: Tensor | None = None, tol: float = 1e-4, limit: int = 5000
) -> LowRank:
    """The weights of strength ``mu`` > 0: x (n, D), classes y (n,), fixed logits ``base`` (n, Y).

    Stops when the generalised gradient's norm is at most ``tol`` * mu, or after ``limit`` steps. ``start`` (Y, D): weights
    to begin from. Computed in float64.
    """
    x, y, base = _checked(x, y, base)
    if not mu > 0:
        raise OptionError(f"lowrank: expected mu above 0, got {mu!r}")
    # the Hessian is at most half of x'x / n, whatever the logits (Böhning 1992)
    step = 2 * len(x) / float(torch.linalg.matrix_norm(x, 2).square().clamp(min=1e-12))
    now = x.new_zeros(base.shape[1], x.shape[1]) if start is None else start.to(x)
    ahead, speed, slope, count = now, 1.0, float("inf"), 0
    for count in range(1, limit + 1):
        after = shrunk(ahead - step * _gradient(x, y, base, ahead), step * mu)
        moved = ahead - after
        slope = float(moved.norm()) / step / mu
        if slope <= tol:
            now = after
            break
        if float((moved * (after - now)).sum()) > 0:  # momentum runs against the slope: begin it anew
            speed = 1.0
        faster = (1 + (1 + 4 * speed**2) ** 0.5) / 2
        ahead = after + (speed - 1) / faster * (after - now)
        now, speed = after, faster
    values = torch.linalg.svdvals(now)
    loss = float(F.cross_entropy(base + x @ now.T, y))
    return LowRank(now, mu, int((values > 0).sum()), loss + mu * float(values.sum()), slope, count)


def path(
    x: Tensor, y: Tensor, base: Tensor, *, points: int = 20, least: float = 0.02, most: int | None = None, tol: float = 1e-3,
    limit: int = 2000,
) -> tuple[LowRank, ...]:  # fmt: skip
    """Weights from the strongest mu down to ``least`` of it in equal ratios, each begun from the one before.

    Ends early once the rank exceeds ``most``.
    """
    top = strongest(x, y, base)
    found: list[LowRank] = []
    if top < 1e-12:
        return ()
    for share in torch.logspace(0, float(torch.tensor(least).log10()), points, dtype=torch.float64).tolist():
        start = found[-1].weights if found else None
        found.append(fit(x, y, base, mu=top * share, start=start, tol=tol, limit=limit))
        if most is not None and found[-1].rank > most:
            break
    return tuple(found)


def refit(x: Tensor, y: Tensor, base: Tensor, *, l2: float = 1e-4, start: Tensor | None = None) -> Tensor:
    """(Y, r) weights without the nuclear norm, for x (n, r) of few columns: a ridge ``l2`` / 2 * the sum of squares."""
    x, y, base = _checked(x, y, base)
    w = (x.new_zeros(base.shape[1], x.shape[1]) if start is None else start.to(x).clone()).requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [w], max_iter=500, tolerance_grad=1e-8, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(base + x @ w.T, y) + l2 / 2 * w.square().sum()
        value.backward()  # pyright: ignore[reportUnknownMemberType]
        return value

    with torch.enable_grad():
        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    return w.detach()


def shrunk(matrix: Tensor, by: float) -> Tensor:
    """The matrix with its singular values lowered by ``by``, at least 0: the proximal step of the nuclear norm."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    kept = int((s > by).sum())
    return (u[:, :kept] * (s[:kept] - by)) @ v[:kept]


def principal(a: Tensor, b: Tensor) -> Tensor:
    """(min(p, q),) cosines of the principal angles between the rows of a (p, D) and b (q, D), the largest first."""
    spans = [torch.linalg.qr(part.double().T)[0] for part in (a, b)]
    return torch.linalg.svdvals(spans[0].T @ spans[1]).clamp(max=1.0)


def _gradient(x: Tensor, y: Tensor, base: Tensor, weights: Tensor) -> Tensor:
    p = (base + x @ weights.T).softmax(1)
    p[torch.arange(len(y)), y] -= 1
    return p.T @ x / len(y)


def _checked(x: Tensor, y: Tensor, base: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if x.ndim != 2 or base.ndim != 2 or not len(x) == len(y) == len(base) or not len(x):
        raise DataError(f"lowrank: expected x (n, D), y (n,), base (n, Y), got {[tuple(t.shape) for t in (x, y, base)]}")
    x, base, y = x.double(), base.double(), y.long()
    if not bool(x.isfinite().all() & base.isfinite().all()) or int(y.min()) < 0 or int(y.max()) >= base.shape[1]:
        raise DataError(f"lowrank: expected finite numbers and classes 0 to {base.shape[1] - 1}, got others")
    return x, y, base


__all__ = ["LowRank", "fit", "path", "principal", "refit", "shrunk", "strongest"]
