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
EVEN = 1e-14
FAR = 1e200  # the compiler is told that nothing is infinite


def advance(
    gram: Floats, y: Floats, cap: Floats, tol: float, limit: int, beta: Floats, slope: Floats
) -> NDArray[np.int64] | None:
    """Move beta (C, m), and slope (C, m) = K beta - y, both float64, towards the optimum for gram (C, m, m), y in {-1, 1}.

    Never uphill, and each until its duality gap is at most ``tol`` of its dual objective, or for ``limit`` products with its
    Gram matrix, ``BUDGET`` at most. Returns how many products each took (C,). With numba and up to ``ROWS`` rows; otherwise
    nothing happens, and the answer is None.
    """
    compiled = jitted(_one, loose=True) if y.shape[1] <= ROWS else None
    if compiled is None:
        return None
    low, high = np.minimum(0.0, y * cap), np.maximum(0.0, y * cap)
    most = min(limit, BUDGET)
    each = (compiled(gram[k], y[k], low[k], high[k], tol, most, beta[k], slope[k]) for k in range(len(y)))
    taken = np.fromiter(each, np.int64, len(y))
    _balance(gram, low, high, beta, slope)
    return taken


def _balance(gram: Floats, low: Floats, high: Floats, beta: Floats, slope: Floats) -> None:
    """Where the steps were those of rounding, the sum has drifted from 0, and no bound holds: share it out."""
    excess = beta.sum(1)
    for k in np.flatnonzero(np.abs(excess) > EVEN * (high - low).sum(1)):
        room = beta[k] - low[k] if excess[k] > 0 else high[k] - beta[k]
        move = room * (-excess[k] / room.sum())
        beta[k] += move
        slope[k] += gram[k] @ move


def _one(  # noqa: C901, PLR0915
    gram: Floats, y: Floats, low: Floats, high: Floats, tol: float, limit: int, beta: Floats, slope: Floats
) -> int:
    """For the compiler: the scheme of Moré & Toraldo (1991, algorithm GPCG), one product with the Gram matrix in each turn.

    A face is the set of points that share which coordinates are at a bound. A turn moves along a direction p; its mode:

    0. Stop if the duality gap is small, with b from the optimality conditions. Otherwise project a gradient step of length
       ``pace`` on the box and the equation (Dai & Fletcher 2006: find the multiplier of the equation, here by Newton's steps
       inside a bracket) and search exactly on the way there. That settles a face. ``pace`` is then |p|^2 / p'Kp, the step of
       Barzilai & Borwein. Go on with 1, if two coordinates at least are free.
    1. A step of conjugate gradients over the free coordinates, with the mean taken off, so that the sum stays; the steps are
       summed up in d. Ends where the residual is small enough for ``tol``, where p is flat (then go far, out of the box),
       or where beta + d has left the box and the gain falls below a tenth of the best so far, or after ``OUTSIDE`` turns
       there. Inside the box: beta + d is taken, back to 0. Outside: 2.
    2. Project beta + d and search exactly on the way there (this lands on a smaller face), back to 0.

    Exact searches along feasible segments never climb. Returns the turns taken.
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
    for taken in range(limit):
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
                return taken
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
                return taken
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
                    return taken
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
    return limit
