"""Who pays: a score by subgroup, its largest gap and its worst group, beside groups that were dealt at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from isthmus.errors import DataError
from isthmus.metrics.core import Array, Weighted

LEAST = 20  # rows below which a group's score says nothing


def by_group(form: Weighted, group: Sequence[str], *, least: int = LEAST) -> dict[str, tuple[int, float]]:
    """Rows and score of each group of at least ``least`` rows; ``form``: a metric's ``weighted(...)`` on all rows."""
    names, code = np.unique(np.asarray(group, dtype=str), return_inverse=True)
    hot = np.eye(len(names))[code].T
    scores = form.under(hot)
    return {str(n): (int(h.sum()), float(s)) for n, h, s in zip(names, hot, scores, strict=True) if h.sum() >= least}


def gap(scores: dict[str, tuple[int, float]]) -> float:
    """Largest difference between two groups' scores; NaN with fewer than two that are defined."""
    known = [score for _, score in scores.values() if np.isfinite(score)]
    return max(known) - min(known) if len(known) > 1 else float("nan")


def dealt(
    form: Weighted, group: Sequence[str], *, times: int = 200, seed: int = 0, least: int = LEAST,
    measure: Callable[[dict[str, tuple[int, float]]], float] = gap,
) -> Array:  # fmt: skip
    """(times,) the gap when the same group sizes are dealt to the rows at random: what chance alone makes of it."""
    if times < 1:
        raise DataError(f"subgroups: expected at least one random deal, got {times}")
    draw, rows = np.random.default_rng(seed), np.asarray(group, dtype=str)
    return np.array([measure(by_group(form, list(draw.permutation(rows)), least=least)) for _ in range(times)])
