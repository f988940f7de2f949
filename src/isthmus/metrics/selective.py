"""Answering only when sure: coverage, accuracy where it answers, the whole trade, and the work that corrections leave to do.

Geifman & El-Yaniv 2017, Selective Classification for Deep Neural Networks; concept-benchmark's documentation (arXiv 2606.04326)
for net work automated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isthmus.errors import DataError
from isthmus.metrics.core import Array, Metric, Sums, sound


def threshold(confidence: ArrayLike, right: ArrayLike, target: float, *, least: int = 1) -> float:
    """The least confidence from which on accuracy is at least ``target`` (0..1) on these rows (n,); inf where it never is.

    At least ``least`` rows must be that sure: a threshold that one row sets says nothing. Choose it on validation rows: on the
    rows that it is judged by it flatters.
    """
    if not 0 <= target <= 1:
        raise DataError(f"selective accuracy: expected a target of 0..1, got {target:g}")
    confidence, right = sound("threshold", {"confidence": confidence, "right": right}).values()
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(confidence[order]) != 0, True])
    share = np.cumsum(right[order])[ends] / (ends + 1)
    good = np.flatnonzero((share >= target) & (ends + 1 >= least))
    return float(confidence[order][ends[good[-1]]]) if len(good) else float("inf")


def _coverage(confidence: Array, at: float) -> Sums:
    sure = confidence >= at
    return Sums(np.c_[sure, np.ones(len(sure))].astype(float), lambda s: s[:, 0] / s[:, 1])


def _selective(confidence: Array, right: Array, at: float) -> Sums:
    sure = confidence >= at
    return Sums(np.c_[sure & right.astype(bool), sure].astype(float), lambda s: s[:, 0] / s[:, 1])


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> tuple[Array, Array]:
    """Coverage (n,) and error (n,) of answering the surest first; equals share their error."""
    confidence, right = sound("risk and coverage", {"confidence": confidence, "right": right}).values()
    order = np.argsort(-confidence, kind="stable")
    wrong = 1.0 - np.asarray(right, dtype=float)[order]
    starts = np.flatnonzero(np.r_[True, np.diff(confidence[order]) != 0])
    sizes = np.diff(np.r_[starts, len(order)])
    wrong = np.repeat(np.add.reduceat(wrong, starts) / sizes, sizes)
    count = np.arange(1, len(order) + 1)
    return count / len(order), np.cumsum(wrong) / count


@dataclass(frozen=True, eq=False)
class Trade:
    """The area as a function of row weights, exactly: ``wrong`` (n,) by falling confidence, ``starts`` of equal confidence."""

    order: Array
    wrong: Array
    starts: Array
    n: int

    def under(self, weights: Array) -> Array:
        w = weights[:, self.order].astype(float)
        sizes = np.diff(np.r_[self.starts, self.n])
        lost = np.repeat(np.add.reduceat(w * self.wrong, self.starts, axis=1), sizes, axis=1)
        whole = np.repeat(np.add.reduceat(w, self.starts, axis=1), sizes, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(whole > 0, lost / whole, 0)  # equals share their error
            running = np.cumsum(w * mean, axis=1) / np.cumsum(w, axis=1)
            return np.nansum(np.where(w > 0, w * running, 0), axis=1) / w.sum(1)


def _aurc(confidence: Array, right: Array) -> Trade:
    order = np.argsort(-confidence, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(confidence[order]) != 0])
    return Trade(order, 1.0 - np.asarray(right, dtype=float)[order], starts, len(order))


def asked(confidence: Array, at: float) -> tuple[Array, Array]:
    """From confidence (P, n) after each of P budgets: (n,) the first budget that is sure enough (P: none is), and (n,) sure."""
    sure: Array = np.asarray(confidence >= at)
    return np.where(sure.any(0), sure.argmax(0), len(confidence)), np.asarray(sure.any(0))


def _automated(share: Array, sure: Array) -> Sums:
    return Sums(np.c_[sure - share, np.ones(len(sure))].astype(float), lambda s: s[:, 0] / s[:, 1])


coverage = Metric(
    _coverage, "coverage", "share", 0, 1, "up", "task", "share of rows that are answered: confidence at least the threshold"
)
selective_accuracy = Metric(
    _selective, "selective accuracy", "share", 0, 1, "up", "task", "accuracy over the rows that are answered"
)
aurc = Metric(
    _aurc, "area under risk and coverage", "error", 0, 1, "down", "task",
    "mean error over all coverages, the surest rows first; of random confidence it is the error itself",
)  # fmt: skip
automated = Metric(
    _automated, "net work automated", "share", -1, 1, "up", "correction",
    "share of rows that are answered in the end, minus the mean share of concepts that a person was asked on the way",
)  # fmt: skip
