"""Non-negative factors beside scikit-learn called directly: ours is scikit-learn behind a check, and must cost no more.

8,000 rows of 512 features of rank 25 with noise, float32; the same start, tolerance and cap, so that the factors are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import NMF

from bench.cases import Row, case
from bench.roof import against
from isthmus.numerics import nmf

Floats = NDArray[np.float32]
ROWS, DIM, RANK, LIMIT = 8000, 512, 25, 400


def table(rows: int) -> Floats:
    """(rows, DIM) float32 >= 0: sparse codes times a sparse basis, and noise."""
    draw = np.random.default_rng(0)
    codes = draw.gamma(1.0, size=(rows, RANK)) * (draw.random((rows, RANK)) < 0.3)
    basis = draw.gamma(1.0, size=(RANK, DIM)) * (draw.random((RANK, DIM)) < 0.3)
    return (codes @ basis + 0.1 * draw.random((rows, DIM))).astype(np.float32)


@case("nmf", "non-negative factors beside scikit-learn itself, one thread: a tie is promised")
def run(quick: bool) -> Iterator[Row]:
    """Time, and the factors of both."""
    rows = 2000 if quick else ROWS
    x = table(rows)

    def ours() -> nmf.Factors:
        return nmf.factorise(x, RANK)

    def theirs() -> tuple[Any, Floats]:
        make: Any = NMF  # its stub knows no whole number of components
        model = make(RANK, init="nndsvda", random_state=0, tol=1e-4, max_iter=LIMIT)
        return model, model.fit_transform(x)

    found, (model, codes) = ours(), theirs()
    steps = int(model.n_iter_)
    operations = steps * 4.0 * rows * DIM * RANK
    note = f"operations: {steps} steps of two products"
    size, limits = f"{rows} x {DIM}, rank {RANK}", {"scikit-learn": 1.1}
    repeats = 3 if quick else 7
    yield from against(
        size, ours, {"scikit-learn": (theirs, 1.0)}, repeats=repeats, operations=operations, limits=limits, note=note
    )
    apart = max(np.abs(found.codes.numpy() - codes).max(), np.abs(found.basis.numpy() - model.components_).max())
    yield Row(f"{size}: factors against scikit-learn's", float(apart), "largest difference", limit=0.0)
