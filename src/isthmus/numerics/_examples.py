"""What directions are fitted to: a set of positives and negatives for each concept, or one table with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from isthmus.errors import DataError
from isthmus.numerics._check import Array, shape, tensor


@dataclass(frozen=True)
class Shared:
    """One table ``x`` (n, d) for C concepts: ``label`` (n, C) in {0, 1}, ``known`` (n, C) False where there is none."""

    x: Tensor
    label: Tensor
    known: Tensor


@dataclass(frozen=True)
class Sets:
    """Rows with (p_k, d) and without (q_k, d) each of C concepts."""

    positive: Tensor | list[Tensor]
    negative: Tensor | list[Tensor]

    @property
    def x(self) -> Tensor:
        """Some rows, for their type and device."""
        return self.positive[0]

    def lengths(self) -> NDArray[np.int64]:
        """(C, 2) how many rows with and without each concept."""
        if isinstance(self.positive, Tensor) and isinstance(self.negative, Tensor):
            return np.tile([self.positive.shape[1], self.negative.shape[1]], (len(self.positive), 1))
        return np.array([[len(p), len(q)] for p, q in zip(self.positive, self.negative, strict=True)])


Examples = Shared | Sets


def sets(positive: Array | Sequence[Array], negative: Array | Sequence[Array]) -> Sets:
    """A set of rows with and a set without each concept, as concept activation vectors are fitted (Kim et al. 2018).

    ``positive`` (C, p, d) and ``negative`` (C, q, d), or sequences of C arrays (p_k, d) and (q_k, d) of any lengths.
    Raises ``DataError`` where shapes differ, a set is empty, or a number is not finite.
    """
    yes, no = _rows("positive", positive), _rows("negative", negative)
    if len(yes) != len(no) or not len(yes):
        raise DataError(
            f"negative: expected one set for each of the {len(yes)} concepts, got {len(no)}; pass as many sets of each"
        )
    width, dtype = yes[0].shape[1], yes[0].dtype
    for name, rows in (("positive", yes), ("negative", no)):
        for k, row in enumerate(rows):
            shape(f"{name}[{k}]", row, f"rows {width}")
    if isinstance(yes, Tensor) and isinstance(no, Tensor):
        return Sets(yes, no.to(dtype))
    return Sets([rows.to(dtype) for rows in yes], [rows.to(dtype) for rows in no])


def too_large(dtype: object) -> DataError:
    """Squares of the features overflow."""
    kind = str(dtype).removeprefix("torch.")
    return DataError(f"x: expected columns whose squares fit {kind}, got larger ones; scale the features first")


def _rows(name: str, value: Array | Sequence[Array]) -> Tensor | list[Tensor]:
    if isinstance(value, (Tensor, np.ndarray)):
        return tensor(name, value, "concepts rows d")
    return [tensor(f"{name}[{k}]", rows, "rows d") for k, rows in enumerate(value)]


def shared(x: Array, labels: Array) -> Shared:
    """One table for all concepts: ``x`` (n, d) and ``labels`` (n, C) in {0, 1}, NaN where unknown.

    Raises ``DataError`` for other labels, and for a concept whose known labels are all alike.
    """
    table = tensor("x", x, "n d")
    c = tensor("labels", labels, f"{len(table)} concepts", nan=True)
    known = ~c.isnan()
    if bool(((c != 0) & (c != 1) & known).any()):
        wrong = c[(c != 0) & (c != 1) & known][0].item()
        raise DataError(f"labels: expected 0, 1 or NaN, got {wrong:g}; threshold soft labels first")
    label = c.nan_to_num()
    alike = ((label > 0).sum(0) == 0) | ((label > 0).sum(0) == known.sum(0))
    if bool(alike.any()):
        k = int(alike.nonzero()[0])
        raise DataError(f"labels: expected a 0 and a 1 for every concept, got one kind for column {k}; leave the column out")
    return Shared(table, label.to(table.dtype), known)
