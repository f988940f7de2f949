"""Two inner loops of the proximal Newton solver. With numba they are compiled; without, the same arithmetic runs slower."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Kernels(NamedTuple):
    """``descend`` and ``gather``, compiled or not, and ``product``, where compiled."""

    descend: Callable[..., Array]
    gather: Callable[[Array, Array, Array, Array], None]
    product: Callable[[Array, Array, Array, Array, Array], None] | None


@cache
def kernels(compiled: bool = True) -> Kernels:
    """The compiled kernels where numba is installed and wanted, else the plain ones: same results."""
    try:
        if not compiled:
            raise ImportError
        from numba import njit
    except ImportError:
        return Kernels(descend, gather, None)
    return Kernels(njit(cache=True)(descend), njit(cache=True)(gather_loop), njit(cache=True)(product))


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
