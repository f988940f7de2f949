"""Scores of the concepts: labels c (n, K) with NaN for unknown, values (n, K) in concept units, by concept kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isthmus.errors import DataError
from isthmus.metrics.core import Array, Mean, Metric, Ranked, Sums, alike, mean_known
from isthmus.metrics.task import f1_of_sums


@dataclass(frozen=True)
class Kinds:
    """Columns by kind: ``binary`` columns, ``blocks`` of a categorical concept each, ``continuous`` columns with scale."""

    binary: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...]
    continuous: tuple[tuple[int, float], ...] = ()


def fits(what: str, c: Array, values: Array, kinds: Kinds) -> None:
    """Refuse labels and values that are not of one shape, and kinds of columns that they do not have."""
    alike(what, c=c, values=values)
    if not isinstance(kinds, Kinds):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(
            f"{what}, kinds: expected Kinds, which columns are binary or of one concept, got {type(kinds).__name__}"
        )
    wrong = [k for k in (*_columns(kinds), *(k for k, _ in kinds.continuous)) if not 0 <= k < c.shape[1]]
    if wrong:
        raise DataError(
            f"{what}, kinds: expected columns 0 to {c.shape[1] - 1}, as c has, got {wrong[-1]}; give those of the space"
        )


def decided(c: Array, values: Array, kinds: Kinds) -> tuple[Array, Array]:
    """(n, M') right and known, for each binary concept, then each categorical one."""
    right, known = [], []
    for k in kinds.binary:
        known.append(~np.isnan(c[:, k]))
        right.append(((values[:, k] > 0.5) == (c[:, k] > 0.5)) & known[-1])
    for block in kinds.blocks:
        known.append(~np.isnan(c[:, block[0]]))
        right.append((values[:, block].argmax(1) == np.nan_to_num(c[:, block]).argmax(1)) & known[-1])
    n = len(c)
    return (np.stack(right, 1), np.stack(known, 1)) if right else (np.zeros((n, 0), bool), np.zeros((n, 0), bool))


def _accuracy(c: Array, values: Array, kinds: Kinds) -> Sums:
    fits("concept accuracy", c, values, kinds)
    right, known = decided(c, values, kinds)
    m = right.shape[1]
    return Sums(np.c_[right, known].astype(float), lambda s: mean_known(s[:, :m] / s[:, m:]))


def _all_right(c: Array, values: Array, kinds: Kinds) -> Sums:
    fits("all concepts right", c, values, kinds)
    right, known = decided(c, values, kinds)
    some = known.any(1)
    whole = some & (right | ~known).all(1)
    return Sums(np.c_[whole, some].astype(float), lambda s: s[:, 0] / s[:, 1])


def hard(values: Array, kinds: Kinds) -> Array:
    """Values (n, K) as decisions: present or not (1, 0), one state of a block, continuous ones as they are."""
    found = (values > 0.5).astype(float)
    for block in kinds.blocks:
        found[:, block] = np.eye(len(block))[values[:, block].argmax(1)]
    for k, _ in kinds.continuous:
        found[:, k] = values[:, k]
    return found


def _columns(kinds: Kinds) -> list[int]:
    return [*kinds.binary, *(k for block in kinds.blocks for k in block)]


def _macro_f1(c: Array, values: Array, kinds: Kinds) -> Sums:
    fits("concept macro F1", c, values, kinds)
    columns = _columns(kinds)
    known = ~np.isnan(c[:, columns])
    truth = (c[:, columns] > 0.5) & known
    said = (hard(values, kinds)[:, columns] > 0.5) & known
    both = truth.any(0) & (known & ~truth).any(0)
    rows = np.concatenate([(truth & said)[:, both], truth[:, both], said[:, both]], 1).astype(float)
    return Sums(rows, lambda s: f1_of_sums(s, int(both.sum())) if both.any() else np.full(len(s), np.nan))


def _auroc(c: Array, values: Array, kinds: Kinds) -> Mean | Sums:
    fits("concept AUROC", c, values, kinds)
    if not _columns(kinds):
        return Sums(np.zeros((len(c), 1)), lambda s: np.full(len(s), np.nan))

    def ranked(k: int) -> Ranked:
        return Ranked(values[:, k], c[:, k] > 0.5, ~np.isnan(c[:, k]))

    return Mean(tuple(ranked(k) for k in _columns(kinds)))


def _error(c: Array, values: Array, kinds: Kinds) -> Sums:
    fits("concept error", c, values, kinds)
    at, scale = [k for k, _ in kinds.continuous], np.array([s for _, s in kinds.continuous])
    known = ~np.isnan(c[:, at])
    gap = np.where(known, np.abs(np.nan_to_num(c[:, at]) - values[:, at]) / scale, 0)
    m = len(at)
    return Sums(np.c_[gap, known].astype(float), lambda s: mean_known(s[:, :m] / s[:, m:]))


def baseline(c: Array, kinds: Kinds, train: Array | None = None) -> float:
    """Concept accuracy of one constant answer for each concept: absent for a binary one, the commonest state of a block.

    The commonest state is read off ``train`` labels where given. NaN when no concept has a decision.
    """
    known = c if train is None else train
    answer = np.zeros_like(c)
    for block in kinds.blocks:
        answer[:, block[int(np.nansum(known[:, block], axis=0).argmax())]] = 1
    if not kinds.binary and not kinds.blocks:
        return float("nan")
    return concept_accuracy(c, answer, kinds)


concept_accuracy = Metric(
    _accuracy, "concept accuracy", "share", 0, 1, "up", "concepts",
    "mean over concepts of the share of known labels read right; read it beside the rate of answering 'absent' everywhere",
)  # fmt: skip
concept_macro_f1 = Metric(
    _macro_f1, "concept macro F1", "share", 0, 1, "up", "concepts",
    "mean F1 over the columns that have both answers; answering 'absent' everywhere scores 0",
)  # fmt: skip
concept_auroc = Metric(
    _auroc, "concept AUROC", "share", 0, 1, "up", "concepts", "area under the ROC curve, mean over columns", 200
)
concept_all_right = Metric(
    _all_right,
    "all concepts right",
    "share",
    0,
    1,
    "up",
    "concepts",
    "share of rows on which every known concept is read right",
)
concept_error = Metric(
    _error, "concept error", "sd", 0, np.inf, "down", "concepts",
    "mean absolute error of continuous concepts, in training standard deviations",
)  # fmt: skip
