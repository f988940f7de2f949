"""Hard concepts predicted one after another, each from the features and the ones before it.

Havasi, Parbhoo, Doshi-Velez 2022, Addressing Leakage in Concept Bottleneck Models, NeurIPS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.draws import Sampled
from isthmus.errors import DataError
from isthmus.given import Given, hold
from isthmus.model import Bottleneck
from isthmus.space import ConceptSpace


class AutoregressiveBottleneck(Bottleneck):
    """z (B, D) -> p(c_1 | z) p(c_2 | z, c_1) ...: one hidden layer of ``hidden`` units for each concept.

    Inference weighs assignments of the concepts: all of them where the space has at most ``exact``, else ``draws`` drawn in
    order with one stored bank of uniform numbers shared by all rows. What is given is written into each assignment and
    weighs it by its likelihood there, so that a correction also moves the concepts before it.

    ``values`` are posterior means. ``logits`` are of each concept given the *earlier* given ones alone, so that their
    likelihoods multiply to that of all that is given: with every label given, teacher forcing. In training one fresh
    assignment is drawn. The order is that of the space at building; ``keep`` carries it along.
    """

    rank: Tensor
    uniform: Tensor

    def __init__(self, dim: int, space: ConceptSpace, hidden: int = 50, *, draws: int = 200, exact: int = 256) -> None:
        super().__init__(space)
        m, k = space.count, len(space)
        self.features = nn.Linear(dim, m * hidden)
        self.earlier = nn.Parameter(torch.empty(m, hidden, k).uniform_(-1, 1) / math.sqrt(k))
        self.weight = nn.Parameter(torch.empty(k, hidden).uniform_(-1, 1) / math.sqrt(hidden))
        self.bias = nn.Parameter(torch.zeros(k))
        self.hidden, self.exact = hidden, exact
        self.register_buffer("rank", torch.arange(m))
        self.register_buffer("uniform", torch.rand(draws, k))

    def forward(self, z: Tensor, given: Given | None = None) -> Sampled:
        space, shape = self.space, (len(z), len(self.space))
        mask = torch.zeros(shape, dtype=torch.bool, device=z.device) if given is None else given.mask.expand(shape)
        wanted = z.new_zeros(shape) if given is None else given.values.to(z).expand(shape)
        states = None if self.training or bool(mask.all()) else self.assignments(z.device)
        count = len(states) if states is not None else 1 if self.training or bool(mask.all()) else len(self.uniform)
        uniform = torch.rand(1, len(z), shape[1], device=z.device) if self.training else self.uniform[:count, None]
        hidden = self.features(z).unflatten(-1, (space.count, self.hidden))  # (B, M, H)
        c = z.new_zeros(count, *shape)
        weight, logits, chance = z.new_zeros(count, len(z)), [Tensor()] * space.count, [Tensor()] * space.count
        for m in self.rank.argsort().tolist():
            part = space.slices[m]
            own = self.conditional(m, hidden[:, m], c)
            step = Step(own, mask[:, part], wanted[:, part], space, m)
            logits[m], chance[m] = step.predicted(weight), step.probability
            state = step.draw(uniform[..., part]) if states is None else states[:, None, part].expand(own.shape)
            weight = weight + step.evidence + (0.0 if states is None else step.log_chance(state))
            if torch.is_grad_enabled():
                c = torch.cat([c[..., : part.start], step.held(state), c[..., part.stop :]], -1)
            else:
                c[..., part] = step.held(state)
        share = weight.softmax(0).detach()
        touched = space.narrow(mask)
        last = torch.where(touched, self.rank, -1).amax(1, keepdim=True) if space.count else touched.long()
        # after the last thing given, the mean of the conditional probabilities: the same mean, less noise
        smooth = space.widen(self.rank > last)[None].to(c.device)
        values = (share[..., None] * torch.where(smooth, torch.cat(chance, -1), c)).sum(0)
        return Sampled(hold(values, given, space), torch.cat(logits, -1), samples=c, share=share)

    def conditional(self, m: int, hidden: Tensor, c: Tensor) -> Tensor:
        """(S, B, states) logits of concept m, from its features (B, H) and assignments c (S, B, K) of the earlier ones."""
        before = self.space.widen(self.rank < self.rank[m])
        last = int(before.nonzero().max()) + 1 if bool(before.any()) else 0
        read = c if "continuous" not in self.space.kinds else self.space.standardised(c)
        h = F.relu(hidden + read[..., :last] @ (self.earlier[m] * before)[:, :last].T)
        part = self.space.slices[m]
        return h @ self.weight[part].T + self.bias[part]

    def assignments(self, device: torch.device) -> Tensor | None:
        """(S, K) every joint state of the concepts, where there are at most ``exact``; None where there are more."""
        sizes = [max(concept.width, 2) for concept in self.space.concepts]
        if "continuous" in self.space.kinds or math.prod(sizes) > self.exact:
            return None
        codes = torch.cartesian_prod(*(torch.arange(size) for size in sizes)).reshape(-1, len(sizes))
        return self.space.encode(codes.float()).to(device)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        """Reorder, or drop concepts that no kept one is predicted from; the order of prediction stays."""
        old, learns = self.space, self.bias.requires_grad
        rows = torch.tensor([old.names.index(name) for name in space.names], dtype=torch.long)
        gone = sorted(set(range(old.count)) - set(rows.tolist()), key=lambda m: int(self.rank[m]))
        if gone and len(rows) and int(self.rank[gone[0]]) < int(self.rank[rows].max()):
            last = old.names[int(rows[self.rank[rows].argmax()])]
            raise DataError(f"keep: {last!r} is predicted from {old.names[gone[0]]!r}, which cannot be dropped before it")
        for name in ("weight", "bias"):
            kept = getattr(self.features, name).unflatten(0, (-1, self.hidden))[rows].flatten(0, 1)
            setattr(self.features, name, nn.Parameter(kept, learns))
        self.features.out_features = len(rows) * self.hidden
        self.earlier = nn.Parameter(self.earlier[rows][:, :, index], learns)
        self.weight, self.bias = nn.Parameter(self.weight[index], learns), nn.Parameter(self.bias[index], learns)
        self.rank, self.uniform, self.space = self.rank[rows].argsort().argsort(), self.uniform[:, index], space


@dataclass
class Step:
    """One concept on its way: logits (S, B, states), and which of its columns are given, mask and wanted (B, states)."""

    logits: Tensor
    mask: Tensor
    wanted: Tensor
    space: ConceptSpace
    m: int

    def __post_init__(self) -> None:
        concept, logits = self.space.concepts[self.m], self.logits
        self.kind, self.whole = concept.kind, self.mask.all(-1, keepdim=True)
        if self.kind == "binary":
            self.on, self.off = F.logsigmoid(logits), F.logsigmoid(-logits)
        elif self.kind == "categorical":
            self.on = logits.log_softmax(-1)
        else:
            self.center, self.scale = concept.center, concept.scale

    @property
    def probability(self) -> Tensor:
        """(S, B, states) in concept units: probabilities, or the number expected."""
        return self.logits * self.scale + self.center if self.kind == "continuous" else self.on.exp()

    @property
    def proposal(self) -> Tensor:
        """(S, B, states) log-probabilities of a block's states, those given at theirs, the others sharing what is left."""
        p, fixed = self.on.exp(), self.mask.expand(self.on.shape)
        left = (1 - (self.wanted * self.mask).sum(-1, keepdim=True)).clamp(min=0)
        free = p.masked_fill(fixed, 0.0)
        shared = left * free / free.sum(-1, keepdim=True).clamp(min=1e-30)
        return torch.where(fixed, self.wanted.expand(p.shape), shared).clamp(min=1e-30).log()

    @property
    def evidence(self) -> Tensor:
        """(S, B) log-likelihood of what is given of this concept: 0 where nothing is."""
        v, mask = self.wanted, self.mask
        if self.kind == "continuous":
            return (-0.5 * (self.logits - (v - self.center) / self.scale).square() * mask).sum(-1)
        if self.kind == "binary":
            return ((v * self.on + (1 - v) * self.off) * mask).sum(-1)
        rest = (1 - (self.on.exp() * mask).sum(-1)).clamp(min=1e-30).log()
        left = (1 - (v * mask).sum(-1)).clamp(min=0) * (mask.any(-1) & ~self.whole.squeeze(-1))
        return (v * self.on * mask).sum(-1) + left * rest

    def log_chance(self, state: Tensor) -> Tensor:
        """(S, B) log-probability of an enumerated state, 0 where the concept is given as a whole."""
        each = state * self.on + (1 - state) * self.off if self.kind == "binary" else state * self.proposal
        return torch.where(self.whole, 0.0, each.sum(-1, keepdim=True)).squeeze(-1)

    def draw(self, u: Tensor) -> Tensor:
        """(S, B, states) drawn with uniform numbers u."""
        u = u.clamp(1e-7, 1 - 1e-7)
        if self.kind == "binary":
            return (self.logits.detach() + u.logit() > 0).to(self.logits)
        if self.kind == "continuous":
            return (self.logits.detach() + torch.special.ndtri(u)) * self.scale + self.center
        raced = self.proposal.detach() - (-u.log()).log()
        return F.one_hot(raced.argmax(-1), raced.shape[-1]).to(raced)

    def held(self, state: Tensor) -> Tensor:
        """The state, or what is given where the concept is given as a whole."""
        return torch.where(self.whole, self.wanted, state)

    def predicted(self, weight: Tensor) -> Tensor:
        """(B, states) logits of the mean probability over assignments with log-weights (S, B)."""
        if len(weight) == 1:
            return self.logits[0]
        share = weight.detach().log_softmax(0)[..., None]
        if self.kind == "continuous":
            return (share.exp() * self.logits).sum(0)
        on = (share + self.on).logsumexp(0)
        return on - (share + self.off).logsumexp(0) if self.kind == "binary" else on
