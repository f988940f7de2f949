"""Inner loops of the sparse heads. With numba they are compiled; without, the same arithmetic runs slower."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.numerics._jit import jitted

Array = NDArray[Any]
SMALL = 950_000  # operations of a product that is quick because it is small
RAISED = 1e-5  # of a curvature's diagonal is added to it


class Kernels(NamedTuple):
    """The loops below, compiled or not; ``product`` only where compiled."""

    compiled: bool
    curvature: Callable[[Array, Array, Array], Array]
    descend: Callable[..., Array]
    gather: Callable[[Array, Array, Array, Array], None]
    pull: Callable[[Array, Array, Array, Array, Array, bool], Array]
    push: Callable[[Array, Array, Array, Array, Array, Array, bool], None]
    product: Callable[[Array, Array, Array, Array, Array], None] | None


@cache
def kernels(compiled: bool = True) -> Kernels:
    """The compiled kernels where numba is installed and wanted, else the plain ones: same results, but for rounding."""
    loops = (curvature_loop, descend, gather_loop, pull_loop, push_loop, product)
    found = [jitted(loop, loose=loop in (curvature_loop, pull_loop)) for loop in loops] if compiled else [None]
    if None in found:
        return Kernels(False, curvature, descend, gather, pull, push, None)
    return Kernels(True, *found)  # pyright: ignore[reportArgumentType]


def curvature(x: Array, at: Array, weight: Array) -> Array:
    """X diag(weight) X' (a + 1, a + 1) of rows ``at`` of x and a row of ones; its diagonal raised a little.

    In tiles that stay in the cache, and small enough for what is quick with small products, where it can be.
    """
    a = len(at) + 1
    h = np.zeros((a, a), x.dtype)
    size = SMALL // a**2 if a**2 < SMALL // 256 else 4096
    some = np.ones((a, min(size, len(weight))), x.dtype)
    for low in range(0, len(weight), size):
        w = weight[low : low + size]
        tile = some[:, : len(w)]
        tile[:-1] = x[at, low : low + len(w)]
        h += (tile * w) @ tile.T
    h.flat[:: a + 1] *= 1 + RAISED
    return h


def curvature_loop(x: Array, at: Array, weight: Array) -> Array:
    """The same, for the compiler: half of it, in tiles of four by four sums, past the last row on rows of zeros."""
    a, n = len(at) + 1, len(weight)
    wide, size = (a + 3) // 4 * 4, min(512, n)
    h, some, root = np.zeros((wide, wide), x.dtype), np.zeros((wide, size), x.dtype), np.empty(size, x.dtype)
    zero = some[0, 0]
    for low in range(0, n, size):
        count = min(size, n - low)
        for t in range(count):
            root[t] = np.sqrt(weight[low + t])
            some[a - 1, t] = root[t]
        for i in range(a - 1):
            row = x[at[i], low : low + count]
            for t in range(count):
                some[i, t] = row[t] * root[t]
        for i in range(0, wide, 4):
            a0, a1, a2, a3 = some[i, :count], some[i + 1, :count], some[i + 2, :count], some[i + 3, :count]
            for j in range(0, i + 4, 4):
                b0, b1, b2, b3 = some[j, :count], some[j + 1, :count], some[j + 2, :count], some[j + 3, :count]
                s00, s01, s02, s03, s10, s11, s12, s13 = zero, zero, zero, zero, zero, zero, zero, zero
                s20, s21, s22, s23, s30, s31, s32, s33 = zero, zero, zero, zero, zero, zero, zero, zero
                for t in range(count):
                    p, q, r, s = a0[t], a1[t], a2[t], a3[t]
                    u, v, w, z = b0[t], b1[t], b2[t], b3[t]
                    s00, s01, s02, s03 = s00 + p * u, s01 + p * v, s02 + p * w, s03 + p * z
                    s10, s11, s12, s13 = s10 + q * u, s11 + q * v, s12 + q * w, s13 + q * z
                    s20, s21, s22, s23 = s20 + r * u, s21 + r * v, s22 + r * w, s23 + r * z
                    s30, s31, s32, s33 = s30 + s * u, s31 + s * v, s32 + s * w, s33 + s * z
                sums = (s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33)
                for place, total in enumerate(sums):
                    h[i + place // 4, j + place % 4] += total
    for i in range(a):
        h[i, i] *= 1 + RAISED
        for j in range(i):
            h[j, i] = h[i, j]
    return h[:a, :a].copy()


def descend(h: Array, g: Array, w: Array, l1: float, l2: float, sweeps: int, enough: float) -> Array:
    """Coordinate descent on min over d of g·d + d'Hd/2 + l1 |w + d| + l2/2 |w + d|²; the last coordinate is free of both.

    h (a, a) symmetric, g, w (a,). Stops after ``sweeps``, or when no step lowers the value by more than ``enough``.
    """
    d = np.zeros_like(g)
    r = g.copy()  # g + H d
    last = len(g) - 1
    for _ in range(sweeps):
        greatest = 0.0
        for j in range(len(g)):
            curve = h[j, j]
            if curve <= 0:
                continue
            if j == last:
                new = d[j] - r[j] / curve
            else:
                target = curve * (w[j] + d[j]) - r[j]
                new = -w[j]
                if target > l1:
                    new += (target - l1) / (curve + l2)
                elif target < -l1:
                    new += (target + l1) / (curve + l2)
            step = new - d[j]
            if step != 0:
                d[j] = new
                r += step * h[j]
                greatest = max(greatest, curve * step * step)
        if greatest <= enough:
            break
    return d


def gather(x: Array, columns: Array, rows: Array, out: Array) -> None:
    """out[i, j] = x[columns[i], rows[j]]."""
    for place, column in enumerate(columns):
        np.take(x[column], rows, out=out[place], mode="clip")


def gather_loop(x: Array, columns: Array, rows: Array, out: Array) -> None:
    """The same, for the compiler."""
    for i in range(len(columns)):
        column = columns[i]
        for j in range(len(rows)):
            out[i, j] = x[column, rows[j]]


def pull(x: Array, at: Array, q: Array, v: Array, coupling: Array, coupled: bool) -> Array:
    """(a + 1,) X u and Σ u, with u = q (v - coupling): how far a class's gradient has moved. x (a, m) holds ``at`` alone."""
    u = q * (v - coupling) if coupled else q * v
    return np.append(x @ u, u.sum())


