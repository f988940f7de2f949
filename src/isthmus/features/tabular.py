"""Features of numeric rows: the columns as they are, or a small network on standardised columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.errors import DataError
from isthmus.features.registry import Features, features_builder, positive


def _columns(raw: Any, dim: int) -> Tensor:
    """Numbers (B, dim) of any type as float32."""
    try:
        x = torch.as_tensor(raw)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"x: expected numbers of shape (rows, {dim}), got {type(raw).__name__}") from error
    return _wide(x, dim).float()


def _wide(x: Tensor, dim: int) -> Tensor:
    """x itself, where it has the columns that the features were built for."""
    if x.ndim != 2 or x.shape[1] != dim:
        got = f"got {tuple(x.shape)}; give the columns that the features were built for"
        raise DataError(f"x: expected numbers of shape (rows, {dim}), {got}")
    return x


class Identity(Features):
    """Columns as they are."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = self.dim_in = dim

    def prepare(self, raw: Any) -> Tensor:
        """Numbers (B, D) -> float32 (B, D)."""
        return _columns(raw, self.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> the same (B, D)."""
        return _wide(x, self.dim)


class MLP(Features):
    """Standardise, then linear layers, each followed by a ReLU."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.dim_in, self.dim = dim_in, widths[-1]
        self.register_buffer("mean", torch.zeros(dim_in))
        self.register_buffer("scale", torch.ones(dim_in))
        sizes = [dim_in, *widths]
        layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
        self.layers = nn.Sequential(*(module for pair in layers for module in pair))

    def prepare(self, raw: Any) -> Tensor:
        """Numbers (B, dim_in) -> float32 (B, dim_in)."""
        return _columns(raw, self.dim_in)

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Take mean and standard deviation of each column from training rows x (B, dim_in); a constant keeps 1."""
        x = self.prepare(x)
        bad = ~x.isfinite()
        if not len(x) or bool(bad.any()):
            place = f"column {int(bad.nonzero()[0, 1])}" if len(x) else "x"
            raise DataError(f"{place}: expected finite numbers in at least one row; fill or drop what is missing")
        mean, scale = x.double().mean(0), x.double().std(0, correction=0)
        self.mean.copy_(mean)
        self.scale.copy_(scale.where(scale > 1e-7 * mean.abs(), torch.ones_like(scale)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim_in) -> (B, D), at least 0."""
        return self.layers((_wide(x, self.dim_in) - self.mean) / self.scale)


@features_builder("identity")
def identity(dim: int) -> Identity:
    """The ``dim`` input columns themselves."""
    positive("identity, dim", dim)
    return Identity(dim)


@features_builder("mlp")
def mlp(dim_in: int, *, hidden: Sequence[int] = (64,), dim: int = 64) -> MLP:
    """A network on ``dim_in`` standardised columns: ``hidden`` widths, then ``dim`` features, ReLU after each.

    ``fit(x)`` takes the standardisation from training rows; without it the columns enter as they are.
    """
    positive("mlp, dim_in", dim_in)
    positive("mlp, hidden", *hidden)
    positive("mlp, dim", dim)
    return MLP(dim_in, [*hidden, dim])
