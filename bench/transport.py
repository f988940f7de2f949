"""Entropic transport of many small problems against POT: its loop, its log-domain loop, and its own batch solver.

200 problems of 50 by 60 points, float32 (POT's loops compute in float64). All stop at an error of 1e-5 in the rows, which
POT's loops take as a Euclidean norm: theirs is set to a tenth. No limit is promised.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import torch

from bench.cases import Row, case
from bench.roof import against
from isthmus.numerics import transport

PROBLEMS, N, M, TOL = 200, 50, 60, 1e-5


def costs() -> Any:
    """(PROBLEMS, N, M) float32: squared distances of normal points, about 1 in the mean."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(PROBLEMS, N, 1, 16)), draw.normal(size=(PROBLEMS, 1, M, 16)) + 0.3
    return (((x - y) ** 2).sum(-1) / 32).astype(np.float32)


def incumbents(cost: Any, epsilon: float, part: int) -> dict[str, tuple[Callable[[], Any], float]]:
    """POT in four ways; the loops do ``part`` problems."""
    ot, batch = import_module("ot"), import_module("ot.batch")
    a, b, table = np.full(N, 1 / N), np.full(M, 1 / M), torch.from_numpy(cost)

    def loop(solve: Callable[..., Any]) -> list[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            few = cost[:part].astype(float)
            return [solve(a, b, each, epsilon, numItermax=100_000, stopThr=TOL / 10, warn=False) for each in few]

    def batched(method: str) -> Any:
        return batch.solve_batch(table, epsilon, max_iter=100_000, tol=TOL, method=method, grad="detach").plan

    scale = PROBLEMS / part
    return {
        "POT loop": (lambda: loop(ot.sinkhorn), scale),
        "POT loop, log domain": (lambda: loop(ot.bregman.sinkhorn_log), scale),
        "POT batch": (lambda: batched("sinkhorn"), 1.0),
        "POT batch, log domain": (lambda: batched("log_sinkhorn"), 1.0),
    }


@case("transport", "batched entropic transport against POT, one thread")
def run(quick: bool) -> Iterator[Row]:
    """Mild and strong sharpness; the plans agree."""
    cost = costs()
    try:
        import_module("ot")
    except ImportError:
        yield Row("entropic transport", None, "of its time", note="POT is not installed")
        return
    for epsilon in (0.1,) if quick else (0.1, 0.02):
        ours = lambda e=epsilon: transport.entropic(cost, epsilon=e, tol=TOL)  # noqa: E731
        others = incumbents(cost, epsilon, 5 if quick else 20)
        name = f"{PROBLEMS} x {N} x {M}, epsilon {epsilon:g}"
        operations = 4.0 * PROBLEMS * N * M * transport.INNER
        note = "operations: one round of products; bound by memory, not by arithmetic"
        yield from against(name, ours, others, repeats=3 if quick else 7, operations=operations, note=note)
        plan = ours().plan.double().numpy()
        for key in ("POT loop, log domain", "POT batch, log domain"):
            theirs = others[key][0]()
            apart = max(float(np.abs(plan[k] - np.asarray(each)).sum()) for k, each in enumerate(theirs))
            yield Row(f"{name}: plan against {key}", apart, "of the mass", limit=1e-3, note="largest of the problems")
