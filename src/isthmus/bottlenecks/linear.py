"""One linear score for each concept column, read as a probability, a hard decision, or a logit.

Koh et al. 2020, Concept Bottleneck Models, section 3.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.given import Batch, Given, hold
from isthmus.model import Bottleneck, Concepts
from isthmus.space import ConceptSpace

Reading = Literal["soft", "hard", "logit"]


class LinearBottleneck(Bottleneck):
    """z (B, D) -> logits (B, K) -> values: 'soft' probabilities, 'hard' decisions (straight-through), or 'logit'.

    Continuous concepts are numbers in their own unit under each. A correction of a 'logit' bottleneck writes the 5th
    or 95th percentile of the *training* logits, which ``fit`` reads off (the authors' code took them from test rows).
    """

    low: Tensor
    high: Tensor

    def __init__(self, dim: int, space: ConceptSpace, reading: Reading = "soft") -> None:
        super().__init__(space)
        self.score = nn.Linear(dim, len(space))
        self.reading = reading
        self.register_buffer("low", torch.full((len(space),), -5.0))
        self.register_buffer("high", torch.full((len(space),), 5.0))

    def forward(self, z: Tensor, given: Given | None = None) -> Concepts:
        logits = self.score(z)
        values = self.space.activate(logits)
        if self.reading == "hard":
            decided = harden(values, self.space)
            values = decided + (values - values.detach()) if self.training else decided
        elif self.reading == "logit":
            values = torch.where(self.space.continuous.to(z.device), values, logits)
        written = None if given is None or self.reading != "logit" else self.value_of(given)
        return Concepts(hold(values, given, self.space, written), logits)

    def value_of(self, given: Given) -> Tensor:
        if self.reading != "logit":
            return given.values
        spread = torch.lerp(self.low, self.high, given.values.to(self.low))
        return torch.where(self.space.continuous.to(spread.device), given.values.to(spread), spread)

    def read(self, values: Tensor) -> Tensor:
        plain = self.space.continuous.to(values.device)
        return torch.where(plain, values, self.space.activate(values)) if self.reading == "logit" else values

    def fit(self, z: Tensor, batch: Batch) -> None:
        """Read the 5th and 95th percentile of each column's training logits."""
        logits = self.score(z.to(self.low.device))
        for q, buffer in ((0.05, self.low), (0.95, self.high)):
            buffer.copy_(torch.stack([column.quantile(q) for column in logits.T]))

    def calibrate(self, z: Tensor, batch: Batch) -> None:
        """Platt scaling (1999): the scale and shift of each column's logits with the least loss on these rows.

        Against his smoothed targets, (n + 1) / (n + 2) for n rows of one label, so that separable rows stay finite.
        """
        logits = self.score(z.to(self.low.device)).detach()
        c = smoothed(batch.labels(), self.space, batch.known)
        scale, shift = (torch.full_like(self.low, start, requires_grad=True) for start in (1.0, 0.0))
        optimizer = torch.optim.LBFGS([scale, shift], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = Concepts(logits, logits * scale + shift).nll(c, self.space, known=batch.known)
            value.backward()
            return value

        with torch.enable_grad():
            optimizer.step(loss)
        self.score.weight.mul_(scale[:, None])
        self.score.bias.mul_(scale).add_(shift)

    def keep(self, index: Tensor, space: ConceptSpace) -> None:
        self.score.weight = nn.Parameter(self.score.weight[index], self.score.weight.requires_grad)
        self.score.bias = nn.Parameter(self.score.bias[index], self.score.bias.requires_grad)
        self.score.out_features = len(index)
        self.low, self.high, self.space = self.low[index], self.high[index], space


def smoothed(c: Tensor, space: ConceptSpace, known: Tensor | None = None) -> Tensor:
    """Labels c (B, K) as Platt's targets, a block of S states by (n + 1) / (n + S); numbers stay."""
    seen = torch.ones_like(c) if known is None else known.to(c)
    n, rest = (seen * c).sum(0), (seen * (1 - c)).sum(0)
    soft = c * (n + 1) / (n + 2) + (1 - c) / (rest + 2)
    for index in space.blocks:
        index, states = index.to(c.device), index.shape[1]
        block = c[:, index] / (n[index] + states)  # (B, blocks, S)
        soft[:, index] = block * n[index] + block.sum(-1, keepdim=True)
    return torch.where(space.continuous.to(c.device), c, soft)


def harden(values: Tensor, space: ConceptSpace) -> Tensor:
    """Probabilities (B, K) -> decisions: 1 above one half, the likeliest state of a block; numbers stay."""
    decided = (values > 0.5).to(values)
    for index in space.blocks:
        index = index.to(values.device)
        block = values[..., index]
        hot = F.one_hot(block.argmax(-1), block.shape[-1]).to(values)
        decided = decided.index_copy(-1, index.flatten(), hot.flatten(-2))
    return torch.where(space.continuous.to(values.device), values, decided) if "continuous" in space.kinds else decided
