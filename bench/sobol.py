"""Total Sobol indices as CRAFT computes them: 500 rows, 25 coefficients, features of 512, a linear head of 1,000 classes.

The incumbent is CRAFT's loop written from its published description: for each row, mask its codes, decode, evaluate the whole
head, keep one class, and estimate by Jansen's formula in a loop over coefficients. The folded form is algebra and holds for
linear heads only; the generic row is what any other head gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.cases import Row, case
from bench.roof import against
from isthmus.numerics import sobol

Floats = NDArray[Any]
ROWS, RANK, DIM, CLASSES, SAMPLES, CLASS = 500, 25, 512, 1000, 32, 7


def world() -> tuple[Floats, Floats, Floats]:
    """Codes (ROWS, RANK) and dictionary (RANK, DIM), not negative, and head (CLASSES, DIM), float32."""
    draw = np.random.default_rng(0)
    shapes = ((ROWS, RANK), (RANK, DIM), (CLASSES, DIM))
    u, basis, head = (draw.normal(size=shape).astype(np.float32) for shape in shapes)
    return np.abs(u), np.abs(basis), head


def craft(u: Floats, basis: Floats, head: Floats, plan: sobol.Design) -> Floats:
    """Total indices (rows, RANK) of one class, row by row."""
    masks, n = plan.points().numpy().astype(np.float32), len(plan.a)
    found: list[list[float]] = []
    for row in u:
        y = (((row[None] * masks) @ basis) @ head.T)[:, CLASS]
        a = y[:n]
        variance = ((a - a.mean()) ** 2).sum() / (n - 1)
        found.append([((a - y[(2 + i) * n : (3 + i) * n]) ** 2).sum() / (2 * n * variance) for i in range(RANK)])
    return np.array(found)


@case("sobol", "Sobol indices against CRAFT's loop, one thread")
def run(quick: bool) -> Iterator[Row]:
    """Folded for one class and for all, generic, and their distance from the loop."""
    u, basis, head = world()
    plan, part = sobol.design(RANK, SAMPLES), 10 if quick else 100
    weights = basis @ head.T
    tensors = [torch.from_numpy(each) for each in (basis, head.T.copy())]

    def folded() -> sobol.Indices:
        return sobol.folded(u, basis @ head[CLASS][:, None], plan)

    def every() -> sobol.Indices:
        return sobol.folded(u, basis @ head.T, plan)

    def generic() -> sobol.Indices:
        return sobol.generic(lambda x: (x @ tensors[0] @ tensors[1])[:, CLASS], u[:part], plan)

    points = part * SAMPLES * (RANK + 2)
    counted = {
        "folded, one class": (folded, 4.0 * ROWS * RANK**2, "of its time, for the same class"),
        "folded, all classes": (every, 4.0 * ROWS * RANK**2 * CLASSES, "the loop gives one class"),
        "generic": (generic, 2.0 * points * DIM * (RANK + CLASSES), f"{part} rows; no gain is promised"),
    }
    for name, (ours, operations, note) in counted.items():
        loop = lambda: craft(u[:part], basis, head, plan)  # noqa: E731
        others = {"CRAFT's loop": (loop, 1.0 if name == "generic" else ROWS / part)}
        yield from against(name, ours, others, repeats=2 if quick else 5, operations=operations, note=note)
    theirs = craft(u[:part].astype(float), basis.astype(float), head.astype(float), plan)
    for name, found in (
        ("folded, one class", folded().total[:part, :, 0]),
        ("folded, all classes", sobol.folded(u, weights, plan).total[:part, :, CLASS]),
        ("generic", generic().total[:part, :, 0]),
    ):
        apart = float(np.abs(found.numpy() - theirs).max())
        yield Row(f"{name}: index against CRAFT's loop in float64", apart, "share of variance", limit=1e-4)
