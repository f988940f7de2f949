"""What corrections are worth, and what goes around them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from isthmus.errors import DataError
from isthmus.metrics.core import Array, Metric, Sums, alike, array, sound


def area(share: ArrayLike, score: ArrayLike) -> Array:
    """Trapezoid area under score (..., P) over the share (P,) of corrected concepts, 0 to 1; P two or more."""
    share, score = array("curve area", "share", share), array("curve area", "score", score)
    if share.ndim != 1 or len(share) < 2 or score.shape[-1:] != share.shape or not score.size:
        got = f"got {share.shape} and {score.shape}; give a score for each point"
        raise DataError(f"curve area: expected shares (P,) of two points or more and scores (..., P), {got}")
    return ((score[..., 1:] + score[..., :-1]) / 2 * np.diff(share)).sum(-1)


def smallest(share: ArrayLike, score: ArrayLike, part: float = 0.95) -> float:
    """Smallest share (P,) of corrected concepts that reaches ``part`` of the full gain; NaN where nothing is gained."""
    share, score = sound("95 % of the gain", {"share": share, "score": score}).values()
    alike("95 % of the gain", share=share, score=score)
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
