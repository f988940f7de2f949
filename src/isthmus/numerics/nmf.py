"""Non-negative matrix factorisation, by scikit-learn: a code of our own was measured to be no faster.

x = codes @ basis with all three >= 0 (Lee & Seung, Nature 1999), by coordinate descent (Cichocki & Phan 2009).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isthmus.errors import DataError
from isthmus.numerics._check import Array, choice, count, number, tensor

__all__ = ["Factors", "encode", "factorise"]

STARTS = ("nndsvda", "nndsvd", "random")


@dataclass(frozen=True)
class Factors:
    """``codes`` (n, r) and ``basis`` (r, d), >= 0, of the type of x; ``error`` = |x - codes @ basis| / |x| (Frobenius).

    ``converged``: False where the iterations ran out first.
    """

    codes: Tensor
    basis: Tensor
    error: float
    converged: bool


def factorise(
    x: Array, rank: int, *, start: str = "nndsvda", seed: int = 0, tol: float = 1e-4, limit: int = 400, l2: float = 0.0
) -> Factors:
    """Factors of ``x`` (n, d) >= 0 of a ``rank`` from 1 to min(n, d); the same for the same seed.

    ``start``: 'nndsvda' and 'nndsvd' (from a singular value decomposition) or 'random'; ``l2`` >= 0 penalises both factors as
    scikit-learn's alpha_W does. On the CPU. Raises ``DataError`` for a negative or not finite entry, ``OptionError`` for an
    option.
    """
    table = _positive("x", tensor("x", x, "n d"))
    count("rank", rank, high=min(table.shape))
    model = _model(
        rank, choice("start", start, STARTS), seed, number("tol", tol, low=0), count("limit", limit), number("l2", l2, low=0)
    )
    with _quiet():
        codes = torch.from_numpy(model.fit_transform(table.cpu().numpy())).to(table)
    return _factors(table, codes, torch.from_numpy(model.components_).to(table), model.n_iter_ < limit)


def encode(x: Array, basis: Array, *, tol: float = 1e-4, limit: int = 400, l2: float = 0.0) -> Factors:
    """Codes of other rows ``x`` (n, d) >= 0 under a ``basis`` (r, d) >= 0 that stays as it is. Options as ``factorise``."""
    table = _positive("x", tensor("x", x, "n d"))
    held = _positive("basis", tensor("basis", basis, f"r {table.shape[1]}")).to(table)
    model = _model(len(held), "random", 0, number("tol", tol, low=0), count("limit", limit), number("l2", l2, low=0))
    model.components_, model.n_components_ = held.cpu().numpy(), len(held)
    model.n_features_in_ = held.shape[1]
    with _quiet() as caught:
        codes = torch.from_numpy(model.transform(table.cpu().numpy())).to(table)
    return _factors(table, codes, held, not caught)


def _positive(name: str, table: Tensor) -> Tensor:
    least = table.min().item()
    if least < 0:
        raise DataError(f"{name}: expected entries of at least 0, got {least:g}; rectify, or take another factorisation")
    return table


def _model(rank: int, start: str, seed: int, tol: float, limit: int, l2: float) -> Any:
    from sklearn import decomposition

    make: Any = decomposition.NMF
    return make(rank, init=start, random_state=seed, tol=tol, max_iter=limit, alpha_W=l2)


def _quiet() -> Any:
    """Keep scikit-learn's warning about convergence: it becomes ``converged``."""
    return warnings.catch_warnings(record=True, action="always")


def _factors(table: Tensor, codes: Tensor, basis: Tensor, converged: bool) -> Factors:
    rest, whole = (
        torch.linalg.vector_norm(part, dtype=torch.float64) for part in (torch.addmm(table, codes, basis, alpha=-1), table)
    )
    error = rest / whole.clamp(min=1e-300)
    return Factors(codes, basis, float(error), bool(converged))
