"""Two inner loops of the proximal Newton solver. With numba they are compiled; without, the same arithmetic runs slower."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Kernels(NamedTuple):
    """``descend`` and ``gather``, compiled or not."""

    descend: Callable[..., Array]
    gather: Callable[[Array, Array, Array, Array], None]


@cache
def kernels(compiled: bool = True) -> Kernels:
    """The compiled kernels where numba is installed and wanted, else the plain ones: same results."""
    try:
        if not compiled:
            raise ImportError
        from numba import njit
    except ImportError:
        return Kernels(descend, gather)
    return Kernels(njit(cache=True)(descend), njit(cache=True)(gather_loop))


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
