"""Concept selection at LaBo's size: 200 classes of 500 candidates, 50 chosen of each, features of 512, float32.

The limit is against the Gram product of each class alone, which every exact method has to compute. The incumbent is the plain
greedy in vectorised NumPy on the same Gram matrices: apricot, which LaBo calls, spends most of its time compiling anew in
every fit, and no ratio to that is worth a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.cases import Row, case
from bench.roof import against
from isthmus.numerics import _greedy, select
from isthmus.numerics._jit import jitted

Floats = NDArray[Any]
CLASSES, CANDIDATES, CHOSEN, DIM = 200, 500, 50, 512


def candidates(classes: int) -> Floats:
    """(classes, CANDIDATES, DIM) float32 rows of length 1 around a centre for each class."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(classes, CANDIDATES, DIM)) + 0.7 * draw.normal(size=(classes, 1, DIM))
    return (rows / np.linalg.norm(rows, axis=2, keepdims=True)).astype(np.float32)


def plain(table: Floats, k: int) -> list[int]:
    """The plain greedy: every gain in every round, in float64."""
    best, chosen = np.zeros(table.shape[1]), list[int]()
    for _ in range(k):
        gain = np.maximum(table - best, 0).sum(1)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        best = np.maximum(best, table[chosen[-1]])
    return chosen


@case("select", "concept selection against its Gram product and the plain greedy, one thread")
def run(quick: bool) -> Iterator[Row]:
    """With numba, without it, and the rankings."""
    classes, part, repeats = (40, 2, 3) if quick else (CLASSES, 10, 7)
    rows = candidates(classes)
    flat, groups = rows.reshape(-1, DIM), np.repeat(np.arange(classes), CANDIDATES)
    size = f"{classes} x {CANDIDATES} -> {CHOSEN}"
    operations = classes * CANDIDATES**2 * DIM  # half of each product: it is symmetric

    def ours() -> dict[int, select.Ranking]:
        return select.by_group(flat, groups, CHOSEN)

    def gram() -> None:
        for own in rows:
            own @ own.T

    def greedy() -> list[list[int]]:
        return [plain(own @ own.T, CHOSEN) for own in rows[:part]]

    def without() -> dict[int, select.Ranking]:
        kept, _greedy.jitted = _greedy.jitted, lambda _: None  # type: ignore[assignment]
        try:
            return select.by_group(flat[: part * CANDIDATES], groups[: part * CANDIDATES], CHOSEN)
        finally:
            _greedy.jitted = kept

    compiled = jitted(_greedy._compiled) is not None
    label = "with numba" if compiled else "without numba (not installed)"
    incumbents = {
        "its Gram product": (gram, 1.0),
        "plain greedy": (greedy, classes / part),
        "without numba": (without, classes / part),
    }
    limits = {"its Gram product": 1.5} if compiled else {}
    note = "the roof counts half of each symmetric product, as NumPy computes it"
    yield from against(f"{size}, {label}", ours, incumbents, repeats=repeats, operations=operations, limits=limits, note=note)
    part = classes  # rankings everywhere
    found, other, old = ours(), without(), greedy()
    apart = sum((np.array(old[g]) + g * CANDIDATES != found[g].index.numpy()).sum() for g in range(part))
    yield Row("ranking against the plain greedy", float(apart), "positions differ", limit=0.0, note=f"of {part * CHOSEN}")
    apart = sum(int((other[g].index != found[g].index).sum()) for g in range(part))
    yield Row("ranking without numba", float(apart), "positions differ", limit=0.0, note=f"of {part * CHOSEN}")
