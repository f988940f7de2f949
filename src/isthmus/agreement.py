"""How often two rows of a comparison decide alike: a pair that hardly differs is explained, or it is one method twice."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from isthmus.metrics.core import Array
from isthmus.trace import Trace

SAME = 0.995  # two rows that agree on more test rows than this are flagged


def agreement(traces: dict[str, list[Trace]]) -> dict[str, Any]:
    """Share of test rows on which two rows decide alike, mean over seeds; pairs above .995 are flagged with a reason."""
    names = list(traces)
    if traces[names[0]][0].task.kind == "value":
        return {"names": [], "matrix": [], "flagged": []}
    answers = {name: [made.answers for made in found] for name, found in traces.items()}
    share = lambda a, b: float(np.mean([alike(p, q).mean() for p, q in zip(answers[a], answers[b], strict=True)]))  # noqa: E731
    matrix = [[round(share(a, b), 4) for b in names] for a in names]
    pairs = itertools.combinations(range(len(names)), 2)
    flagged = [
        {"a": names[i], "b": names[j], "share": matrix[i][j], "why": _why(traces[names[i]], traces[names[j]])}
        for i, j in pairs
        if matrix[i][j] > SAME
    ]
    return {"names": names, "matrix": matrix, "flagged": flagged}


def alike(a: Array, b: Array) -> Array:
    """(n,) whether decisions (n,) or (n, Y) are the same, every label of a row."""
    return a == b if a.ndim == 1 else (a == b).all(1)


def _why(a: list[Trace], b: list[Trace]) -> str:
    """What the traces say about two rows that decide alike."""
    right = float(np.mean([alike(made.answers, made.y).mean() for made in (*a, *b)]))
    if right > SAME:
        return f"both decide {100 * right:.1f} % of the rows right, so they can hardly differ"
    if len(a[0].space) and a[0].space == b[0].space and a[0].values.shape == b[0].values.shape:
        gap = float(np.mean([np.abs(p.values - q.values).mean() for p, q in zip(a, b, strict=True)]))
        hard = float(np.mean([np.minimum(p.values, 1 - p.values).mean() for p in (*a, *b)])) if a[0].space.plain else 1.0
        if gap < 0.02:
            near = f", which lie {hard:.3f} from 0 or 1 on average" if hard < 0.05 else ""
            return f"they read the same concept values (mean distance {gap:.4f}){near}: their heads see almost the same inputs"
    return "unexplained: they may be one method; look at their options before reporting both"
