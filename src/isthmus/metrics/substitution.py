"""S+ and S-: is an attribute that was put into a picture seen, and is the one it replaced let go of?

Bader et al., ICCV 2025. Read both: answering 'present' everywhere has S+ 1 and S- 0, 'absent' everywhere the reverse.
"""

from __future__ import annotations

import numpy as np

from isthmus.errors import DataError
from isthmus.metrics.core import Array, Metric, Sums, alike


def present(values: Array, groups: Array | None = None) -> Array:
    """(n, K) bool from values (n, K): at least 0.5; with ``groups`` (K,) the highest of its group (the first of equals)."""
    if groups is None:
        return values >= 0.5
    if groups.shape != values.shape[1:]:
        got = f"got {groups.shape} for {values.shape[1]} columns; give a group to each"
        raise DataError(f"S+, S-, groups: expected a group of each column of values, {got}")
    found = np.zeros(values.shape, dtype=bool)
    for group in np.unique(groups):
        columns = np.flatnonzero(groups == group)
        found[np.arange(len(values)), columns[values[:, columns].argmax(1)]] = True
    return found


def _s_plus(values: Array, target: Array, groups: Array | None = None) -> Sums:
    known, last = target >= 0, values.shape[1] - 1
    if (target > last).any() or (target != np.floor(target)).any():
        raise DataError(f"S+, target: expected columns 0 to {last}, or -1 for none, got {np.unique(target)[-3:]}")
    target = target.astype(int)
    seen = present(values, groups)[np.arange(len(values)), np.where(known, target, 0)] & known
    return Sums(np.c_[seen, known].astype(float), lambda s: s[:, 0] / s[:, 1])


def _s_minus(values: Array, removed: Array, groups: Array | None = None) -> Sums:
    if removed.ndim == 1:
        removed = removed[:, None] == np.arange(values.shape[1])
    removed = removed != 0
    alike("S-", values=values, removed=removed)
    count = removed.sum(1)
    gone = (removed & ~present(values, groups)).sum(1) / np.maximum(count, 1)
    return Sums(np.c_[gone, count > 0].astype(float), lambda s: s[:, 0] / s[:, 1])


s_plus = Metric(
    _s_plus, "S+", "share", 0, 1, "up", "concepts",
    "share of rows on which the attribute put in, target (n,) (-1: none), is predicted present; read it beside S-",
)  # fmt: skip
s_minus = Metric(
    _s_minus, "S-", "share", 0, 1, "up", "concepts",
    "share of rows on which what was taken out, removed (n,) or (n, K), is predicted absent; of several in a row their mean",
)  # fmt: skip
