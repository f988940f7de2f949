"""Small support vector machines by conjugate gradients on the faces of their box: most end in some ten products.

Gradient projection and conjugate gradients in turn (Moré & Toraldo, SIAM J. Optimization 1991), with the projection on a box
and one equation (Dai & Fletcher, Mathematical Programming 2006). The problem is that of ``_smo``, which finishes what does not
end here: faces on which the Gram matrix is nearly singular.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.numerics._jit import jitted

Floats = NDArray[Any]
BUDGET, ROWS, OUTSIDE = 300, 400, 3
FAR = 1e200  # the compiler is told that nothing is infinite


def advance(gram: Floats, y: Floats, cap: Floats, tol: float, limit: int, beta: Floats, slope: Floats) -> bool:
    """Move beta (C, m), and slope (C, m) = K beta - y, both float64, towards the optimum for gram (C, m, m), y in {-1, 1}.

    Never uphill, and each until its duality gap is at most ``tol`` of its dual objective, or for ``limit`` products with its
    Gram matrix, ``BUDGET`` at most. With numba and up to ``ROWS`` rows; otherwise nothing happens, and the answer is False.
    """
    compiled = jitted(_one, loose=True) if y.shape[1] <= ROWS else None
    if compiled is None:
        return False
    low, high = np.minimum(0.0, y * cap), np.maximum(0.0, y * cap)
    for k in range(len(y)):
        compiled(gram[k], y[k], low[k], high[k], tol, min(limit, BUDGET), beta[k], slope[k])
    return True


def _one(  # noqa: C901, PLR0915
    gram: Floats, y: Floats, low: Floats, high: Floats, tol: float, limit: int, beta: Floats, slope: Floats
) -> None:
    """For the compiler: one product with the Gram matrix in each turn, along a direction p that one of three modes gives.

    0: from beta to the projection of a gradient step; 1: conjugate gradients over the coordinates inside their bounds, summed
    up in d; 2: from beta to the projection of beta + d, where d leads out of the box.
    """
    m = len(beta)
    p, kp, d, kd, r, goal = np.zeros(m), np.zeros(m), np.zeros(m), np.zeros(m), np.zeros(m), np.zeros(m)
    index = np.zeros(m, np.int64)
    trace, mass, widest = 0.0, 0.0, 0.0
    for t in range(m):
        trace += gram[t, t]
        mass += high[t] - low[t]
        widest = max(widest, high[t] - low[t])
    far = 4 * widest * np.sqrt(m)
    pace, mode, old, best, bound, turns = m / max(trace, 1 / FAR), 0, 0.0, 0.0, 0.0, 0
    for _ in range(limit):
        if mode == 0:  # is this the optimum? b is the middle of what the optimality conditions allow
            top, bottom, steepest, linear, square = FAR, -FAR, 0.0, 0.0, 0.0
            for t in range(m):
                top = min(top, slope[t] if beta[t] < high[t] else FAR)
                bottom = max(bottom, slope[t] if beta[t] > low[t] else -FAR)
                steepest = max(steepest, abs(slope[t]))
                linear += beta[t] * y[t]
                square += beta[t] * (slope[t] + y[t])
            b, loss = -(top + bottom) / 2, 0.0
            for t in range(m):
                loss += (high[t] - low[t]) * max(0.0, -y[t] * (slope[t] + b))
            if square + loss - linear <= tol * (linear - square / 2):
                return
            pace = min(pace, far / max(steepest, 1 / FAR))
            for t in range(m):
                goal[t] = beta[t] - pace * slope[t]
        if mode != 1:  # project: the shift at which the sum is 0, by Newton's steps inside a bracket
            least, most, shift, total = FAR, -FAR, 0.0, 0.0
            for t in range(m):
                least, most = min(least, goal[t] - high[t]), max(most, goal[t] - low[t])
            if not least <= shift <= most:
                shift = (least + most) / 2
            for _ in range(60):
                total, inside = 0.0, 0
                for t in range(m):
                    at = max(low[t], min(high[t], goal[t] - shift))
                    total += at
                    inside += 1 if low[t] < at < high[t] else 0
                if abs(total) <= 1e-15 * mass:
                    break
                if total > 0:
                    least = shift
                else:
                    most = shift
                if inside:
                    shift += total / inside
                if inside == 0 or not least < shift < most:
                    shift = (least + most) / 2
            if abs(total) > 1e-12 * mass:
                return
            for t in range(m):
                goal[t] = max(low[t], min(high[t], goal[t] - shift))
                p[t] = goal[t] - beta[t]
        count = 0
        for t in range(m):
            kp[t] = 0.0
            if p[t] != 0.0:
                index[count] = t
                count += 1
        for i in range(0, count - 3, 4):
            i0, i1, i2, i3 = index[i], index[i + 1], index[i + 2], index[i + 3]
            p0, p1, p2, p3 = p[i0], p[i1], p[i2], p[i3]
            for t in range(m):
                kp[t] += p0 * gram[i0, t] + p1 * gram[i1, t] + p2 * gram[i2, t] + p3 * gram[i3, t]
        for i in range(count - count % 4, count):
            for t in range(m):
                kp[t] += p[index[i]] * gram[index[i], t]
        bend, length, fall = 0.0, 0.0, 0.0
        for t in range(m):
            bend += p[t] * kp[t]
            length += p[t] * p[t]
            fall -= p[t] * slope[t]
        if mode != 1:
            if fall <= 0.0:
                if mode == 0:
                    return
                mode = 0
                continue
            step = fall / bend if fall < bend else 1.0
            for t in range(m):
                beta[t] = beta[t] + step * p[t] if step < 1.0 else goal[t]
                slope[t] += step * kp[t]
            if mode == 2:
                mode = 0
                continue
            pace = length / bend if bend > 0 else pace
            inside, mean, linear = 0, 0.0, 0.0
            for t in range(m):
                linear += beta[t] * (y[t] - slope[t])
                if low[t] < beta[t] < high[t]:
                    inside += 1
                    mean += slope[t]
            if inside < 2:
                continue
            old, best, bound, turns = 0.0, 0.0, tol * linear / mass, 0
            for t in range(m):
                r[t] = mean / inside - slope[t] if low[t] < beta[t] < high[t] else 0.0
                p[t], d[t], kd[t] = r[t], 0.0, 0.0
                old += r[t] * r[t]
            mode = 1 if old > 1 / FAR else 0
            continue
        flat, out, mean, inside = old * np.sqrt(length) > far * bend, False, 0.0, 0
        stride = far / np.sqrt(length) if flat else old / bend
        for t in range(m):
            d[t] += stride * p[t]
            kd[t] += stride * kp[t]
            out |= not low[t] <= beta[t] + d[t] <= high[t]
            if low[t] < beta[t] < high[t]:
                mean += kp[t]
                inside += 1
        new, worst = 0.0, 0.0
        for t in range(m):
            if low[t] < beta[t] < high[t]:
                r[t] -= stride * (kp[t] - mean / inside)
                new += r[t] * r[t]
                worst = max(worst, abs(r[t]))
        gain = stride * old
        best = max(best, gain)
        turns += 1 if out else 0
        if flat or worst <= bound or (out and (gain < 0.1 * best or turns == OUTSIDE)):
            mode = 2 if out else 0
            for t in range(m):
                if out:
                    goal[t] = beta[t] + d[t]
                else:
                    beta[t] += d[t]
                    slope[t] += kd[t]
        else:
            for t in range(m):
                p[t] = r[t] + new / old * p[t]
            old = new
