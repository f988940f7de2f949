"""The two likelihoods, class-major and in tiles that stay in the cache: softmax over classes, or a sigmoid for each class.

Both give probabilities, losses and residuals of logits (Y, n), and what the dual bound needs of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Pass(NamedTuple):
    """What one look at logits (Y, n) gives."""

    loss: float  # weighted mean, nats
    p: Tensor  # (Y, n) probabilities
    rest: float  # weighted entropy of the outcomes that did not happen
    wrong: Tensor  # (n,) or (Y, n) probability of those outcomes


@dataclass(frozen=True)
class Softmax:
    """Class ``labels`` (n,) with row ``weight`` (n,) that sums to 1."""

    labels: Tensor
    weight: Tensor
    classes: int
    coupled = True

    def look(self, z: Tensor) -> Pass:
        """Loss, probabilities, and entropy for logits (Y, n)."""
        p, wrong = torch.empty_like(z), torch.empty_like(z[0])
        loss = rest = 0.0
        for rows in tiles(z):
            y = self.labels[None, rows]
            q = z[:, rows] - z[:, rows].amax(0)
            own = q.gather(0, y)[0]
            tile = torch.exp(q, out=p[:, rows])
            total = tile.sum(0)
            tile /= total
            log_total, py = total.log(), tile.gather(0, y)[0]
            entropy = log_total - q.mul_(tile).sum(0) - torch.special.entr(py)
            loss += weighted(log_total - own, self.weight[rows])
            rest += weighted(entropy, self.weight[rows])
            wrong[rows] = 1 - py
        return Pass(loss, p, rest, wrong)

    def loss(self, z: Tensor) -> float:
        """Weighted mean cross-entropy, nats."""
        total = 0.0
        for rows in tiles(z):
            total += weighted(
                torch.logsumexp(z[:, rows], 0) - z[:, rows].gather(0, self.labels[None, rows])[0], self.weight[rows]
            )
        return total

    def residual(self, p: Tensor, rows: slice) -> Tensor:
        """weight · (p - truth) of some rows, (Y, rows)."""
        out = p[:, rows] * self.weight[rows]
        return out.scatter_add_(0, self.labels[None, rows], -self.weight[None, rows])

    def truths(self, x: Tensor, rows: slice) -> Tensor:
        """Σ weight·truth·x of some rows x (rows, D): (Y, D)."""
        if not x.is_cuda:
            found = torch.zeros(self.classes, x.shape[1], dtype=x.dtype)
            return found.index_add_(0, self.labels[rows], x * self.weight[rows, None])
        truth = torch.zeros(self.classes, len(x), dtype=x.dtype, device=x.device)  # indexed sums there have no fixed order
        return truth.scatter_(0, self.labels[None, rows], self.weight[None, rows]) @ x

    def shares(self) -> Tensor:
        """(Y,) Σ weight·truth in float64."""
        shares = torch.zeros(self.classes, dtype=torch.float64, device=self.weight.device)
        return shares.scatter_add_(0, self.labels, self.weight.double())

    def repaired(self, p: Tensor, excess: Tensor, mean: Tensor) -> tuple[float, Tensor]:
        """(rest, wrong) after probabilities moved from classes with too much to those with too little, ``excess`` (Y,)."""
        cut, share = excess.clamp_min(0) / mean, (-excess).clamp_min(0)
        share = (share / share.sum().clamp_min(torch.finfo(share.dtype).tiny)).to(p.dtype)[:, None]
        cut, kept = cut.to(p.dtype), (1 - cut).to(p.dtype)[:, None]
        rest, wrong = 0.0, torch.empty_like(p[0])
        for rows in tiles(p):
            u = torch.addcmul(share * (cut @ p[:, rows]), p[:, rows], kept)
            u.scatter_(0, self.labels[None, rows], 0)
            rest += weighted(torch.special.entr(u).sum(0), self.weight[rows])
            wrong[rows] = u.sum(0)
        return rest, wrong

    def repaired_gradient(self, gradient: Tensor, own: Tensor, middle: Tensor, excess: Tensor, mean: Tensor) -> Tensor:
        """The gradient (Y, D) of the repaired probabilities; ``own`` (Y, D) = Σ weight p x, ``middle`` is not used."""
        share = (-excess).clamp_min(0)
        moved = (excess.clamp_min(0) / mean)[:, None] * own
        return gradient - moved + (share / share.sum().clamp_min(torch.finfo(share.dtype).tiny))[:, None] * moved.sum(0)


@dataclass(frozen=True)
class Sigmoid:
    """Each class on its own: ``labels`` (Y, n) bool with row ``weight`` (n,) that sums to 1."""

    labels: Tensor
    weight: Tensor
    classes: int
    coupled = False

    def look(self, z: Tensor) -> Pass:
        """Loss, probabilities, and entropy for logits (Y, n)."""
        p, wrong = torch.sigmoid(z), torch.empty_like(z)
        rest = 0.0
        for rows in tiles(z):
            torch.where(self.labels[:, rows], 1 - p[:, rows], p[:, rows], out=wrong[:, rows])
            rest += weighted(torch.special.entr(wrong[:, rows]).sum(0), self.weight[rows])
        return Pass(self.loss(z), p, rest, wrong)

    def loss(self, z: Tensor) -> float:
        """Weighted mean over rows of the cross-entropies added over classes, nats."""
        total = 0.0
        for rows in tiles(z):
            signed = torch.where(self.labels[:, rows], -z[:, rows], z[:, rows])
            total += weighted(torch.nn.functional.softplus(signed).sum(0), self.weight[rows])
        return total

    def residual(self, p: Tensor, rows: slice) -> Tensor:
        """weight · (p - truth) of some rows, (Y, rows)."""
        return (p[:, rows] - self.labels[:, rows].to(p.dtype)) * self.weight[rows]

    def truths(self, x: Tensor, rows: slice) -> Tensor:
        """Σ weight·truth·x of some rows x (rows, D): (Y, D)."""
        return (self.labels[:, rows].to(x.dtype) * self.weight[rows]) @ x

    def shares(self) -> Tensor:
        """(Y,) Σ weight·truth in float64."""
        return self.labels.double() @ self.weight.double()

    def repaired(self, p: Tensor, excess: Tensor, mean: Tensor) -> tuple[float, Tensor]:
        """(rest, wrong) after each class's probabilities were shrunk or raised to the right mean, ``excess`` (Y,)."""
        cut = (excess.clamp_min(0) / mean).to(p.dtype)[:, None]
        lift = ((-excess).clamp_min(0) / (1 - mean)).to(p.dtype)[:, None]
        rest, wrong = 0.0, torch.empty_like(p)
        for rows in tiles(p):
            u = p[:, rows]
            u = u * (1 - cut) + (1 - u) * lift
            wrong[:, rows] = torch.where(self.labels[:, rows], 1 - u, u)
            rest += weighted(torch.special.entr(wrong[:, rows]).sum(0), self.weight[rows])
        return rest, wrong

    def repaired_gradient(self, gradient: Tensor, own: Tensor, middle: Tensor, excess: Tensor, mean: Tensor) -> Tensor:
        """The gradient (Y, D) of the repaired probabilities; ``own`` (Y, D) = Σ weight p x, ``middle`` (D,) = Σ weight x."""
        cut, lift = excess.clamp_min(0) / mean, (-excess).clamp_min(0) / (1 - mean)
        return gradient - cut[:, None] * own + lift[:, None] * (middle - own)


Link = Softmax | Sigmoid


def tiles(z: Tensor) -> list[slice]:
    """Slices of rows such that (Y, rows) stays in a CPU's cache, or is large enough for a GPU."""
    size = max(256, (1 << (24 if z.is_cuda else 18)) // len(z))
    return [slice(start, min(start + size, z.shape[1])) for start in range(0, z.shape[1], size)]


def weighted(values: Tensor, weight: Tensor) -> float:
    """Σ values · weight in float64."""
    return float(values.double() @ weight.double())
