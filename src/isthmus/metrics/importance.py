"""Are the concepts that matter to a class those that its rows have? Global importance, existence, deletion and insertion.

Aysel, Cai, Prügel-Bennett 2025, Concept-Based XAI: Metrics and Benchmarks, arXiv 2501.19271, as two readers' notes give it
(no code was found); their "CEM" is ``existence`` here. Fel et al. 2023, CRAFT (deletion, insertion). Goyal et al. 2019 (CaCE).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from isthmus.errors import DataError
from isthmus.metrics.core import Array, Metric, Sums, alike, sound
from isthmus.metrics.task import hot


def frequencies(c: ArrayLike, y: ArrayLike, classes: int) -> Array:
    """(K, Y) V: share of a class's training rows that have a concept; c (n, K), NaN left out; NaN where a class has none."""
    c, y = sound("frequencies", {"c": c, "y": y}).values()
    known, each = ~np.isnan(c), hot("frequencies, y", y, classes)
    count = known.T.astype(float) @ each
    return np.where(count > 0, np.nan_to_num(c).T @ each / np.where(count > 0, count, 1), np.nan)


def averages(values: ArrayLike, y: ArrayLike, answers: ArrayLike, classes: int) -> Array:
    """(K, Y) mean value of each concept over the rows of a class that were decided rightly; NaN where none was."""
    values, y, answers = sound("averages", {"values": values, "y": y, "answers": answers}).values()
    each = hot("averages, y", y, classes) * (answers == y)[:, None]
    count = each.sum(0)
    return np.where(count > 0, values.T @ each / np.where(count > 0, count, 1), np.nan)


def global_importance(weights: Array, means: Array, frequency: Array) -> dict[str, Array]:
    """CGIM1 to 3, each (K,) in -1..1, up: cosine over classes of V with the weights, the mean values, and their product.

    weights (K, Y) of a linear head, means (K, Y) as from ``averages``, frequency (K, Y) as from ``frequencies``. NaN where one
    of the two is 0 everywhere.
    """
    if not weights.shape == means.shape == frequency.shape:
        raise DataError(
            f"global importance: expected three arrays (K, Y), got {weights.shape}, {means.shape}, {frequency.shape}"
        )
    return {
        "CGIM1": cosine(weights, frequency),
        "CGIM2": cosine(means, frequency),
        "CGIM3": cosine(weights * means, frequency),
    }


def cosine(a: Array, b: Array) -> Array:
    """(K,) cosine of the rows of a and b (K, Y), over the columns known in both."""
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = np.where(known, a, 0), np.where(known, b, 0)
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(norm > 0, (a * b).sum(1) / norm, np.nan)


def top(importance: Array, most: int, *, seed: int | None = None) -> Array:
    """(n, most) columns by falling importance (n, K); equals as ``seed`` draws them row by row, the first first without one."""
    _few(importance, most)
    if seed is None:
        return np.argsort(-importance, axis=1, kind="stable")[:, :most]
    dealt = np.random.default_rng(seed).permuted(np.tile(np.arange(importance.shape[1]), (len(importance), 1)), axis=1)
    order = np.argsort(-np.take_along_axis(importance, dealt, 1), axis=1, kind="stable")[:, :most]
    return np.take_along_axis(dealt, order, 1)


def places(importance: Array, most: int) -> Array:
    """(n, K) how much of a place each column has among the ``most`` of highest importance (n, K): equals share what is left."""
    _few(importance, most)
    last = -np.partition(-importance, most - 1, axis=1)[:, most - 1 : most]
    above, equal = importance > last, importance == last
    return above + equal * (most - above.sum(1, keepdims=True)) / np.maximum(equal.sum(1, keepdims=True), 1)


def _few(importance: Array, most: int) -> None:
    if not 1 <= most <= importance.shape[1]:
        raise DataError(f"expected 1 to {importance.shape[1]} concepts of importance, got {most}")


def _existence(c: Array, importance: Array, most: int) -> Sums:
    alike("existence", c=c, importance=importance)
    held = places(importance, most) * ~np.isnan(c)
    return Sums(np.c_[(held * (np.nan_to_num(c) > 0.5)).sum(1), held.sum(1)], lambda s: s[:, 0] / s[:, 1])


def area_under(probabilities: Array) -> Array:
    """(n,) area under probabilities (n, P + 1) of the decided class while concepts go (or come) one step after another."""
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        got = f"got {probabilities.shape}; give those before the first step, too"
        raise DataError(f"deletion, insertion: expected probabilities (n, P + 1) of one step or more, {got}")
    return ((probabilities[:, 1:] + probabilities[:, :-1]) / 2).mean(1)


def _areas(probabilities: Array) -> Sums:
    area = area_under(probabilities)
    return Sums(np.c_[area, np.ones(len(area))], lambda s: s[:, 0] / s[:, 1])


def effects(on: ArrayLike, off: ArrayLike) -> Array:
    """(Y,) CaCE: mean over rows of the class probabilities (n, Y) with the concept set to 1, minus with it set to 0; -1..1."""
    on, off = sound("CaCE", {"on": on, "off": off}).values()
    alike("CaCE", on=on, off=off)
    return (on - off).mean(0)


existence = Metric(
    _existence, "existence", "share", 0, 1, "up", "concepts",
    "share of the l concepts that speak most for the answer that are in the row, by the row's own labels; chance: their rate",
)  # fmt: skip
deletion = Metric(
    _areas, "c-deletion", "probability", 0, 1, "down", "strip",
    "area under the decided class's probability while concepts are taken out, the weightiest first; beside random order",
)  # fmt: skip
insertion = Metric(
    _areas, "c-insertion", "probability", 0, 1, "up", "strip",
    "area under the decided class's probability while concepts are put in, the weightiest first; beside random order",
)  # fmt: skip
