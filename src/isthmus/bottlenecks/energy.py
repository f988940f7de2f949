"""An energy for each state of each concept, read from the features; all concepts together make one vector for the class.

Xu et al. 2024, Energy-Based Concept Bottleneck Models, ICLR, section 3.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.given import Given, hold
from isthmus.model import Bottleneck, Concepts
from isthmus.space import ConceptSpace


class EnergyBottleneck(Bottleneck):
    """E(x, c_k = v) = w_k . relu(u + u * e_kv), with u = W x and a unit embedding e of every state: 0 absent, 1 present.

    A unit vector is nowhere below -1, so relu(u + u * e) = relu(u) * (1 + e): each energy is a dot product. A categorical
    concept has one embedding for each state ('present' alone). ``vectors`` (B, 1, H) is P [e_1; ...; e_M] of the states
    (not normalised here), mixed by ``values``: what the head's energy of concepts and class reads. Biases of the energies
    cancel in every softmax and are left out.

    While it learns, a share ``flipped`` of the rows it is given is wrong in that share of the concepts (one choice of concepts
    for a batch), as in the authors' code. A concept that is not given enters as predicted, without gradient.
    """

    def __init__(self, dim: int, space: ConceptSpace, width: int = 512, dropout: float = 0.2, flipped: float = 0.2) -> None:
        super().__init__(space)
        m, edge = space.count, 1 / math.sqrt(width)
        self.project, self.drop = nn.Linear(dim, width), nn.Dropout(dropout)
        self.states = nn.Parameter(torch.randn(len(space), 2, width))  # absent, present
        self.readout = nn.Parameter(torch.empty(m, width).uniform_(-edge, edge))
        self.mix = nn.Parameter(torch.empty(m, width, width).uniform_(-edge, edge) / math.sqrt(max(m, 1)))
        self.shift = nn.Parameter(torch.zeros(width))
        self.flipped = flipped

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        logits = self.logits(z)
        if self.training and given is not None:
            given = flip(given, self.space, self.flipped, len(z))
        free = self.space.activate(logits.detach() if self.training else logits)
        values = hold(free, given, self.space)
        return Concepts(values, logits, self.together(values, *self.table())[:, None])

    def energies(self, z: Tensor) -> Tensor:
        """(B, K, 2) E(x, c_k absent) and E(x, c_k present); the first means nothing on a categorical state's column."""
        level, pull = self.parts(z)
        return level[..., None] + pull

    def parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Energies as (B, K) w . relu(u), which all states of a concept share, and (B, K, 2) w . (relu(u) * e)."""
        u, w = self.drop(self.project(z)).relu(), self.by_column(self.readout)
        return u @ w.T, torch.einsum("bh,kvh->bkv", u, w[:, None] * F.normalize(self.states, dim=-1))

    def logits(self, z: Tensor) -> Tensor:
        """(B, K) logits of p(c | x), the softmax over minus the energies of a concept's states."""
        absent, present = self.parts(z)[1].unbind(-1)
        return self.binary() * absent - present

    def table(self) -> tuple[Tensor, Tensor]:
        """(K, H) what a column's value adds to the vector of all concepts, and (H,) the vector where every value is 0."""
        absent, present = self.mixed().unbind(1)
        absent = absent * self.binary()[:, None]
        return present - absent, absent.sum(0) + self.shift

    def mixed(self) -> Tensor:
        """(K, 2, H) P_k e_kv: what each state adds to the vector of all concepts, its concept's part of P read once."""
        if self.space.plain:
            return self.states @ self.mix
        place, back = self.places(self.mix.device)
        padded = torch.cat([self.states, self.states.new_zeros(1, *self.states.shape[1:])]).index_select(0, place.flatten())
        found = padded.view(len(place), -1, self.mix.shape[1]) @ self.mix
        return found.view(-1, *self.states.shape[1:]).index_select(0, back)

    def places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(M, most states) columns of each concept, K where it has fewer; (K,) where a column stands among these."""
        widths = torch.tensor([concept.width for concept in self.space.concepts])
        within = torch.arange(len(self.space)) - torch.tensor([part.start for part in self.space.slices])[self.space.owner_of]
        place = torch.full((self.space.count, int(widths.max())), len(self.space))
        place[self.space.owner_of, within] = torch.arange(len(self.space))
        return place.to(device), (self.space.owner_of * place.shape[1] + within).to(device)

    def together(self, values: Tensor, table: Tensor, base: Tensor) -> Tensor:
        """Values (B, K) -> (B, H) the vector of all concepts, linear in values."""
        return values @ table + base

    def apart(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Values (B, K), each concept's taken from rows in an order of its own: the same rates, and nothing goes together."""
        draw = torch.rand(len(values), self.space.count, generator=generator)
        return values.gather(0, draw.argsort(0)[:, self.space.owner_of].to(values.device))

    def overlaps(self) -> tuple[Tensor, Tensor]:
        """Dot products of a concept's unit embeddings: (K, K) of present ones, within a concept; (K,) absent and present."""
        absent, present = F.normalize(self.states, dim=-1).unbind(1)
        owner = self.space.owner_of.to(present.device)
        return (present @ present.T) * (owner[:, None] == owner), (absent * present).sum(-1) * self.binary()

    def binary(self) -> Tensor:
        """(K,) 1 on columns with an 'absent' of their own: all but the states of a categorical concept."""
        found = torch.ones(len(self.space)).to(self.states)
        for index in self.space.blocks:
            found[index.flatten().to(found.device)] = 0.0
        return found

    def by_column(self, concepts: Tensor) -> Tensor:
        """(M, ...) of concepts -> (K, ...) of columns."""
        if self.space.plain:
            return concepts
        return concepts.index_select(0, self.space.owner_of.to(concepts.device))  # indexing adds up gradients in any order

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        concepts = self.space.owner_of[index].unique_consecutive()
        for name, at in (("states", index), ("readout", concepts), ("mix", concepts)):
            old: nn.Parameter = getattr(self, name)
            setattr(self, name, nn.Parameter(old[at], old.requires_grad))
        self.space = space


def flip(given: Given, space: ConceptSpace, share: float, rows: int) -> Given:
    """Wrong values for ceil(share * rows) rows, in ceil(share * M) concepts that they have in common.

    Binary: the opposite. Categorical: another state, any with the same chance.
    """
    chosen = torch.zeros(rows, space.count, dtype=torch.bool)
    some, ids = (torch.randperm(n)[: math.ceil(share * n)] for n in (rows, space.count))
    chosen[some[:, None], ids] = True
    values = given.values.expand(rows, -1)
    wrong = 1 - values
    for index in (each.to(values.device) for each in space.blocks):
        states = index.shape[1]
        step = torch.randint(1, states, (rows, len(index), 1)).to(values.device)
        turned = (torch.arange(states, device=values.device) + step) % states  # (B, blocks, S)
        wrong = wrong.index_copy(-1, index.flatten(), values[:, index].gather(-1, turned).flatten(-2))
    return Given(torch.where(space.widen(chosen).to(values.device), wrong, values), given.mask)
