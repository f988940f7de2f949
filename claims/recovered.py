"""PCBM-h (arXiv 2205.15480): a residual beside the concepts recovers the accuracy of the model without concepts.

Real: `cifar10_8k` (42 words) and `wbcatt` (its 31 attribute states as a concept bank of labelled rows, CAVs of 50 rows a
side, C by validation). MobileNetV2 features. `pcbm` and `pcbm_h`, strength 2e-4 or 1e-5, by validation rows; the model
without concepts is a linear probe, rate .01 or .001. 3 seeds.

Seen before the rule, on the same test rows of photos, one seed, with another list of 35 words: probe .829, pcbm .777,
pcbm_h .815.

Measured: accuracy of the probe less that of PCBM and of PCBM-h on test rows, points, 95 % paired bootstrap interval.

Changed since: a first run (recovered; random_words was stopped in it) had penalties on projections scaled to deviation 1,
which the paper's are not; they are as they come now.

Rule, fixed before the first result: holds when on both sets PCBM-h is within 1 point of the probe (interval's upper end at
most 1) and nearer than PCBM; does not hold when on both sets the interval's lower end lies above 1; cannot tell here
otherwise.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from _fits import SEEDS, Difference, accuracy, difference, fit, right, rows
from _words import told

from isthmus.data.table import Splits
from isthmus.model import ConceptModel

STRENGTHS = [{"strength": 2e-4}, {"strength": 1e-5}]
RATES = [{"lr": 1e-2}, {"lr": 1e-3}]


def best(make: Any, grid: list[dict[str, Any]], data: Splits) -> ConceptModel:
    """Of the settings the one most often right on validation rows."""
    return max([make(**options) for options in grid], key=lambda model: accuracy(model, data))


def compared(data: Splits, make: Any, seeds: tuple[int, ...] = SEEDS) -> dict[str, tuple[float, Difference]]:
    """Accuracy of each row, and how far it lies below the probe's; ``make(name, seed, **options)`` fits a model."""
    hits = {
        name: [right(best(lambda n=name, s=seed, **o: make(n, s, **o), grid, data), data.test).astype(float) for seed in seeds]
        for name, grid in (("linear_probe", RATES), ("pcbm", STRENGTHS), ("pcbm_h", STRENGTHS))
    }
    loss = {name: difference([a - b for a, b in zip(hits["linear_probe"], own, strict=True)]) for name, own in hits.items()}
    return {name: (float(np.mean(own)), loss[name]) for name, own in hits.items()}


def verdict(found: dict[tuple[str, str], Difference]) -> str:
    """By the rule above."""
    sets = sorted({name for name, _ in found})
    near = [found[s, "pcbm_h"].high <= 1 and found[s, "pcbm_h"].value < found[s, "pcbm"].value for s in sets]
    if all(near):
        return "holds"
    return "does not hold" if all(found[s, "pcbm_h"].low > 1 for s in sets) else "cannot tell here"


def main() -> None:
    """Print the table and the verdict."""
    found: dict[tuple[str, str], Difference] = {}
    photos, cells = told("cifar10_8k", "plain"), rows("wbcatt", concepts="states")
    tables = {
        "cifar10_8k": compared(photos.splits, lambda name, seed, **o: photos.fit(name, seed, **o)),
        "wbcatt": compared(cells, lambda name, seed, **o: fit(name, cells, seed, **o)),
    }
    for name, table in tables.items():
        for row, (value, loss) in table.items():
            found[name, row] = loss
            print(f"{name:10} {row:12} accuracy {value:.3f} below the probe {loss}", flush=True)
    number = "; ".join(f"{name} {row} {each}" for (name, row), each in found.items() if row != "linear_probe")
    claim = "PCBM-h recovers the accuracy of the model without concepts (probe less it, points)"
    print(json.dumps({"claim": claim, "number": number, "verdict": verdict(found)}))


if __name__ == "__main__":
    main()
