"""A normal over concept logits, moved by what is known: the mode of a posterior, or a point of a confidence region.

Logits are ``mean + factor @ e`` with e standard normal, (B, R). What is known concerns m of the K logits, so that every system
solved is m x m. Working on e makes the result independent of the order of the concepts.
Region: Vandenhirtz et al. 2024, Stochastic Concept Bottleneck Models, and their code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NEWTON, HALVINGS = 60, 30
BARRIERS, CENTERINGS = 11, 15
SCALES = [float(scale) for scale in np.geomspace(1.6, 0.2, 10)]
WEIGHTS = [
    0.0001463426, 0.0076799735, 0.0700442664, 0.2094019634, 0.2996097759, 0.2513349353, 0.1268348325, 0.0321394777,
    0.0027645759, 4.38567e-05,
]  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What is known: ``target`` (B, K), a probability, a whole block of them, or a standardised number; where ``mask`` (B, K).

    ``numbers`` (K,) marks columns with a unit normal likelihood, ``owner`` (K,) numbers the softmax block of a column, -1 for
    none; the other columns are Bernoulli. A block is known as a whole or not at all. Both may also be (B, K).
    """

    target: Tensor
    mask: Tensor
    numbers: Tensor
    owner: Tensor | None = None

    def rows(self, index: Tensor) -> Evidence:
        """What is known of some rows."""
        cut = lambda t: t if t is None or t.ndim == 1 else t[index]  # noqa: E731
        return replace(self, target=self.target[index], mask=self.mask[index], numbers=cut(self.numbers), owner=cut(self.owner))

    def gathered(self, mean: Tensor, factor: Tensor) -> tuple[Tensor, Tensor, Evidence]:
        """mean (B, m), factor (B, m, R) and evidence of the known columns alone, padded where a row has fewer."""
        at = self.mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, : int(self.mask.sum(1).max())]
        pick = lambda t: t.expand(self.mask.shape).gather(1, at)  # noqa: E731
        owner = None if self.owner is None else pick(self.owner)
        known = Evidence(pick(self.target), pick(self.mask), pick(self.numbers), owner)
        return pick(mean), factor.gather(1, at[..., None].expand(-1, -1, factor.shape[2])), known

    @cached_property
    def same(self) -> Tensor:
        """(B, K, K) or (K, K): whether two columns are of one block."""
        assert self.owner is not None
        return (self.owner[..., :, None] == self.owner[..., None, :]) & (self.owner >= 0)[..., None]

    def total(self, eta: Tensor) -> Tensor:
        """(B, K) logarithm of the sum over the block of a column; the logit itself where there is none."""
        inside = self.same | torch.eye(eta.shape[1], dtype=torch.bool, device=eta.device)
        return eta[:, None].expand(-1, eta.shape[1], -1).masked_fill(~inside, -torch.inf).logsumexp(-1)

    def loss(self, eta: Tensor) -> Tensor:
        """(B,) negative log-likelihood of what is known under logits eta (B, K), up to a constant; convex in eta."""
        each = F.softplus(eta) - self.target * eta
        each = torch.where(self.numbers, 0.5 * (eta - self.target).square(), each)
        if self.owner is not None:
            share = self.total(eta) / self.same.sum(-1).clamp(min=1) - self.target * eta
            each = torch.where(self.owner >= 0, share, each)
        return (each * self.mask).sum(1)

    def slope(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) minus the gradient, and (B, K) the diagonal of the curvature (for blocks its first term), both masked."""
        p = eta.sigmoid()
        w = p * (1 - p)
        if self.owner is not None:
            share = (eta - self.total(eta)).exp()
            p, w = (torch.where(self.owner >= 0, share, t) for t in (p, w))
        p, w = torch.where(self.numbers, eta, p), torch.where(self.numbers, torch.ones_like(w), w)
        return self.mask * (self.target - p), self.mask * w

    def curved(self, factor: Tensor, w: Tensor) -> Tensor:
        """(B, K, R) rows b of which the curvature over e is b' b: a block's p - p p' is a projection between roots of p."""
        root = torch.where(w > 0, w.clamp(min=1e-300).sqrt(), 0)[..., None]
        if self.owner is None:
            return root * factor
        return root * (factor - self.same.to(factor) @ (w[..., None] * factor))


