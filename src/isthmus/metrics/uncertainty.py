"""Calibration: does 80 % mean 80 %?"""

from __future__ import annotations

import numpy as np

from isthmus.metrics.core import Array, Mean, Metric, Sums, alike, within
from isthmus.metrics.task import hot

BINS = 15


def _binned(confidence: Array, right: Array, known: Array) -> Sums:
    """Expected calibration error over 15 equal-width bins, L1."""
    bins = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    cell = np.eye(BINS)[bins] * known[:, None]
    rows = np.concatenate([cell * right[:, None], cell * confidence[:, None], cell], 1)

    def finish(s: Array) -> Array:
        gap = np.abs(s[:, :BINS] - s[:, BINS : 2 * BINS])
        return gap.sum(1) / s[:, 2 * BINS :].sum(1)

    return Sums(rows, finish)


def _ece(y: Array, probabilities: Array) -> Sums | Mean:
    if y.ndim == 1:
        right = hot("ECE, y", y, probabilities.shape[1])[np.arange(len(y)), probabilities.argmax(1)]
        return _binned(probabilities.max(1), right, np.ones(len(y)))
    return _columns(y, probabilities)


def _columns(c: Array, probabilities: Array) -> Mean:
    alike("calibration", labels=c, probabilities=probabilities)
    within("calibration", "labels", c, say="labels of 0 or 1, or NaN where unknown")
    known = ~np.isnan(c)
    truth = np.nan_to_num(c)
    return Mean(tuple(_binned(probabilities[:, k], truth[:, k], known[:, k]) for k in range(c.shape[1])))


def _brier(y: Array, probabilities: Array) -> Sums:
    truth = hot("Brier score, y", y, probabilities.shape[1]) if y.ndim == 1 else y
    alike("Brier score", y=truth, probabilities=probabilities)
    within("Brier score", "y", truth, say="labels of 0 or 1, or NaN where unknown")
    known = ~np.isnan(truth)
    gap = np.where(known, (np.nan_to_num(truth) - probabilities) ** 2, 0).sum(1)
    count = np.ones(len(y)) if y.ndim == 1 else known.sum(1)
    return Sums(np.c_[gap, count].astype(float), lambda s: s[:, 0] / s[:, 1])


ece = Metric(
    _ece, "ECE", "share", 0, 1, "down", "task",
    "expected calibration error: distance of confidence and accuracy over 15 equal-width bins (labels: mean over labels)",
    centred=True,
)  # fmt: skip
concept_ece = Metric(
    _columns, "concept ECE", "share", 0, 1, "down", "concepts",
    "expected calibration error of each probability column over 15 equal-width bins, mean over columns", 200, True,
)  # fmt: skip
brier = Metric(
    _brier,
    "Brier score",
    "squared share",
    0,
    2,
    "down",
    "task",
    "mean squared distance of probabilities and truth (classes: summed over them; labels: their mean)",
)
