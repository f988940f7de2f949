"""Each concept is a Gaussian in a small space; it is present as often as a draw lies nearer to 'present' than to 'absent'.

Kim et al. 2023, Probabilistic Concept Bottleneck Models, ICML, section 3.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.given import Given, hold
from isthmus.model import Bottleneck, Concepts
from isthmus.space import ConceptSpace

EPS = 1e-6  # inside the root of a distance
HIGHEST = 10.0  # of a log-variance


class GaussianBottleneck(Bottleneck):
    """z (B, D) -> a Gaussian (mean of length 1, diagonal variance) in E dimensions for each of the M concepts.

    A draw's probability is a softmax over -scale * distance to the concept's unit anchors: absent and present, or one for
    each state. ``values`` are its mean over draws, ``vectors`` (B, M, E) the means. What is given is its state's anchor
    (soft values: the mixture), with variance 0. ``noise`` (S, 1, M, E) is the one bank of draws that all rows share.
    """

    noise: Tensor

    def __init__(self, dim: int, space: ConceptSpace, width: int = 16, samples: int = 50, kl: float = 5e-5) -> None:
        super().__init__(space)
        m, edge = space.count, 1 / math.sqrt(width)
        self.stem, self.norm = nn.Linear(dim, m * width), nn.BatchNorm1d(m * width)
        self.maps = nn.Parameter(torch.empty(m, 3, width, width).uniform_(-edge, edge))  # mean, its gate, log-variance
        self.shifts = nn.Parameter(torch.empty(m, 3, width).uniform_(-edge, edge))
        self.affine = nn.Parameter(torch.stack([torch.ones(m, width), torch.zeros(m, width)], 1))  # of the layer norm
        self.anchors = nn.Parameter(nn.init.trunc_normal_(torch.empty(len(space), 2, width), std=edge))  # absent, present
        self.scale = nn.Parameter(torch.tensor(5.0))
        self.register_buffer("noise", torch.randn(samples, 1, m, width))
        self.width, self.kl = width, kl

    def moments(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, M, E); one place where the paper pools many, so its attention has one choice."""
        a = self.stem(z)
        norm = self.norm
        if norm.training and len(a) < 2:  # a last batch of one row has no statistics of its own
            a = F.batch_norm(a, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            a = norm(a)
        a = a.relu().unflatten(-1, (-1, self.width))  # (B, M, E)
        mean, gate, logvar = (torch.einsum("bme,mtfe->tbmf", a, self.maps) + self.shifts.transpose(0, 1)[:, None]).unbind()
        mean = F.layer_norm(mean + gate.sigmoid(), (self.width,)) * self.affine[:, 0] + self.affine[:, 1]
        return F.normalize(mean, dim=-1), logvar.clamp(max=HIGHEST)

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        """At the means; while it learns, over fresh draws, with the KL to a standard normal as its penalty."""
        mean, logvar = self.moments(z)
        logits = self.score(mean, logvar, self.fresh(len(z)) if self.training else None)
        values = hold(self.space.activate(logits), given, self.space)
        penalties = {"kl": self.kl * divergence(mean, logvar)} if self.training else {}
        return Concepts(values, logits, self.told(mean, values, given), penalties=penalties)

    def sampled(self, z: Tensor, given: Given | None, noise: Tensor, seen: Tensor | None = None) -> Concepts:
        """Concepts over the draws of ``noise`` (S, 1 or B, M, E), with ``vectors`` (S, B, M, E), one for each draw.

        ``seen`` (S, B): the draws in which what is given shows; all when None.
        """
        mean, logvar = self.moments(z)
        logits = self.score(mean, logvar, noise)
        values = hold(self.space.activate(logits), given, self.space)
        return Concepts(values, logits, self.told(mean + (0.5 * logvar).exp() * noise, values, given, seen))

    def fresh(self, rows: int) -> Tensor:
        """New noise (S, rows, M, E), for training: as many draws as the bank has, each row its own."""
        samples, _, m, width = self.noise.shape
        return torch.randn(rows, m, samples, width, device=self.noise.device).permute(2, 0, 1, 3)

    def score(self, mean: Tensor, logvar: Tensor, noise: Tensor | None = None) -> Tensor:
        """Logits (B, K) of the mean, over the draws mean + deviation * noise, of the softmax over anchor distances.

        Distances need a draw's length and its dot products with anchors alone, so the draws themselves are never made.
        """
        anchors, binary = F.normalize(self.anchors, dim=-1), self.binary(mean)
        if not self.space.plain:
            owner = self.space.owner_of.to(mean.device)
            mean, logvar, noise = mean[:, owner], logvar[:, owner], None if noise is None else noise[:, :, owner]
        dots, length = torch.einsum("bke,kve->bkv", mean, anchors)[None], mean.square().sum(-1)[None]
        if noise is not None:
            sides = torch.cat([anchors.mT.expand(len(mean), -1, -1, -1), mean[..., None]], -1)  # (B, K, E, 3)
            along = torch.einsum("sbke,bkev->sbkv", noise, (0.5 * logvar).exp()[..., None] * sides)
            spread = torch.einsum("sbke,bke->sbk", noise.square(), logvar.exp())
            dots, length = dots + along[..., :2], length + 2 * along[..., 2] + spread
        gap = 1 + length[..., None] - 2 * dots  # (S, B, K, 2)
        absent, present = (gap.clamp(min=0) + EPS).sqrt().unbind(-1)
        return averaged(self.scale * (binary * absent - present), self.space)

    def told(self, vectors: Tensor, values: Tensor, given: Given | None, seen: Tensor | None = None) -> Tensor:
        """Vectors (..., B, M, E) with the anchors of what is given written in (where ``seen``, when that is not None)."""
        if given is None:
            return vectors
        off, on = F.normalize(self.anchors, dim=-1).unbind(1)  # (K, E)
        p = values[..., None]
        anchor = self.by_concept(p * on + (1 - p) * self.binary(values)[:, None] * off)  # (B, M, E)
        shown = self.touched(given)[..., None]
        return torch.where(shown if seen is None else shown & seen[..., None, None], anchor, vectors)

    def variance(self, z: Tensor, given: Given | None = None) -> Tensor:
        """(B, M, E) variance of each embedding; 0 where the concept is given."""
        var = self.moments(z)[1].exp()
        return var if given is None else var.masked_fill(self.touched(given)[..., None], 0.0)

    def uncertainty(self, z: Tensor, given: Given | None = None) -> Tensor:
        """(B, M) geometric mean of each concept's variances, above 0; 0 where it is given."""
        return self.variance(z, given).log().mean(-1).exp()

    def binary(self, like: Tensor) -> Tensor:
        """(K,) 1 on columns with an anchor for 'absent': all but the states of a categorical concept."""
        found = torch.ones(len(self.space)).to(like)
        for index in self.space.blocks:
            found[index.flatten().to(like.device)] = 0.0
        return found

    def by_concept(self, columns: Tensor) -> Tensor:
        """(B, K, E) over columns -> (B, M, E), summed over the states of a concept."""
        if self.space.plain:
            return columns
        total = columns.new_zeros((len(columns), self.space.count, columns.shape[-1]))
        return total.index_add(1, self.space.owner_of.to(columns.device), columns)

    def touched(self, given: Given) -> Tensor:
        """(B or 1, M) True where any state of a concept is given."""
        return self.by_concept(given.mask[..., None].float())[..., 0] > 0

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        concepts = self.space.owner_of[index].unique_consecutive()
        cells = (concepts[:, None] * self.width + torch.arange(self.width)).flatten()
        for part in (self.stem, self.norm):
            for name in ("weight", "bias"):
                old: nn.Parameter = getattr(part, name)
                setattr(part, name, nn.Parameter(old[cells], old.requires_grad))
        for name, at in (("maps", concepts), ("shifts", concepts), ("affine", concepts), ("anchors", index)):
            old = getattr(self, name)
            setattr(self, name, nn.Parameter(old[at], old.requires_grad))
        assert self.norm.running_mean is not None and self.norm.running_var is not None
        self.norm.running_mean, self.norm.running_var = self.norm.running_mean[cells], self.norm.running_var[cells]
        self.stem.out_features = self.norm.num_features = len(cells)
        self.noise, self.space = self.noise[:, :, concepts], space


def averaged(draws: Tensor, space: ConceptSpace) -> Tensor:
    """Logits of draws (S, B, K) -> logits (B, K) of their mean probability; a block's are log-probabilities."""
    if len(draws) == 1:
        return draws[0]
    logits = F.logsigmoid(draws).logsumexp(0) - F.logsigmoid(-draws).logsumexp(0)
    for index in space.blocks:
        index = index.to(draws.device)
        block = draws[..., index].log_softmax(-1).logsumexp(0) - math.log(len(draws))
        logits = logits.index_copy(-1, index.flatten(), block.flatten(-2))
    return logits


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL (nats) of N(mean, var) from a standard normal: summed over E, mean over rows and concepts."""
    return 0.5 * (logvar.exp() + mean.square() - 1 - logvar).sum(-1).mean()