def pull_loop(x: Array, at: Array, q: Array, v: Array, coupling: Array, coupled: bool) -> Array:
    """The same, for the compiler, of rows ``at`` of x; four at a time, for memory is then read faster."""
    a = len(at)
    out, u = np.zeros(a + 1, x.dtype), np.empty(4096, x.dtype)
    zero = out[a]
    for low in range(0, len(q), 4096):
        count = min(4096, len(q) - low)
        total = zero
        for i in range(count):
            moved = v[low + i] - coupling[low + i] if coupled else v[low + i]
            u[i] = q[low + i] * moved
            total += u[i]
        out[a] += total
        for j in range(0, a - 3, 4):
            r0, r1 = x[at[j], low : low + count], x[at[j + 1], low : low + count]
            r2, r3 = x[at[j + 2], low : low + count], x[at[j + 3], low : low + count]
            t0, t1, t2, t3 = zero, zero, zero, zero
            for i in range(count):
                t0, t1, t2, t3 = t0 + r0[i] * u[i], t1 + r1[i] * u[i], t2 + r2[i] * u[i], t3 + r3[i] * u[i]
            out[j], out[j + 1], out[j + 2], out[j + 3] = out[j] + t0, out[j + 1] + t1, out[j + 2] + t2, out[j + 3] + t3
        for j in range(a - a % 4, a):
            row, total = x[at[j], low : low + count], zero
            for i in range(count):
                total += row[i] * u[i]
            out[j] += total
    return out


def push(x: Array, at: Array, d: Array, p: Array, v: Array, coupling: Array, coupled: bool) -> None:
    """Move the logits v by d (a + 1,), and the coupling by p times as much. x (a, m) holds ``at`` alone."""
    moved = d[:-1] @ x + d[-1]
    v += moved
    if coupled:
        coupling += p * moved


def push_loop(x: Array, at: Array, d: Array, p: Array, v: Array, coupling: Array, coupled: bool) -> None:
    """The same, for the compiler, of rows ``at`` of x; four of those that move at a time."""
    own, step = at[d[:-1] != 0], d[:-1][d[:-1] != 0]
    a = len(own)
    moved = np.empty(4096, x.dtype)
    for low in range(0, len(v), 4096):
        count = min(4096, len(v) - low)
        moved[:] = d[-1]
        for j in range(0, a - 3, 4):
            d0, d1, d2, d3 = step[j], step[j + 1], step[j + 2], step[j + 3]
            r0, r1 = x[own[j], low : low + count], x[own[j + 1], low : low + count]
            r2, r3 = x[own[j + 2], low : low + count], x[own[j + 3], low : low + count]
            for i in range(count):
                moved[i] += d0 * r0[i] + d1 * r1[i] + d2 * r2[i] + d3 * r3[i]
        for j in range(a - a % 4, a):
            d0, row = step[j], x[own[j], low : low + count]
            for i in range(count):
                moved[i] += d0 * row[i]
        for i in range(count):
            v[low + i] += moved[i]
        if coupled:
            for i in range(count):
                coupling[low + i] += p[low + i] * moved[i]


def product(starts: Array, columns: Array, values: Array, x: Array, out: Array) -> None:
    """out (Y, n) += W x of sparse W (Y, D), its row k in ``starts[k]:starts[k + 1]``; x (D, n) in tiles for the cache."""
    size = max(64, (1 << 18) // len(x))
    for low in range(0, x.shape[1], size):
        high = min(low + size, x.shape[1])
        for k in range(len(out)):
            row, place, end = out[k, low:high], starts[k], starts[k + 1]
            while place + 4 <= end:
                a, b, c, d = values[place], values[place + 1], values[place + 2], values[place + 3]
                xa, xb = x[columns[place], low:high], x[columns[place + 1], low:high]
                xc, xd = x[columns[place + 2], low:high], x[columns[place + 3], low:high]
                for i in range(high - low):
                    row[i] += a * xa[i] + b * xb[i] + c * xc[i] + d * xd[i]
                place += 4
            while place < end:
                a, xa = values[place], x[columns[place], low:high]
                for i in range(high - low):
                    row[i] += a * xa[i]
                place += 1
