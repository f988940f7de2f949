"""Gram matrices of many small sets: the half that symmetry leaves, a tile of 4 x 3 inner products at a time.

Libraries tile their products for large matrices; for a hundred rows they lose half of what symmetry saves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.numerics._jit import jitted

Floats = NDArray[Any]
ROWS, WIDTH = 256, 64  # more rows do not stay in the cache; of narrower ones the sums at the end are the larger part


def grams(rows: Floats) -> Floats:
    """(C, m, m) products of the rows (C, m, d), contiguous, with themselves; to rounding the same with and without numba."""
    _, m, d = rows.shape
    compiled = jitted(_tiled, loose=True) if m <= ROWS and d >= WIDTH else None
    if compiled is None:
        return np.matmul(rows, rows.swapaxes(1, 2))
    out = np.empty((len(rows), m, m), rows.dtype)
    compiled(rows, out)
    return out


def _tiled(x: Floats, out: Floats) -> None:
    """For the compiler: twelve sums that fit the registers of any processor; past the last row, the last one again."""
    _, m, d = x.shape
    zero, last = x[0, 0, 0] - x[0, 0, 0], m - 1
    for k in range(len(x)):
        own = out[k]
        for i in range(0, m, 4):
            i1, i2, i3 = min(i + 1, last), min(i + 2, last), min(i + 3, last)
            p0, p1, p2, p3 = x[k, i], x[k, i1], x[k, i2], x[k, i3]
            for j in range(0, i3 + 1, 3):
                j1, j2 = min(j + 1, last), min(j + 2, last)
                q0, q1, q2 = x[k, j], x[k, j1], x[k, j2]
                a0, a1, a2, b0, b1, b2 = zero, zero, zero, zero, zero, zero
                c0, c1, c2, d0, d1, d2 = zero, zero, zero, zero, zero, zero
                for t in range(d):
                    u, v, w = q0[t], q1[t], q2[t]
                    a0, a1, a2 = a0 + p0[t] * u, a1 + p0[t] * v, a2 + p0[t] * w
                    b0, b1, b2 = b0 + p1[t] * u, b1 + p1[t] * v, b2 + p1[t] * w
                    c0, c1, c2 = c0 + p2[t] * u, c1 + p2[t] * v, c2 + p2[t] * w
                    d0, d1, d2 = d0 + p3[t] * u, d1 + p3[t] * v, d2 + p3[t] * w
                own[i, j], own[i, j1], own[i, j2] = a0, a1, a2
                own[i1, j], own[i1, j1], own[i1, j2] = b0, b1, b2
                own[i2, j], own[i2, j1], own[i2, j2] = c0, c1, c2
                own[i3, j], own[i3, j1], own[i3, j2] = d0, d1, d2
        for i in range(m):
            for j in range(i):
                own[j, i] = own[i, j]
