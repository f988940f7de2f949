"""A normal over concept logits, moved by what is known: the mode of a posterior, or a point of a confidence region.

Logits are ``mean + factor @ e`` with e standard normal, (B, R); both functions return what e becomes: ``center`` (B, R)
and ``spread`` (B, R, R), so that e = center + spread @ n for a standard normal n. Working on e keeps every Hessian
symmetric with eigenvalues of at least 1, and makes the result independent of the order of the concepts.
Region: Vandenhirtz et al. 2024, Stochastic Concept Bottleneck Models, and their code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NEWTON, HALVINGS = 60, 30
BARRIERS, CENTERINGS = 11, 15


@dataclass(frozen=True)
class Evidence:
    """What is known: ``target`` (B, K), a probability, a whole block of them, or a standardised number; where ``mask`` (B, K).

    ``numbers`` (K,) marks columns with a unit normal likelihood, ``blocks`` (blocks, S) index softmax blocks; the other
    columns are Bernoulli. A block is known as a whole or not at all.
    """

    target: Tensor
    mask: Tensor
    numbers: Tensor
    blocks: Sequence[Tensor] = ()

    def loss(self, eta: Tensor) -> Tensor:
        """(B,) negative log-likelihood of what is known under logits eta (B, K), up to a constant; convex in eta."""
        each = F.softplus(eta) - self.target * eta
        each = torch.where(self.numbers, 0.5 * (eta - self.target).square(), each)
        for index in self.blocks:
            block = eta[:, index]
            share = block.logsumexp(-1, keepdim=True) / index.shape[-1] - self.target[:, index] * block
            each = each.index_copy(1, index.flatten(), share.flatten(1))
        return (each * self.mask).sum(1)

    def slope(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) minus the gradient, and (B, K) the diagonal of the curvature (for blocks its first term), both masked."""
        p = eta.sigmoid()
        for index in self.blocks:
            p = p.index_copy(1, index.flatten(), eta[:, index].softmax(-1).flatten(1))
        w = p * (1 - p)
        for index in self.blocks:
            w = w.index_copy(1, index.flatten(), p[:, index.flatten()])
        p, w = torch.where(self.numbers, eta, p), torch.where(self.numbers, torch.ones_like(w), w)
        return self.mask * (self.target - p), self.mask * w

    def curvature(self, factor: Tensor, w: Tensor) -> Tensor:
        """(B, R, R) identity + factor' W factor: the Hessian over e."""
        total = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
        total = total + (factor * w[..., None]).mT @ factor
        for index in self.blocks:
            mean = (factor[:, index] * w[:, index][..., None]).sum(2)  # (B, blocks, R)
            total = total - mean.mT @ mean
        return total


def posterior_mode(mean: Tensor, factor: Tensor, known: Evidence) -> tuple[Tensor, Tensor]:
    """The e (B, R) that is likeliest given what is ``known``, and a root of the posterior's covariance there (Laplace).

    mean (B, K), factor (B, K, R), double precision. Damped Newton on a strictly convex function, so there is one
    answer; a row that has found it moves no further. The gradient with respect to mean and factor is that of the answer
    (implicit).
    """
    with torch.no_grad():
        e = mean.new_zeros(factor.shape[0], factor.shape[2])
        value = known.loss(mean)
        for _ in range(NEWTON):
            gain, w = known.slope(mean + _times(factor, e))
            gradient = e - _times(factor.mT, gain)
            root = torch.linalg.cholesky(known.curvature(factor, w))
            step = -torch.cholesky_solve(gradient[..., None], root).squeeze(-1)
            slope = (gradient * step).sum(1)
            if bool((slope > -1e-20).all()):
                break
            scale, trial, found = torch.ones_like(value), e, value
            for _ in range(HALVINGS):
                trial = e + scale[:, None] * step
                found = known.loss(mean + _times(factor, trial)) + 0.5 * trial.square().sum(1)
                worse = found > value + 1e-4 * scale * slope + 1e-14 * value.abs()
                if not bool(worse.any()):
                    break
                scale = torch.where(worse, scale / 2, scale)
            e, value = trial, found
    gain, w = known.slope(mean + _times(factor, e))
    root = torch.linalg.cholesky(known.curvature(factor, w))
    if torch.is_grad_enabled():  # one more Newton step, through which the gradient of the optimum flows
        gradient = e - _times(factor.mT, gain)
        e = e - torch.cholesky_solve(gradient[..., None], root.detach()).squeeze(-1)
    eye = torch.eye(factor.shape[2], dtype=factor.dtype, device=factor.device)
    return e, torch.linalg.solve_triangular(root.mT, eye.expand_as(root), upper=True)


def region_point(mean: Tensor, factor: Tensor, known: Evidence, level: float) -> Tensor:
    """Logits (B, K): where known, the likeliest ones inside the confidence region, each on its label's side of the mean.

    Minimise the Bernoulli loss subject to (eta - mean)' C^-1 (eta - mean) <= the chi-square quantile at ``level`` with
    as many degrees as concepts are known, C their covariance. A log barrier, Newton inside, all rows at once.
    """
    mask = known.mask.to(mean)
    side = torch.where(known.target >= 0.5, 1.0, -1.0).to(mean) * mask
    count = known.mask.sum(1)
    radius = torch.from_numpy(quantiles(mean.shape[1], level)).to(mean)[count].clamp(min=1.0)
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


def conditioned(factor: Tensor, mask: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The normal given that the logits in ``mask`` (B, K) are ``shift`` (B, K) off their mean: closed form."""
    rows = factor * mask.to(factor)[..., None]
    gain = torch.linalg.solve(_covariance(factor, mask.to(factor)), rows).mT  # (B, R, K)
    spread = torch.eye(factor.shape[2], dtype=factor.dtype, device=factor.device) - gain @ rows
    return _times(gain, shift * mask), spread


def mean_sigmoid(mean: Tensor, deviation: Tensor, nodes: int = 32) -> Tensor:
    """Mean of sigmoid(eta) for eta normal, elementwise, by Gauss-Hermite quadrature."""
    x, w = (torch.from_numpy(part).to(mean) for part in np.polynomial.hermite.hermgauss(nodes))
    return ((mean[..., None] + 2**0.5 * deviation[..., None] * x).sigmoid() * (w / w.sum())).sum(-1)


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
