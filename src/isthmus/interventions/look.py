"""What a model answers under corrections, the features and the bottleneck computed once wherever that is exact.

Where a correction overwrites its own columns and nothing else (one pass, no posterior), the concepts under any corrections are
put together from those without any and those with every concept in a state; a head that adds up then needs no product at all.
Whether that is so is not declared but tried, on some rows and corrections; where it is not, the model itself answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.given import Given
from isthmus.heads.linear import LinearHead
from isthmus.model import ConceptModel, Concepts, Contributes, feedforward

TRIED, CLOSE = 12, 1e-4  # rows on which the short way is tried, and how near it must come (of the largest logit)
ROOM = 1 << 22  # numbers of a block of outcomes
ASKED = 128  # rows that the model itself answers at a time: draws of more do not fit the cache


class Look:
    """A fitted model on features z (B, D), on the model's device."""

    def __init__(self, model: ConceptModel, z: Tensor, composes: bool | None = None) -> None:
        self.model, self.z, self.space = model, z.to(model.device), model.space
        self.composes = composable(model, self.z) if composes is None else composes
        if self.composes:
            self.concepts = model.bottleneck(self.z)  # the head when it is asked for
        else:
            out = model.answer(self.z)
            self.concepts, self.__dict__["logits"] = out.concepts, out.logits
        self.adds = self.composes and isinstance(model.head, Contributes)

    @cached_property
    def logits(self) -> Tensor:
        """(B, Y) without corrections."""
        return self.model.head(self.concepts, self.z)

    @cached_property
    def read(self) -> Tensor:
        """(B, K) the concepts as a person reads them: probabilities, and numbers in their unit."""
        return self.model.bottleneck.read(self.concepts.values)

    @cached_property
    def states(self) -> Tensor:
        """(M, S, K) what each state of a concept writes into its columns; states past a concept's last repeat it."""
        if self.space.plain:
            return torch.stack([torch.zeros(len(self.space), len(self.space)), torch.eye(len(self.space))], 1).to(self.z)
        most = max((max(concept.width, 2) for concept in self.space.concepts), default=0)
        found = torch.zeros(self.space.count, most, len(self.space))
        for m, (concept, part) in enumerate(zip(self.space.concepts, self.space.slices, strict=True)):
            if concept.kind == "categorical":
                rows = torch.eye(concept.width)[[min(s, concept.width - 1) for s in range(most)]]
            else:
                low, high = (0.0, 1.0) if concept.kind == "binary" else ends(concept.low, concept.high, concept.center)
                rows = torch.tensor([low] + [high] * (most - 1))[:, None]
            found[m, :, part] = rows
        return found.to(self.z)

    def chances(self, read: Tensor | None = None) -> Tensor:
        """(B, M, S) how likely each state is, by what is read; a number shares itself between its low and high end."""
        values, parts = self.read if read is None else read, list[Tensor]()
        most = self.states.shape[1]
        for concept, part in zip(self.space.concepts, self.space.slices, strict=True):
            p = values[:, part]
            if concept.kind != "categorical":
                if concept.kind == "continuous":
                    low, high = ends(concept.low, concept.high, concept.center)
                    p = (p - low) / max(high - low, 1e-12)
                p = p.clamp(0, 1)
                p = torch.cat([1 - p, p], 1)
            parts.append(F.pad(p, (0, most - p.shape[1])))
        return torch.stack(parts, 1)

    def held(self, given: Given) -> Concepts:
        """The concepts (composed) when ``given`` is held."""
        mask, values = given.mask, given.values.to(self.concepts.values)
        written = self.model.bottleneck.value_of(Given(values, mask))
        found = torch.where(mask, written, self.concepts.values)
        if self.concepts.vectors is None:
            return Concepts(found, self.concepts.logits)
        off, on = self.poles
        inside = torch.lerp(off, on, values[..., None])
        return Concepts(found, self.concepts.logits, torch.where(mask[..., None], inside, self.concepts.vectors))

    @cached_property
    def poles(self) -> tuple[Tensor, Tensor]:
        """(B, K, E) each column's vector at 0 and at 1."""
        off = on = cast("Tensor", self.concepts.vectors)
        for s in range(self.states.shape[1]):
            values = self.states[:, s].sum(0, keepdim=True)
            vectors = cast("Tensor", self.model.bottleneck(self.z, everything(values)).vectors)
            at = values[0, :, None] > 0.5
            off, on = torch.where(at, off, vectors), torch.where(at, vectors, on)
        return off, on

    def answer(self, given: Given) -> Tensor:
        """(B, Y) logits when ``given`` is held."""
        if self.composes and whole(given, self.space.blocks):
            return self.model.head(self.held(given), self.z)
        return self.at(given)[1]

    def reads(self, given: Given | None) -> Tensor:
        """(B, K) what is read when ``given`` is held, without the head wherever it can be left out."""
        if given is None:
            return self.read
        if self.composes and whole(given, self.space.blocks):
            return self.model.bottleneck.read(self.held(given).values)
        return self.at(given)[0]

    def at(self, given: Given | None) -> tuple[Tensor, Tensor]:
        """What is read (B, K), and the logits (B, Y), when ``given`` is held."""
        if given is None:
            return self.read, self.logits
        read = self.model.bottleneck.read
        if self.composes and whole(given, self.space.blocks):
            held = self.held(given)
            return read(held.values), self.model.head(held, self.z)
        outs = [
            self.model.answer(self.z[index], given.rows(index))
            for index in torch.arange(len(self.z), device=self.z.device).split(ASKED)
        ]
        return read(torch.cat([out.concepts.values for out in outs])), torch.cat([out.logits for out in outs])

    def told(self, given: Given, labels: Tensor, units: Tensor) -> Tensor:
        """(B, U, Y) logits when, beside what is given, the labels (B, K) of one unit's concepts are told; units (U, M) bool."""
        columns = self.space.widen(units.to(self.z.device)) & ~labels.isnan()[:, None]  # (B, U, K)
        values = torch.where(given.mask, given.values, labels.nan_to_num())
        if self.adds and whole(given, self.space.blocks):
            now = self.shares(self.held(given))
            truth = Given(labels.nan_to_num(), (~labels.isnan()) | given.mask)
            moved = self.shares(self.held(Given(values, truth.mask))) - now  # 0 where a label is unknown
            known = self.space.narrow(~labels.isnan()).to(moved)
            inside = units.to(moved)[None] * known[:, None]
            return self.model.head(self.held(given), self.z)[:, None] + inside @ moved
        found = [self.answer(Given(values, given.mask | columns[:, u])) for u in range(len(units))]
        return torch.stack(found, 1)

    def outcomes(self, given: Given | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Rows by blocks, with (b, M, S, Y) logits when, beside what is given, one concept is in one state."""
        if given is None and not self.composes:
            yield from self.first
            return
        yield from self._outcomes(nothing(self.z, len(self.space)) if given is None else given)

    @cached_property
    def first(self) -> list[tuple[slice, Tensor]]:
        """``outcomes`` when nothing is given, kept: where each is a whole inference, policies share them."""
        return list(self._outcomes(nothing(self.z, len(self.space))))

    def _outcomes(self, given: Given) -> Iterator[tuple[slice, Tensor]]:
        m, s, _ = self.states.shape
        size = max(1, ROOM // max(1, m * s * self.logits.shape[1]))
        added = self._added(given) if self.adds else None
        for first in range(0, len(self.z), size):
            rows = slice(first, min(first + size, len(self.z)))
            if added is None:
                yield rows, self._tried(rows, given)
                continue
            base, now, each = added
            yield rows, (base[rows, None] - now[rows])[:, :, None] + each[rows]

    def _added(self, given: Given) -> tuple[Tensor, Tensor, Lazy]:
        """Logits (B, Y), each concept's share (B, M, Y), and what its share is in each state, by rows."""
        held = self.held(given)
        share = self.shares(held)
        return self.model.head(held, self.z), share, Lazy(self)

    def shares(self, concepts: Concepts) -> Tensor:
        """(B, M, Y) of the head's contributions."""
        every = cast("Contributes", self.model.head).contributions(concepts).mT  # (B, K, Y)
        if self.space.plain:
            return every
        found = every.new_zeros(len(every), self.space.count, every.shape[2])
        return found.index_add_(1, self.space.owner_of.to(every.device), every)

    def _tried(self, rows: slice, given: Given) -> Tensor:
        """(b, M, S, Y) by asking the head (or the model) anew for every state that there is."""
        most, k = self.states.shape[1:]
        z, part = self.z[rows], given.rows(torch.arange(len(self.z), device=self.z.device)[rows])
        sizes = torch.tensor([max(concept.width, 2) for concept in self.space.concepts], device=z.device)
        real = torch.arange(most, device=z.device) < sizes[:, None]  # (M, S)
        own, states = self.own[:, None].expand(-1, most, -1)[real], self.states[real]  # (states that there are, K)
        mask = part.mask.expand(len(z), -1)[:, None] | own
        values = torch.where(own, states, part.values.expand(len(z), -1)[:, None])
        index = torch.arange(len(z), device=z.device).repeat_interleave(len(states))
        found = self.rows(rows, index).answer(Given(values.reshape(-1, k), mask.reshape(-1, k))).view(len(z), len(states), -1)
        return found[:, (real.flatten().cumsum(0) - 1).view_as(real)]  # past a concept's last state, that one again

    def rows(self, rows: slice, index: Tensor | None = None) -> Look:
        """The same look at some of its rows, at ``index`` among them (repeated or not), nothing computed again."""
        found = object.__new__(Look)
        found.model, found.space, found.composes, found.adds = self.model, self.space, self.composes, self.adds
        at = rows if index is None else torch.arange(len(self.z), device=self.z.device)[rows][index]
        found.z = self.z[at]
        if "logits" in self.__dict__:
            found.__dict__["logits"] = self.logits[at]
        pick = lambda t: None if t is None else t[at]  # noqa: E731
        c = self.concepts
        found.concepts = Concepts(c.values[at], pick(c.logits), pick(c.vectors))
        if self.composes and c.vectors is not None:
            off, on = self.poles
            found.__dict__["poles"] = (off[at], on[at])
        return found

    @cached_property
    def own(self) -> Tensor:
        """(M, K) True on a concept's own columns."""
        return F.one_hot(self.space.owner_of, self.space.count).T.bool().to(self.z.device)


class Lazy:
    """Shares (b, M, S, Y) of each concept in each state, by rows: a small head's are computed anew for each block."""

    def __init__(self, look: Look) -> None:
        self.look, self.every = look, list[Concepts]()
        for s in range(look.states.shape[1]):
            self.every.append(look.held(everything(look.states[:, s].sum(0, keepdim=True).expand(len(look.z), -1))))

    def __getitem__(self, rows: slice) -> Tensor:
        parts = [Concepts(c.values[rows], None, None if c.vectors is None else c.vectors[rows]) for c in self.every]
        return torch.stack([self.look.shares(part) for part in parts], 2)


def linear(model: ConceptModel) -> LinearHead | None:
    """The head, if it is a linear map of binary concepts' values to classes: what the fast curves are made for."""
    fits = isinstance(model.head, LinearHead) and model.space.plain and model.task.kind == "classes"
    return cast("LinearHead", model.head) if fits else None


@torch.no_grad()
def composable(model: ConceptModel, z: Tensor) -> bool:
    """Does overwriting a correction's own columns give what the model answers? Tried on a few rows with random corrections."""
    z = z[:TRIED].to(model.device)
    if model.solver is not feedforward or not len(model.space) or not len(z):
        return False
    look, draw = Look(model, z, composes=True), torch.Generator().manual_seed(0)
    for share in (0.3, 0.8):
        chosen = torch.rand(len(z), model.space.count, generator=draw) < share
        state = torch.randint(look.states.shape[1], (len(z), model.space.count), generator=draw)
        values = look.states.cpu()[torch.arange(model.space.count), state].sum(1)
        given = Given(values.to(look.z), model.space.widen(chosen).to(look.z.device))
        try:
            short, full = model.head(look.held(given), look.z), model.answer(look.z, given).logits
        except (RuntimeError, AttributeError, TypeError, AssertionError):
            return False  # a head that reads what was not put together
        if float((short - full).abs().max()) > CLOSE * max(1.0, float(full.abs().max())):
            return False
    return True


def ends(low: float | None, high: float | None, center: float) -> tuple[float, float]:
    """A number's 5th and 95th percentile in training, or a unit about its center."""
    return (center - 0.5 if low is None else low, center + 0.5 if high is None else high)


def nothing(z: Tensor, k: int) -> Given:
    """No correction."""
    return Given(z.new_zeros(1, k), torch.zeros(1, k, dtype=torch.bool, device=z.device))


def everything(values: Tensor) -> Given:
    """All columns held at ``values``."""
    return Given(values, torch.ones_like(values, dtype=torch.bool))


def whole(given: Given, blocks: tuple[Tensor, ...]) -> bool:
    """Are blocks of states given as a whole or not at all?"""
    for index in blocks:
        inside = given.mask[..., index.to(given.mask.device)]
        if bool((inside.any(-1) != inside.all(-1)).any()):
            return False
    return True
