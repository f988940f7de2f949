"""A joint normal over the concepts' logits: a correction moves every concept that goes along with the corrected one.

Vandenhirtz, Laguna, Marcinkevics, Vogt 2024, Stochastic Concept Bottleneck Models, NeurIPS, and their code (mvandenhi/SCBM).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.draws import Sampled, sample
from isthmus.errors import OptionError
from isthmus.given import Given, hold
from isthmus.model import Bottleneck
from isthmus.numerics.conditioning import Evidence, conditioned, mean_sigmoid, posterior_mode, region_point
from isthmus.space import ConceptSpace

Covariance = Literal["amortised", "global"]
Conditioning = Literal["mode", "region"]


class CorrelatedBottleneck(Bottleneck):
    """z (B, D) -> logits ~ normal(mean, factor factor'), values = marginal probabilities, samples for the head.

    ``covariance``: one factor for all rows ('global') or one read from z ('amortised'). ``conditioning``: what a
    correction does to the other logits. 'mode' moves them to the mode of their posterior given the corrected *labels*,
    with the curvature there as covariance (Laplace); 'region' (binary concepts) puts the corrected logits at the likeliest
    point of the confidence region at ``level``, on the label's side, and conditions the normal on them.

    Values: the mean probability under that normal, in closed form for a binary concept, over the stored draws for a block;
    a number is its mean. Evaluation draws with one stored noise bank, shared by all rows; training draws afresh.
    """

    lower: Tensor
    diagonal: Tensor
    noise: Tensor
    uniform: Tensor

    def __init__(
        self, dim: int, space: ConceptSpace, *, covariance: Covariance = "amortised", conditioning: Conditioning = "mode",
        draws: int = 100, level: float = 0.99, precision: float = 1.0, temperature: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__(space)
        if conditioning == "region" and not space.plain:
            raise OptionError("conditioning 'region' is defined for binary concepts only; use 'mode'")
        if conditioning == "region" and not 0 < level < 1:
            raise OptionError(f"level: expected a share above 0 and below 1 for a confidence region, got {level:g}; use .99")
        self.covariance, self.conditioning, self.level = covariance, conditioning, level
        self.precision, self.temperature = precision, temperature
        k = len(space)
        self.mean = nn.Linear(dim, k)
        self.register_buffer("lower", torch.ones(k, k, dtype=torch.bool).tril(-1))
        self.register_buffer("diagonal", torch.eye(k, dtype=torch.bool))
        self.register_buffer("noise", torch.randn(draws, k))
        self.register_buffer("uniform", torch.rand(draws, k))
        if covariance == "global":
            self.raw = nn.Parameter(torch.zeros(k, k))
        else:
            self.spread = nn.Linear(dim, k * k)
            self.spread.weight.data *= 0.01  # as the authors' code: a precision that starts near the identity
        self.register_load_state_dict_pre_hook(_fit_saved)

    def factor(self, z: Tensor) -> Tensor:
        """(B, K, R), or (1, K, R) when global: a root of the covariance, lower triangular while in its first order."""
        raw = self.raw[None] if self.covariance == "global" else self.spread(z).unflatten(-1, self.lower.shape)
        return raw * self.lower + (F.softplus(raw) + 1e-6) * self.diagonal

    def forward(self, z: Tensor, given: Given | None = None) -> Sampled:
        mean, factor = self.mean(z), self.factor(z)
        told = given is not None and bool(given.mask.any())
        moves = given is not None and told and (self.training or not bool(given.mask.all()))  # else nothing is left to move
        center, spread = self.condition(mean, factor, given) if moves else (mean, factor)
        noise = torch.randn_like(self.noise) if self.training else self.noise
        draws = center + (noise @ spread.mT).transpose(0, 1)  # (S, B, K), also from (1, S, K)
        values = mean_sigmoid(center, spread.norm(dim=-1)) if "binary" in self.space.kinds else torch.zeros_like(center)
        for index in (each.to(z.device) for each in self.space.blocks):
            values = values.index_copy(1, index.flatten(), draws[..., index].softmax(-1).mean(0).flatten(1))
        values = torch.where(self.space.continuous.to(z.device), self.space.activate(center), values)
        uniform = torch.rand(len(draws), len(z), draws.shape[-1], device=z.device) if self.training else self.uniform[:, None]
        samples = sample(draws, uniform, self.space, self.temperature if self.training else None)
        held = (hold(values, given, self.space), hold(samples, given, self.space)) if told else (values, samples)
        penalties = {"precision": self.precision * sparsity(factor)} if self.training and self.precision else {}
        return Sampled(held[0], center, draws=draws, samples=held[1], penalties=penalties)

    def condition(self, mean: Tensor, factor: Tensor, given: Given | None) -> tuple[Tensor, Tensor]:
        """Mean (B, K) and root of the covariance (B, K, R) of the logits, given what is known; solved in double."""
        assert given is not None
        known = self.evidence(mean, given)
        m, f = mean.double(), factor.double().expand(len(mean), -1, -1)
        if self.conditioning == "mode":
            moved = posterior_mode(m, f, known)
        else:
            with torch.no_grad():
                point = region_point(m.detach(), f.detach(), known, self.level)
            moved = conditioned(f, known, point - m)
        center, spread = moved.of(m, f)
        return center.to(mean), spread.to(mean)

    def evidence(self, mean: Tensor, given: Given) -> Evidence:
        """Corrections as labels; a block counts once its states are told: all of them, or those that share the whole.

        What one excluded state says is no log-concave likelihood: it is held, and moves no other concept.
        """
        space, mask = self.space, given.mask.expand(mean.shape)
        target = hold(space.activate(mean.detach()), given, space)
        told = torch.where(mask, given.values.to(mean).expand(mean.shape), 0.0)
        whole = mask.clone()
        for index in (each.to(mean.device) for each in space.blocks):
            known = mask[:, index].all(-1) | (told[:, index].sum(-1) > 1 - 1e-6)
            whole = whole.index_copy(1, index.flatten(), known[..., None].expand(-1, -1, index.shape[1]).flatten(1))
        numbers, owner = space.continuous.to(mean.device), None
        if space.blocks:
            owner = torch.full((len(space),), -1)
            for number, block in enumerate(each for index in space.blocks for each in index):
                owner[block] = number
            owner = owner.to(mean.device)
        return Evidence(space.standardised(target).double(), whole, numbers, owner)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        """Dropped concepts are integrated out: their logits leave, the noise they share with the others stays."""
        learns, rank = self.mean.weight.requires_grad, self.lower.shape[1]
        self.mean.weight = nn.Parameter(self.mean.weight[index], learns)
        self.mean.bias = nn.Parameter(self.mean.bias[index], learns)
        self.mean.out_features = len(index)
        if self.covariance == "global":
            self.raw = nn.Parameter(self.raw[index], learns)
        else:
            for name in ("weight", "bias"):
                rows = getattr(self.spread, name).unflatten(0, (-1, rank))[index].flatten(0, 1)
                setattr(self.spread, name, nn.Parameter(rows, learns))
            self.spread.out_features = len(index) * rank
        self.lower, self.diagonal, self.uniform = self.lower[index], self.diagonal[index], self.uniform[:, index]
        self.space = space

    def grow(self, rank: int) -> None:
        """Make room for ``rank`` columns of noise: a model that dropped concepts keeps those of before."""
        k = len(self.space)
        self.noise = self.noise.new_zeros(len(self.noise), rank)
        self.lower, self.diagonal = (self.lower.new_zeros(k, rank) for _ in range(2))
        if self.covariance == "global":
            self.raw = nn.Parameter(self.raw.new_zeros(k, rank))
        else:
            self.spread = nn.Linear(self.mean.in_features, k * rank)


def _fit_saved(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Before weights are loaded: take on the size they were saved with."""
    assert isinstance(module, CorrelatedBottleneck)
    noise = state.get(prefix + "noise")
    if noise is not None and noise.shape[1] != module.noise.shape[1]:
        module.grow(noise.shape[1])


def sparsity(factor: Tensor) -> Tensor:
    """Mean size of the precision matrix's entries off the diagonal (the authors' code): partial correlations cost."""
    k = factor.shape[1]
    if k == 1:
        return factor.new_zeros(())
    if factor.shape[1] == factor.shape[2]:
        one = torch.eye(k, dtype=factor.dtype, device=factor.device)
        ordered = bool((factor.triu(1) == 0).all())  # else pivots of steep factors cancel to zero
        inverse = torch.linalg.solve_triangular(factor, one, upper=False) if ordered else torch.linalg.inv(factor)
        precision = inverse.mT @ inverse
    else:
        precision = torch.linalg.inv(factor @ factor.mT)
    size = precision.abs()
    return ((size.sum((1, 2)) - size.diagonal(dim1=1, dim2=2).sum(1)) / (k * (k - 1))).mean()
