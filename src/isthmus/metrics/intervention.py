"""What corrections are worth, and what goes around them."""

from __future__ import annotations

import numpy as np

from isthmus.metrics.core import Array, Metric, Sums


def area(share: Array, score: Array) -> Array:
    """Trapezoid area under score (..., P) over the share (P,) of corrected concepts, 0 to 1."""
    return ((score[..., 1:] + score[..., :-1]) / 2 * np.diff(share)).sum(-1)


def smallest(share: Array, score: Array, part: float = 0.95) -> float:
    """Smallest share (P,) of corrected concepts that reaches ``part`` of the full gain; NaN where nothing is gained."""
    gain = score - score[0]
    if gain[-1] <= 0:
        return float("nan")
    return float(share[np.flatnonzero(gain >= part * gain[-1])[0]])


def _share(changed: Array) -> Sums:
    return Sums(np.c_[changed, np.ones(len(changed))].astype(float), lambda s: s[:, 0] / s[:, 1])


bypass = Metric(
    _share, "bypass", "share", 0, 1, "down", "strip",
    "share of rows whose decision changes when x is swapped for another row's with every concept held",
)  # fmt: skip
CURVE = {
    "curve_area": Metric(
        _share, "curve area", "score", -np.inf, 1, "up", "correction",
        "area under the correction curve: score against the share of concepts corrected, random order",
    ),
    "gain_all": Metric(
        _share, "gain when all are corrected", "score", -np.inf, 1, "up", "correction",
        "score with every concept corrected, minus none",
    ),
    "k95": Metric(
        _share, "95 % of the gain at", "share of concepts", 0, 1, "down", "correction",
        "smallest share of corrected concepts that reaches 95 % of the full gain; none where nothing is gained",
    ),
}  # fmt: skip
COST = {
    "fit_seconds": Metric(_share, "seconds to fit", "s", 0, np.inf, "down", "cost", "wall time of the fit, encoder not counted")
}
