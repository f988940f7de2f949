"""Sobol indices: how much of an output's variance each coefficient carries, when coefficients are randomly damped.

CRAFT (Fel et al., CVPR 2023) ranks concepts so, with the estimators of Jansen (1999). ``generic`` takes any function;
``folded`` is the same estimate in closed form for a linear function, without evaluating it: algebra, hence linear heads only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import DataError
from isthmus.numerics._check import Array, choice, count, tensor

__all__ = ["Design", "Indices", "design", "folded", "generic"]


@dataclass(frozen=True)
class Design:
    """Two independent samples ``a`` and ``b`` (N, r) of masks in [0, 1]; a third is ``a`` with one column of ``b``."""

    a: Tensor
    b: Tensor

    def points(self) -> Tensor:
        """(N (r + 2), r) masks: a, b, then a with column 0 of b, with column 1, ..."""
        mixed = self.a.expand(self.a.shape[1], -1, -1).clone()
        every = torch.arange(self.a.shape[1], device=self.a.device)
        mixed[every, :, every] = self.b.T
        return torch.cat([self.a[None], self.b[None], mixed]).flatten(0, 1)


@dataclass(frozen=True)
class Indices:
    """(n, r, Y) shares of the output's variance, of the type of the coefficients; 0 where the output does not vary.

    ``total``: what a coefficient carries alone and together with others, >= 0; they add up to 1 or more. ``first``: what it
    carries alone, at most its total; noise may carry either estimate beyond its range.
    """

    total: Tensor
    first: Tensor


def design(coefficients: int, samples: int = 32, *, sequence: str = "halton", seed: int = 0) -> Design:
    """A design for r = ``coefficients`` with N = ``samples`` rows, float64: N (r + 2) evaluations for each row explained.

    ``sequence``: 'halton' (scrambled, low discrepancy; CRAFT's, which leaves it unscrambled) or 'random'.
    Raises ``OptionError`` for another name, no coefficient, or less than two samples.
    """
    r, n = count("coefficients", coefficients), count("samples", samples, low=2)
    choice("sequence", sequence, ("halton", "random"))
    draw = np.random.default_rng(seed)
    if sequence == "halton":
        from scipy.stats import qmc

        engine: Any = qmc.Halton  # its generator's keyword changes its name between releases of SciPy
        both = engine(2 * r, scramble=True, seed=draw).random(n)
    else:
        both = draw.random((n, 2 * r))
    return Design(torch.from_numpy(both[:, :r].copy()), torch.from_numpy(both[:, r:].copy()))


def generic(function: Callable[[Tensor], Tensor], coefficients: Array, plan: Design, *, memory: int = 2**18) -> Indices:
    """Indices of ``function`` (rows, r) -> (rows,) or (rows, Y) around each row of ``coefficients`` (n, r).

    Each row is evaluated at its product with every mask of ``plan``, as many rows together as keep the inputs within
    ``memory`` bytes. Y = 1 where the function gives one number for a row. Gradients are not tracked.
    Raises ``DataError`` where the plan or the outputs do not fit, or an output is not finite.
    """
    u = tensor("coefficients", coefficients, "n r")
    count("memory", memory)
    masks = _fitting(plan, u).points()
    size = max(1, memory // (masks.numel() * u.element_size()))
    parts: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for rows in u.split(size):
            inputs = (rows[:, None] * masks).flatten(0, 1)
            answer = function(inputs)
            if answer.ndim not in (1, 2) or len(answer) != len(inputs):
                shape = tuple(answer.shape)
                raise DataError(
                    f"function: expected shape ({len(inputs)},) or ({len(inputs)}, Y), got {shape}; one row for each row"
                )
            answer = tensor("function", answer.reshape(len(inputs), -1), "rows Y")
            parts.append(_jansen(answer.view(len(rows), u.shape[1] + 2, len(plan.a), -1)))
    total, first = (torch.cat(part) for part in zip(*parts, strict=True))
    return Indices(total, first)


def _jansen(y: Tensor) -> tuple[Tensor, Tensor]:
    """y (n, r + 2, N, Y), outputs at a, b and the mixed points -> total and first (n, r, Y)."""
    a, b, mixed = y[:, :1], y[:, 1:2], y[:, 2:]
    variance = a.var(2)
    off = (a - mixed).square().mean(2) / 2
    rest = (b - mixed).square().mean(2) / 2
    return _share(off, variance), _share(variance - rest, variance)


def _share(part: Tensor, variance: Tensor) -> Tensor:
    return torch.where(variance > 0, part / variance, 0)


def folded(coefficients: Array, weights: Array, plan: Design, *, memory: int = 2**26) -> Indices:
    """``generic`` for the linear function u @ weights + any bias: ``coefficients`` (n, r), ``weights`` (r, Y) -> (n, r, Y).

    For codes u of a dictionary D (r, d) under a linear head W (Y, d), weights = D @ W.T: folding is exact where only linear
    maps and means (such as global average pooling) stand between. With q = u * w and the differences of the two samples,
    every sum over the design is a quadratic form in q; rows are taken so that q stays within ``memory`` bytes.
    """
    u = tensor("coefficients", coefficients, "n r")
    w = tensor("weights", weights, f"{u.shape[1]} Y").to(u)
    count("memory", memory)
    plan = _fitting(plan, u)
    apart = (plan.a - plan.b).double()
    spread = torch.cov(plan.a.double().T).reshape(u.shape[1], -1).to(u)
    moved = (apart.T @ apart / (2 * len(apart))).to(u)
    size = max(1, memory // (w.numel() * u.element_size()))
    parts: list[tuple[Tensor, Tensor]] = []
    for rows in u.split(size):
        q = rows[:, :, None] * w
        variance = (q * (spread @ q)).sum(1, keepdim=True)
        pull = q * (moved @ q)
        own = moved.diagonal()[:, None] * q.square()
        parts.append((_share(own, variance), _share(variance - (pull.sum(1, keepdim=True) - 2 * pull + own), variance)))
    total, first = (torch.cat(part) for part in zip(*parts, strict=True))
    return Indices(total, first)


def _fitting(plan: Design, u: Tensor) -> Design:
    """The design in the type and place of the coefficients."""
    a = tensor("plan", plan.a, f"N {u.shape[1]}").to(u)
    b = tensor("plan", plan.b, f"{len(a)} {u.shape[1]}").to(u)
    return Design(a, b)
