"""Lazy greedy maximisation of a modular score plus coverage, compiled or not: the same additions in the same order.

Minoux (1978): a gain only falls while the set grows, so an old gain is an upper bound, and only the largest need be renewed.
That holds to the last bit here, because each gain is one fixed tree of additions of terms that only fall: the ranking, ties
included (the lowest index wins), is that of the plain greedy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.numerics._jit import jitted

Floats = NDArray[Any]
LANES, BLOCK, BATCH = 32, 32, 16


def ranked(table: Floats, scores: Floats, weight: float, k: int) -> tuple[NDArray[np.int64], Floats, int]:
    """table (n, s), scores (n,) float64 -> indices (k,), gains (k,) float64, and how many gains were computed."""
    index, gain = np.empty(k, np.int64), np.empty(k)
    table = np.ascontiguousarray(table)
    compiled = jitted(_compiled)
    evaluations = (compiled or _plain)(table, scores, weight, index, gain)
    return index, gain, int(evaluations)


def _compiled(table: Floats, scores: Floats, weight: float, index: NDArray[np.int64], gain: Floats) -> int:  # noqa: C901
    """Plain loops for the compiler; bounds are kept with the maximum of each block of BLOCK candidates."""
    n, s = table.shape
    best, lanes = np.zeros(s), np.zeros(LANES)
    whole, blocks = s - s % LANES, (n + BLOCK - 1) // BLOCK
    bound, fresh, top = np.full(n, -np.inf), np.zeros(n, np.int64), np.full(blocks, -np.inf)
    done, evaluations, candidate = 0, 0, 0
    while done < len(index):
        if evaluations < n:  # the first gains: all of them
            candidate = evaluations
        else:
            b = 0
            for other in range(1, blocks):
                if top[other] > top[b]:
                    b = other
            candidate = b * BLOCK
            while bound[candidate] != top[b]:
                candidate += 1
        if evaluations >= n and fresh[candidate] == done:
            index[done], gain[done] = candidate, bound[candidate]
            for t in range(s):
                best[t] = max(best[t], table[candidate, t])
            bound[candidate] = -np.inf
            done += 1
        else:
            lanes[:] = 0.0
            for start in range(0, whole, LANES):
                for lane in range(LANES):
                    rise = table[candidate, start + lane] - best[start + lane]
                    lanes[lane] += rise if rise > 0.0 else 0.0
            for lane in range(s - whole):
                rise = table[candidate, whole + lane] - best[whole + lane]
                lanes[lane] += rise if rise > 0.0 else 0.0
            total = 0.0
            for lane in range(LANES):
                total += lanes[lane]
            bound[candidate] = scores[candidate] + weight * total
            fresh[candidate] = done
            evaluations += 1
        b = candidate // BLOCK
        top[b] = -np.inf
        for other in range(b * BLOCK, min(b * BLOCK + BLOCK, n)):
            top[b] = max(top[b], bound[other])
    return evaluations


def _plain(table: Floats, scores: Floats, weight: float, index: NDArray[np.int64], gain: Floats) -> int:
    """Without a compiler: the BATCH largest bounds are renewed together."""
    n = len(table)
    best = np.zeros(table.shape[1])
    bound, evaluations = gains(table, best, scores, weight), n
    fresh = np.zeros(n, np.int64)
    for done in range(len(index)):
        while fresh[candidate := int(bound.argmax())] != done:
            at = np.argpartition(-bound, min(BATCH, n - 1))[:BATCH]
            at = np.unique(np.append(at[(fresh[at] != done) & (bound[at] > -np.inf)], candidate))
            bound[at], fresh[at] = gains(table[at], best, scores[at], weight), done
            evaluations += len(at)
        index[done], gain[done] = candidate, bound[candidate]
        np.maximum(best, table[candidate], out=best)
        bound[candidate] = -np.inf
    return evaluations


def gains(table: Floats, best: Floats, scores: Floats, weight: float) -> Floats:
    """What each row of table (b, s) adds to the score, given the best (s,) so far: (b,) float64.

    Column t is added to lane t % LANES in order of t, then the lanes in order.
    """
    rise = np.maximum(table - best, 0.0)
    spare = -table.shape[1] % LANES
    if spare:
        rise = np.concatenate([rise, np.zeros((len(rise), spare))], 1)
    lanes = np.add.reduce(rise.reshape(len(rise), -1, LANES), axis=1)
    return scores + weight * np.add.accumulate(lanes, axis=1)[:, -1]