@dataclass(frozen=True)
class Moved:
    """What e has become: ``center`` (B, R) + n - rows' weight rows n for a standard normal n; rows (B, m, R)."""

    center: Tensor
    rows: Tensor
    weight: Tensor

    def of(self, mean: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, K) and a root (B, K, R) of the covariance of the logits."""
        return mean + _times(factor, self.center), factor - (factor @ self.rows.mT) @ (self.weight @ self.rows)


def posterior_mode(mean: Tensor, factor: Tensor, known: Evidence) -> Moved:
    """The likeliest e given what is ``known``, with the posterior's covariance there (Laplace) by its symmetric root.

    mean (B, K), factor (B, K, R), double precision. Damped Newton on a strictly convex function, so there is one
    answer; each row stops by itself. The gradient with respect to mean and factor is that of the answer (implicit).
    """
    m, f, told = known.gathered(mean, factor)
    with torch.no_grad():
        e = f.new_zeros(len(f), f.shape[2])
        going = torch.arange(len(e), device=e.device)
        for _ in range(NEWTON):
            e[going], moves = _newton(m[going], f[going], told.rows(going), e[going])
            going = going[moves]
            if not len(going):
                break
    if torch.is_grad_enabled():  # one more step, through which the gradient of the optimum flows
        gain, w = told.slope(m + _times(f, e))
        rows = told.curved(f, w).detach()
        e = e - _solved(rows, torch.linalg.cholesky(_inner(rows)), e - _times(f.mT, gain))
    rows = told.curved(f, told.slope(m + _times(f, e))[1])
    inner = _inner(rows)
    return Moved(e, rows, torch.linalg.inv(inner + _root(inner)))


def _newton(mean: Tensor, factor: Tensor, known: Evidence, e: Tensor) -> tuple[Tensor, Tensor]:
    """One damped step from e (B, R), and in which rows (B,) it gained something: the rest have found the mode."""
    eta = mean + _times(factor, e)
    value, (gain, w) = known.loss(eta) + 0.5 * e.square().sum(1), known.slope(eta)
    gradient, rows = e - _times(factor.mT, gain), known.curved(factor, w)
    step = -_solved(rows, torch.linalg.cholesky(_inner(rows)), gradient)
    slope, along = (gradient * step).sum(1), _times(factor, step)
    scale, trial, worse = torch.ones_like(value), e, torch.zeros_like(value, dtype=torch.bool)
    for _ in range(HALVINGS):
        trial = e + scale[:, None] * step
        found = known.loss(eta + scale[:, None] * along) + 0.5 * trial.square().sum(1)
        worse = found > value + 1e-4 * scale * slope + 1e-14 * value.abs()
        if not bool(worse.any()):
            break
        scale = torch.where(worse, scale / 2, scale)
    return torch.where(worse[:, None], e, trial), ~worse & (slope < -1e-20)


def _inner(rows: Tensor) -> Tensor:
    """(B, m, m) identity + rows rows'."""
    return rows @ rows.mT + torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)


