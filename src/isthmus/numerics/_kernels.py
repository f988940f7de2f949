"""Inner loops of the sparse heads. With numba they are compiled; without, the same arithmetic runs slower."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.numerics._jit import jitted

Array = NDArray[Any]


class Kernels(NamedTuple):
    """The loops below, compiled or not; ``product`` only where compiled."""

    compiled: bool
    descend: Callable[..., Array]
    gather: Callable[[Array, Array, Array, Array], None]
    pull: Callable[[Array, Array, Array, Array, Array, bool], Array]
    push: Callable[[Array, Array, Array, Array, Array, Array, bool], None]
    product: Callable[[Array, Array, Array, Array, Array], None] | None


@cache
def kernels(compiled: bool = True) -> Kernels:
    """The compiled kernels where numba is installed and wanted, else the plain ones: same results, but for rounding."""
    loops = (descend, gather_loop, pull_loop, push_loop, product)
    found = [jitted(loop, loose=loop is pull_loop) for loop in loops] if compiled else [None]
    if None in found:
        return Kernels(False, descend, gather, pull, push, None)
    return Kernels(True, *found)  # pyright: ignore[reportArgumentType]


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
    """The same, for the compiler, of rows ``at`` of x."""
    out = np.zeros(len(at) + 1, x.dtype)
    u = np.empty(4096, x.dtype)
    for low in range(0, len(q), 4096):
        count = min(4096, len(q) - low)
        total = out[-1] * 0
        for i in range(count):
            moved = v[low + i] - coupling[low + i] if coupled else v[low + i]
            u[i] = q[low + i] * moved
            total += u[i]
        out[-1] += total
        for j in range(len(at)):
            row = x[at[j], low : low + count]
            total = out[-1] * 0
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
    """The same, for the compiler, of rows ``at`` of x."""
    moved = np.empty(4096, x.dtype)
    for low in range(0, len(v), 4096):
        count = min(4096, len(v) - low)
        moved[:] = d[-1]
        for j in range(len(at)):
            step = d[j]
            if step != 0:
                row = x[at[j], low : low + count]
                for i in range(count):
                    moved[i] += step * row[i]
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
