"""Mutual information in nats, as a mean over rows of local terms: plug-in, Ross (mixed) and Kraskov (continuous).

Ross 2014, Mutual information between discrete and continuous data sets, PLoS ONE 9(2); Kraskov, Stögbauer, Grassberger 2004,
Estimating mutual information, algorithm 1. On one number a row the neighbours come from a sort, on several from a tree
(maximum norm). Every estimate is the mean of its local terms (n,), so that a bootstrap may resample the rows without looking
for neighbours again: repeated rows would be their own neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.special import digamma

from isthmus.errors import DataError

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
NOISE = 1e-10
STATES = 20  # a column of no more different values, ten rows to each, is counted, not measured


@dataclass(frozen=True, eq=False)
class Variable:
    """What one concept (or the task) says of n rows: ``codes`` (n,) where it is counted, else ``points`` (n, d)."""

    codes: Whole | None
    points: Floats | None

    def __len__(self) -> int:
        return len(cast("Any", self.codes if self.codes is not None else self.points))

    @cached_property
    def classes(self) -> int:
        return 0 if self.codes is None or not len(self.codes) else int(self.codes.max()) + 1

    def take(self, rows: NDArray[Any]) -> Variable:
        """The rows at ``rows``; codes stay as they are."""
        if self.codes is not None:
            return Variable(np.unique(self.codes[rows], return_inverse=True)[1].astype(np.int64), None)
        assert self.points is not None
        return Variable(None, self.points[rows])


def variable(values: NDArray[Any], *, counted: bool | None = None, seed: int = 0) -> Variable:
    """values (n,) or (n, d), finite -> a ``Variable``.

    ``counted``: True takes the different rows as states, False measures them; None counts where there are at most 20 of them
    with ten rows to each on average. What is measured gets noise of 1e-10 of its range against ties, drawn from the values
    themselves (and ``seed``), so that the order of columns never matters.
    """
    found = np.asarray(values, dtype=np.float64)
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2 or not found.shape[1] or not np.isfinite(found).all():
        raise DataError(f"information: expected finite numbers of shape (n,) or (n, d), got shape {np.shape(values)}")
    if counted is not False:
        states, codes = np.unique(found, axis=0, return_inverse=True)
        if counted or (len(states) <= STATES and len(found) >= 10 * len(states)):
            return Variable(codes.reshape(-1).astype(np.int64), None)
    key = np.frombuffer(np.ascontiguousarray(found).tobytes(), dtype=np.uint32)
    draw = np.random.default_rng([seed, len(key), int(np.bitwise_xor.reduce(key)), int(key.sum(dtype=np.uint64) % 2**32)])
    span = np.ptp(found, axis=0)
    return Variable(None, found + NOISE * np.where(span > 0, span, 1.0) * draw.standard_normal(found.shape))


def entropy(a: Variable) -> Floats:
    """(n,) local entropy -log p(a) of a counted variable, plug-in, nats; their mean is H(a)."""
    codes = _codes(a)
    return -np.log(np.bincount(codes)[codes] / len(codes))


def information(a: Variable, b: Variable, *, k: int = 3) -> Floats:
    """(n,) local terms of I(a; b) in nats, whose mean is the estimate; it may fall below 0 by chance where k neighbours count.

    Both counted: plug-in. One measured: Ross with ``k`` neighbours (fewer in a state of fewer rows; a state of one row says
    nothing and is 0). Both measured: Kraskov's first algorithm.
    """
    if len(a) != len(b):
        raise DataError(f"information: expected as many rows of both, got {len(a)} and {len(b)}")
    if k < 1 or (len(a) <= k and (a.codes is None or b.codes is None)):
        raise DataError(f"information: expected 1 neighbour or more and more rows than neighbours, got {k} and {len(a)} rows")
    if a.codes is not None and b.codes is not None:
        return _plug_in(a.codes, b.codes, b.classes)
    if a.codes is not None:
        return _ross(cast("Floats", b.points), a.codes, k)
    if b.codes is not None:
        return _ross(cast("Floats", a.points), b.codes, k)
    return _kraskov(cast("Floats", a.points), cast("Floats", b.points), k)


def itself(a: Variable, *, k: int = 3) -> float:
    """I(a; a) as the estimators have it: the entropy of what is counted, psi(n) - psi(k) of what is measured.

    The second depends on n and k alone, not on the concepts: say n and k beside whatever is divided by it.
    """
    if a.codes is not None:
        return float(entropy(a).mean())
    return float(digamma(len(a)) - digamma(k))


def _codes(a: Variable) -> Whole:
    if a.codes is None:
        raise DataError("entropy: expected a counted variable, got a measured one; a density has no entropy to divide by")
    return a.codes


def _plug_in(a: Whole, b: Whole, states: int) -> Floats:
    n, both = len(a), a * states + b
    return np.log(np.bincount(both)[both] * n / (np.bincount(a)[a] * np.bincount(b)[b]))


def _ross(x: Floats, y: Whole, k: int) -> Floats:
    sizes = np.bincount(y)
    within = np.empty(len(x))
    for state in np.flatnonzero(sizes > 1):
        rows = np.flatnonzero(y == state)
        within[rows] = _radius(x[rows], min(k, len(rows) - 1))
    used = sizes[y] > 1
    near = _within(x[used], within[used])
    found = np.zeros(len(x))
    own, n = sizes[y[used]], int(used.sum())
    found[used] = digamma(n) + digamma(np.minimum(k, own - 1)) - digamma(own) - digamma(near)
    return found


def _kraskov(a: Floats, b: Floats, k: int) -> Floats:
    radius = _radius(np.concatenate([a, b], axis=1), k)
    return digamma(k) + digamma(len(a)) - digamma(_within(a, radius)) - digamma(_within(b, radius))


def _radius(x: Floats, k: int) -> Floats:
    """(n,) maximum-norm distance to the k-th other row."""
    if x.shape[1] > 1:
        return KDTree(x).query(x, k + 1, p=np.inf)[0][:, -1]
    order = np.argsort(x[:, 0], kind="stable")
    line = np.concatenate([np.full(k, -np.inf), x[order, 0], np.full(k, np.inf)])
    n, best = len(x), np.full(len(x), np.inf)
    here = line[k : k + n]
    for left in range(k + 1):  # so many of the k nearest lie to the left
        best = np.minimum(best, np.maximum(here - line[k - left : k - left + n], line[2 * k - left : 2 * k - left + n] - here))
    found = np.empty(n)
    found[order] = best
    return found


def _within(x: Floats, radius: Floats) -> NDArray[Any]:
    """(n,) rows nearer than ``radius``, the row itself among them."""
    if x.shape[1] > 1:
        return KDTree(x).query_ball_point(x, np.nextafter(radius, 0), p=np.inf, return_length=True)
    here = x[:, 0]
    line, less = np.sort(here), radius - 4 * np.spacing(np.abs(here) + radius)  # sums round; the k-th stays outside
    found = np.searchsorted(line, here + less, "right") - np.searchsorted(line, here - less, "left")
    return np.maximum(found, 1)
