"""Choosing concepts by submodular maximisation: facility location, modular + coverage mixtures, budgets for groups.

F(S) = sum of scores over S + weight * sum over what is served of max(0, the best that S gives it). Greedy is within
1 - 1/e of the optimum for non-negative scores (Nemhauser, Wolsey & Fisher 1978). The mixture is that of LaBo (Yang et al., CVPR
2023), one group of candidates for each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.errors import DataError, OptionError
from isthmus.numerics._check import Array, choice, count, number, tensor
from isthmus.numerics._greedy import ranked

__all__ = ["Ranking", "by_group", "greedy"]


@dataclass(frozen=True)
class Ranking:
    """What was chosen, in order: ``index`` (k,) int64 and ``gain`` (k,) float64, what each added to F.

    ``evaluations``: how many gains were computed; the plain greedy computes about n k.
    """

    index: Tensor
    gain: Tensor
    evaluations: int

    @property
    def value(self) -> float:
        """F of the whole choice."""
        return float(self.gain.sum())


def greedy(table: Array, k: int, *, scores: Array | None = None, weight: float = 1.0) -> Ranking:
    """The first k of the greedy order for F, exactly: of equal gains the lowest index comes first.

    ``table`` (n, s): what candidate j gives to the served column t; with a similarity matrix (n, n) this is facility
    location. A negative entry serves as little as 0. ``scores`` (n,): worth of a candidate by itself (default 0; may be
    negative: k are chosen all the same). ``weight`` >= 0 of the coverage. k from 1 to n. Computed in float64, on the CPU.
    Raises ``DataError`` for what is not finite or has another shape, ``OptionError`` for k or weight.
    """
    entries = tensor("table", table, "n served")
    n = len(entries)
    worth = np.zeros(n) if scores is None else tensor("scores", scores, str(n)).double().cpu().numpy()
    return _ranking(entries.cpu().numpy(), worth, number("weight", weight, low=0), count("k", k, high=n))


def _ranking(table: NDArray[Any], worth: NDArray[Any], weight: float, k: int) -> Ranking:
    index, gain, evaluations = ranked(table, worth, weight, k)
    return Ranking(torch.from_numpy(index), torch.from_numpy(gain), evaluations)


def by_group(
    features: Array,
    groups: Array,
    budget: int | Mapping[int, int],
    *,
    scores: Array | None = None,
    weight: float = 1.0,
    coverage: str = "similarity",
) -> dict[int, Ranking]:
    """``greedy`` within each group of candidates, on one Gram matrix for each; indices are rows of ``features``.

    ``features`` (n, d), one row for each candidate; ``groups`` (n,) whole numbers, such as the class a concept was written
    for; ``budget``: how many for each group, one number or one for each group (a group with fewer gives all it has).
    ``coverage`` is a reading of LaBo's second term. 'similarity', as its paper says: facility location, a candidate serves
    its group by the products of feature rows (normalise the rows for cosines). 'columns', as its code computes: the inner
    function is called on the features themselves, so a candidate serves each feature column by its value there.
    Raises as ``greedy``, and for a group without a budget.
    """
    rows = tensor("features", features, "n d").cpu().numpy()
    of = _groups(groups, len(rows))
    worth = np.zeros(len(rows)) if scores is None else tensor("scores", scores, str(len(rows))).double().cpu().numpy()
    choice("coverage", coverage, ("similarity", "columns"))
    number("weight", weight, low=0)
    order = np.argsort(of, kind="stable")
    names, starts = np.unique(of[order], return_index=True)
    found: dict[int, Ranking] = {}
    for name, at in zip(names.tolist(), np.split(order, starts[1:]), strict=True):
        own = rows[at]
        table = own @ own.T if coverage == "similarity" else own
        ranking = _ranking(table, worth[at], weight, min(_budget(budget, name), len(at)))
        found[name] = Ranking(torch.from_numpy(at)[ranking.index], ranking.gain, ranking.evaluations)
    return found


def _groups(groups: Array, n: int) -> NDArray[np.int64]:
    of = np.asarray(groups)
    if of.shape != (n,) or of.dtype.kind not in "iu":
        raise DataError(f"groups: expected {n} whole numbers, got {of.dtype} of shape {of.shape}; number the groups 0, 1, ...")
    return of.astype(np.int64)


def _budget(budget: int | Mapping[int, int], group: int) -> int:
    if not isinstance(budget, Mapping):
        return count("budget", budget)
    if group not in budget:
        raise OptionError(f"budget: expected a number for group {group}, got none; give every group one")
    return count(f"budget[{group}]", budget[group])
