"""Scores of the task: arrays of truth and prediction in, numbers out."""

from __future__ import annotations

import numpy as np

from isthmus.errors import DataError
from isthmus.metrics.core import Array, Mean, Metric, Ranked, Sums, alike, mean_known


def _ratio(sums: Array) -> Array:
    return sums[:, 0] / sums[:, 1]


def _accuracy(y: Array, answer: Array) -> Sums:
    alike("task accuracy", y=y, answer=answer)
    known = ~np.isnan(y).reshape(len(y), -1)
    right = (y == answer).reshape(len(y), -1) & known
    return Sums(np.c_[right.sum(1), known.sum(1)].astype(float), _ratio)


def hot(what: str, y: Array, classes: int) -> Array:
    """(n, Y) one-hot rows of class numbers y (n,)."""
    if y.ndim != 1 or not ((y >= 0) & (y < classes) & (y == np.floor(y))).all():
        raise DataError(f"{what}: expected class numbers 0 to {classes - 1}, got {np.unique(y)[:5]}; leave unknown rows out")
    return np.eye(classes)[y.astype(int)]


def _by_class(y: Array, answer: Array, classes: int) -> tuple[Array, Array, Array]:
    """(n, Y) each: right, truth, answered; for labels (n, Y) with NaN the unknown cells count nowhere."""
    alike("y and answer", y=y, answer=answer)
    if y.ndim == 1:
        truth, said = hot("y", y, classes), hot("answer", answer, classes)
    else:
        if classes != y.shape[1]:
            raise DataError(f"y: expected {classes} columns, one for each label as classes says, got {y.shape[1]}")
        if not np.isin(answer, (0, 1)).all():
            raise DataError("answer: expected decisions of 0 or 1 for labels, got other numbers; pass probabilities > .5")
        known = ~np.isnan(y)
        truth, said = (y == 1).astype(float), (answer == 1) * known
    return truth * said, truth, said


def _balanced(y: Array, answer: Array, classes: int) -> Sums:
    right, truth, _ = _by_class(y, answer, classes)
    return Sums(np.c_[right, truth], lambda s: mean_known(s[:, :classes] / s[:, classes:]))


def f1_of_sums(sums: Array, classes: int) -> Array:
    """(R, 3 Y) sums of right, truth, answered -> mean F1 over the classes that occur."""
    right, truth, said = sums[:, :classes], sums[:, classes : 2 * classes], sums[:, 2 * classes :]
    f1 = np.where(truth > 0, 2 * right / np.maximum(truth + said, 1e-12), np.nan)
    return mean_known(f1)


def _macro_f1(y: Array, answer: Array, classes: int) -> Sums:
    return Sums(np.concatenate(_by_class(y, answer, classes), axis=1), lambda s: f1_of_sums(s, classes))


def _auroc(y: Array, probabilities: Array) -> Mean:
    known = np.ones(len(y), dtype=bool)
    columns = range(probabilities.shape[1])
    if y.ndim == 1:
        hot("AUROC, y", y, probabilities.shape[1])
        return Mean(tuple(Ranked(probabilities[:, j], y == j, known) for j in columns))
    alike("AUROC", y=y, probabilities=probabilities)
    return Mean(tuple(Ranked(probabilities[:, j], y[:, j] == 1, ~np.isnan(y[:, j])) for j in columns))


def _known(y: Array, answer: Array) -> tuple[Array, Array, Array]:
    alike("numbers", y=y, answer=answer)
    known = ~np.isnan(y)
    return np.nan_to_num(y), np.where(known, answer, 0), known.astype(float)


def _mae(y: Array, answer: Array) -> Sums:
    y, answer, known = _known(y, answer)
    return Sums(np.c_[np.abs(y - answer) * known, known], _ratio)


def _rmse(y: Array, answer: Array) -> Sums:
    y, answer, known = _known(y, answer)
    return Sums(np.c_[(y - answer) ** 2 * known, known], lambda s: np.sqrt(s[:, 0] / s[:, 1]))


def _r2(y: Array, answer: Array) -> Sums:
    y, answer, known = _known(y, answer)
    centre = (y * known).sum() / max(known.sum(), 1)
    shifted = (y - centre) * known
    rows = np.c_[(y - answer) ** 2 * known, shifted**2, shifted, known]
    least = 1e-20 * float((y**2 * known).max())  # below it a target is one number, but for rounding

    def finish(s: Array) -> Array:
        spread = s[:, 1] - s[:, 2] ** 2 / s[:, 3]
        return np.where(spread > least * s[:, 3], 1 - s[:, 0] / spread, np.nan)

    return Sums(rows, finish)


accuracy = Metric(
    _accuracy, "task accuracy", "share", 0, 1, "up", "task", "share of rows (labels: of cells) that are decided right"
)
balanced_accuracy = Metric(
    _balanced,
    "balanced accuracy",
    "share",
    0,
    1,
    "up",
    "task",
    "mean over classes of the share of its rows decided right",
)
macro_f1 = Metric(
    _macro_f1, "macro F1", "share", 0, 1, "up", "task",
    "mean over classes that occur of the harmonic mean of precision and recall",
)  # fmt: skip
auroc = Metric(
    _auroc,
    "AUROC",
    "share",
    0,
    1,
    "up",
    "task",
    "area under the ROC curve, one against the rest, mean over classes",
    200,
)
mae = Metric(_mae, "mean absolute error", "target unit", 0, np.inf, "down", "task", "mean distance to the true number")
rmse = Metric(_rmse, "RMSE", "target unit", 0, np.inf, "down", "task", "root of the mean squared distance to the true number")
r2 = Metric(
    _r2, "R2", "share", -np.inf, 1, "up", "task", "share of the target's variance that is explained; n/a where it has none"
)
