"""Sequential minimal optimisation of many small support vector machines, in lockstep or compiled: the same steps.

Platt (1998) with the second-order choice of pairs of Fan, Chen and Lin (JMLR 2005), as in LIBSVM. With beta = y * alpha
the dual is min 1/2 beta' K beta - y' beta over sum(beta) = 0 and beta between 0 and cap * y.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.numerics._jit import jitted

Floats, Counts = NDArray[Any], NDArray[np.int64]
FAR, TINY = 1e30, 2.0**-40
FLIP = np.int64(2**63 - 1)


def solve(gram: Floats, y: Floats, cap: Floats, tol: Floats, limit: Counts, beta: Floats, slope: Floats) -> Counts:
    """Move beta (C, m), and slope (C, m) = K beta - y, both float64, to the optimum for gram (C, m, m), y in {-1, 1}, cap >= 0.

    Stops where no pair violates the optimality conditions by more than ``tol`` (C,), or after ``limit`` (C,) steps. Returns
    the steps taken (C,).
    """
    low, high = np.minimum(0.0, y * cap), np.maximum(0.0, y * cap)
    compiled = jitted(_one)
    if compiled is None:
        return _lockstep(gram, low, high, tol, limit, beta, slope)
    each = (compiled(gram[k], low[k], high[k], tol[k], int(limit[k]), beta[k], slope[k]) for k in range(len(y)))
    return np.fromiter(each, np.int64, len(y))


def _one(gram: Floats, low: Floats, high: Floats, tol: float, limit: int, beta: Floats, slope: Floats) -> int:  # noqa: C901
    """One machine, in plain loops that a compiler can vectorise; returns the steps taken.

    It vectorises maxima of integers, not of floats: floats are compared by their bits, the negative ones flipped.
    """
    m, inverse = len(beta), np.empty_like(gram)
    for i in range(m):
        for t in range(m):
            a = gram[i, i] + gram[t, t] - (gram[i, t] + gram[i, t])
            inverse[i, t] = 1 / (a if a > TINY else TINY)
    up, down, value, score = np.zeros(m), np.zeros(m), np.empty(m), np.empty(m)
    bits, score_bits = value.view(np.int64), score.view(np.int64)
    for t in range(m):
        up[t] = FAR if beta[t] >= high[t] else 0.0
        down[t] = -FAR if beta[t] <= low[t] else 0.0
    for step in range(limit):
        least = FLIP
        for t in range(m):
            value[t] = slope[t] + up[t]
        for t in range(m):
            least = min(least, bits[t] ^ ((bits[t] >> 63) & FLIP))
        i = 0
        while bits[i] ^ ((bits[i] >> 63) & FLIP) != least:
            i += 1
        top, row = value[i], inverse[i]
        for t in range(m):
            value[t] = slope[t] + down[t]
            d = value[t] - top
            d = d if d > 0.0 else 0.0
            score[t] = d * d * row[t]
        most, best = -FLIP, np.int64(0)
        for t in range(m):
            most = max(most, bits[t] ^ ((bits[t] >> 63) & FLIP))
            best = max(best, score_bits[t])
        if np.int64(most ^ ((most >> 63) & FLIP)).view(np.float64) - top < tol:
            return step
        j = 0
        while score_bits[j] != best:
            j += 1
        room, rest = high[i] - beta[i], beta[j] - low[j]
        s = min((slope[j] - top) * inverse[i, j], min(room, rest))
        beta[i] = high[i] if s == room else beta[i] + s
        beta[j] = low[j] if s == rest else beta[j] - s
        up[i], down[i] = (FAR if s == room else 0.0), 0.0
        down[j], up[j] = (-FAR if s == rest else 0.0), 0.0
        for t in range(m):
            slope[t] += s * (gram[i, t] - gram[j, t])
    return limit


def _lockstep(gram: Floats, low: Floats, high: Floats, tol: Floats, limit: Counts, beta: Floats, slope: Floats) -> Counts:
    """All machines at once, one pair each in every step; those that have finished are put aside."""
    diagonal = np.diagonal(gram, axis1=1, axis2=2)
    inverse = 1 / np.maximum(diagonal[:, :, None] + diagonal[:, None] - (gram + gram), TINY)
    live, into, grown = np.arange(len(beta)), beta, slope
    up, down = np.where(beta >= high, FAR, 0.0), np.where(beta <= low, -FAR, 0.0)
    beta, slope, taken = beta.copy(), slope.copy(), np.zeros(len(beta), np.int64)
    for step in range(int(limit.max()) + 1):
        every = np.arange(len(live))
        i = (slope + up).argmin(1)
        top = slope[every, i] + up[every, i]
        reach = slope + down
        done = (reach.max(1) - top < tol) | (step >= limit[live])
        if done.any():
            into[live[done]], grown[live[done]], taken[live[done]] = beta[done], slope[done], step
            if done.all():
                break
            keep = ~done
            live, beta, slope, up, down = live[keep], beta[keep], slope[keep], up[keep], down[keep]
            low, high, tol, i, top, reach = low[keep], high[keep], tol[keep], i[keep], top[keep], reach[keep]
            every = np.arange(len(live))
        over = np.maximum(reach - top[:, None], 0.0)
        j = (over * over * inverse[live, i]).argmax(1)
        room, rest = high[every, i] - beta[every, i], beta[every, j] - low[every, j]
        s = np.minimum((slope[every, j] - top) * inverse[live, i, j], np.minimum(room, rest))
        beta[every, i] = np.where(s == room, high[every, i], beta[every, i] + s)
        beta[every, j] = np.where(s == rest, low[every, j], beta[every, j] - s)
        up[every, i], down[every, i] = np.where(s == room, FAR, 0.0), 0.0
        down[every, j], up[every, j] = np.where(s == rest, -FAR, 0.0), 0.0
        slope += s[:, None] * (gram[live, i] - gram[live, j])
    return taken
