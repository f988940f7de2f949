"""The planes that support vector machines give, in float64 from rows of any type, and what rounding them costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.numerics._jit import jitted

Floats = NDArray[Any]
Parts = list[tuple[Floats, Floats]]  # rows with and rows without a concept, as they were given
PIECE = 1024


def planes(parts: Parts, beta: Floats, stretch: float, weight: Floats, score: Floats) -> Floats:
    """Write w = stretch * rows' beta, rounded to the type of ``weight`` (A, d), and rows w into score (A, m), float64.

    beta (A, m). Returns |rows' beta|^2 (A,) without stretch or rounding. All sums are in float64.
    """
    compiled = jitted(_plane, loose=True) or _plain
    return np.array([compiled(*part, beta[k], stretch, weight[k], score[k]) for k, part in enumerate(parts)])


def _plain(p: Floats, q: Floats, beta: Floats, stretch: float, weight: Floats, score: Floats) -> float:
    pieces = [(p, 0, at) for at in range(0, len(p), PIECE)] + [(q, len(p), at) for at in range(0, len(q), PIECE)]
    wide, exact = np.zeros(p.shape[1]), np.empty(p.shape[1])
    for x, start, at in pieces:
        rows = x[at : at + PIECE].astype(np.float64)
        wide += beta[start + at : start + at + len(rows)] @ rows
    weight[:] = stretch * wide
    exact[:] = weight
    for x, start, at in pieces:
        rows = x[at : at + PIECE].astype(np.float64)
        score[start + at : start + at + len(rows)] = rows @ exact
    return float(wide @ wide)


def _plane(p: Floats, q: Floats, beta: Floats, stretch: float, weight: Floats, score: Floats) -> float:
    """For the compiler: four rows at a time; past the last row, the last one again, with no weight."""
    d, start = p.shape[1], 0
    wide, exact, square = np.zeros(d), np.empty(d), 0.0
    for x in (p, q):
        n = len(x)
        for i in range(0, n, 4):
            i1, i2, i3 = min(i + 1, n - 1), min(i + 2, n - 1), min(i + 3, n - 1)
            b0, b1 = beta[start + i], beta[start + i1] if i + 1 < n else 0.0
            b2, b3 = beta[start + i2] if i + 2 < n else 0.0, beta[start + i3] if i + 3 < n else 0.0
            if b0 == 0.0 and b1 == 0.0 and b2 == 0.0 and b3 == 0.0:
                continue
            x0, x1, x2, x3 = x[i], x[i1], x[i2], x[i3]
            for t in range(d):
                wide[t] += b0 * x0[t] + b1 * x1[t] + b2 * x2[t] + b3 * x3[t]
        start += n
    for t in range(d):
        square += wide[t] * wide[t]
        weight[t] = stretch * wide[t]
        exact[t] = weight[t]
    start = 0
    for x in (p, q):
        n = len(x)
        for i in range(0, n, 4):
            i1, i2, i3 = min(i + 1, n - 1), min(i + 2, n - 1), min(i + 3, n - 1)
            x0, x1, x2, x3 = x[i], x[i1], x[i2], x[i3]
            s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
            for t in range(d):
                e = exact[t]
                s0, s1, s2, s3 = s0 + x0[t] * e, s1 + x1[t] * e, s2 + x2[t] * e, s3 + x3[t] * e
            score[start + i3], score[start + i2] = s3, s2
            score[start + i1], score[start + i] = s1, s0
        start += n
    return square
