"""What a shift costs: the score on rows as in training (validation) and on shifted ones (test), their gap and their mean.

Yang et al. 2024, A Textbook Remedy for Domain Shifts, NeurIPS, section 4: confounded in training, the reverse in the test.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from isthmus.metrics.core import Array, Metric, Sums


def shift(id_: float, ood: float) -> dict[str, float]:
    """``gap`` = |id - ood| and ``mean`` = (id + ood) / 2 of a score in the domain and out of it."""
    return {"gap": abs(id_ - ood), "mean": (id_ + ood) / 2}


def _of(finish: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Sums]:
    """A function of the two accuracies, from hits ``right`` (n,) and which rows are ``shifted`` (n,)."""

    def weighted(right: Array, shifted: Array) -> Sums:
        out = np.asarray(shifted, dtype=bool)
        hit = np.asarray(right, dtype=float)
        rows = np.c_[hit * ~out, ~out, hit * out, out].astype(float)
        return Sums(rows, lambda s: finish(s[:, 0] / s[:, 1], s[:, 2] / s[:, 3]))

    return weighted


SHIFT = {
    "shift_gap": Metric(
        _of(lambda inside, outside: np.abs(inside - outside)), "gap under shift", "accuracy", 0, 1, "down", "task",
        "|accuracy on rows as in training minus accuracy on shifted rows|; read it beside the mean: 0 for a constant answer",
    ),
    "shift_mean": Metric(
        _of(lambda inside, outside: (inside + outside) / 2), "mean under shift", "accuracy", 0, 1, "up", "task",
        "mean of the accuracy on rows as in training and that on shifted rows, each kind counting alike",
    ),
}  # fmt: skip
