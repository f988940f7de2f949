"""How many concepts a class uses."""

from __future__ import annotations

import numpy as np

from isthmus.metrics.core import Array, Metric, Sums


def _nec(weights: Array) -> Sums:
    each = (np.abs(weights) > 1e-5).sum(1)
    return Sums(np.c_[each, np.ones(len(each))], lambda s: s[:, 0] / s[:, 1])


nec = Metric(
    _nec, "NEC", "concepts a class", 0, np.inf, "down", "strip",
    "number of effective concepts: weights above 1e-5 in size, mean over classes (VLG-CBM); linear heads only",
)  # fmt: skip