def _solved(rows: Tensor, root: Tensor, vector: Tensor) -> Tensor:
    """(identity + rows' rows)^-1 vector (B, R), by the Cholesky root of the small matrix."""
    return vector - _times(rows.mT, torch.cholesky_solve(_times(rows, vector)[..., None], root).squeeze(-1))


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of matrices (B, m, m) with eigenvalues of at least 1; with its gradient."""
    with torch.no_grad():
        values, vectors = torch.linalg.eigh(matrix)
        root = values.clamp(min=1).sqrt()
        found = (vectors * root[:, None]) @ vectors.mT
    if not matrix.requires_grad:
        return found
    turned = vectors.mT @ (matrix - found @ found) @ vectors  # one Newton step for Y Y = matrix
    return found + vectors @ (turned / (root[:, :, None] + root[:, None])) @ vectors.mT


def region_point(mean: Tensor, factor: Tensor, known: Evidence, level: float) -> Tensor:
    """Logits (B, K): where known, the likeliest ones inside the confidence region, each on its label's side of the mean.

    Minimise the Bernoulli loss subject to (eta - mean)' C^-1 (eta - mean) <= the chi-square quantile at ``level`` with
    as many degrees as concepts are known, C their covariance; ``level`` between 0 and 1, both left out. A log barrier, Newton
    inside, all rows at once.
    """
    mask = known.mask.to(mean)
    side = torch.where(known.target >= 0.5, 1.0, -1.0).to(mean) * mask
    count = known.mask.sum(1)
    radius = torch.from_numpy(quantiles(mean.shape[1], level)).to(mean)[count].clamp(min=1e-12)
    radius = torch.where(count > 0, radius, 1.0)  # of a row where nothing is known any will do
    shape = side[:, :, None] * torch.linalg.inv(_covariance(factor, mask)) * side[:, None]  # (B, K, K), 0 where unknown
    one = mask * (0.25 * radius / (side.abs()[:, None] @ shape @ mask[..., None]).flatten().clamp(min=1e-12)).sqrt()[:, None]
    t = torch.where(known.mask, one, torch.ones_like(one))  # strictly inside: a quarter of the squared radius

    def value(t: Tensor, tau: float) -> Tensor:
        room = radius - _form(shape, t)
        inside = (room > 0) & (t > 0).all(1)
        barrier = (t.clamp(min=1e-300).log() * mask).sum(1) + room.clamp(min=1e-300).log()
        return torch.where(inside, known.loss(mean + side * t) - tau * barrier, torch.inf)

    for tau in (10.0**-power for power in range(BARRIERS)):
        for _ in range(CENTERINGS):
            gain, w = known.slope(mean + side * t)
            pull, room = _times(shape, t), (radius - _form(shape, t))[:, None]
            gradient = -side * gain - tau * mask / t + 2 * tau * pull / room
            hessian = torch.diag_embed(w + tau * mask / t.square() + (1 - mask)) + 2 * tau * shape / room[..., None]
            hessian = hessian + 4 * tau * pull[:, :, None] * pull[:, None] / room[..., None].square()
            step = -torch.linalg.solve(hessian, gradient[..., None]).squeeze(-1) * mask
            slope, start = (gradient * step).sum(1), value(t, tau)
            scale, worse = torch.ones_like(slope), torch.zeros_like(slope, dtype=torch.bool)
            if bool((slope > -1e-3 * tau).all()):
                break
            for _ in range(HALVINGS):
                worse = value(t + scale[:, None] * step, tau) > start + 1e-4 * scale * slope + 1e-14 * start.abs()
                if not bool(worse.any()):
                    break
                scale = torch.where(worse, scale / 2, scale)
            t = t + torch.where(worse, 0.0, scale)[:, None] * step
    return mean + side * t


def conditioned(factor: Tensor, known: Evidence, shift: Tensor) -> Moved:
    """The normal given that the known logits are ``shift`` (B, K) off their mean: closed form."""
    shift, rows, told = known.gathered(shift, factor)
    rows = rows * told.mask[..., None]
    weight = torch.linalg.inv(rows @ rows.mT + torch.diag_embed((~told.mask).to(rows)))
    return Moved(_times(rows.mT, _times(weight, shift * told.mask)), rows, weight)


def mean_sigmoid(mean: Tensor, deviation: Tensor) -> Tensor:
    """Mean of sigmoid(eta) for eta normal, elementwise, to 4e-9 for any deviation.

    The logistic function as a mixture of normal ones of fixed scales (the idea of Monahan and Stefanski 1989; weights fitted
    here), of each of which the mean is closed.
    """
    found = torch.zeros_like(mean)
    for scale, weight in zip(SCALES, WEIGHTS, strict=True):
        found = found + weight * torch.special.ndtr(scale * mean / (1 + (scale * deviation).square()).sqrt())
    return found


def quantiles(most: int, level: float) -> np.ndarray:
    """(most + 1,) chi-square quantiles at ``level`` for 0 to ``most`` degrees of freedom."""
    from scipy.special import gammaincinv

    return np.concatenate([[0.0], 2 * gammaincinv(np.arange(1, most + 1) / 2, level)])


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None]).squeeze(-1)


def _form(matrix: Tensor, vector: Tensor) -> Tensor:
    return (vector * _times(matrix, vector)).sum(1)


def _covariance(factor: Tensor, mask: Tensor) -> Tensor:
    """(B, K, K) covariance of the masked logits, the identity elsewhere."""
    rows = factor * mask[..., None]
    return rows @ rows.mT + torch.diag_embed(1 - mask)
