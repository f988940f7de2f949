"""Energies (ECBM, arXiv 2401.14142): corrections mend concepts nobody corrected, where a class fixes its concepts.

Synthetic only (`neighbours` has real sets). Worlds, each drawn anew for each of 3 seeds: `correlated`, 12 concepts driven by 3
causes, 2,000 training and 1,000 test rows (the law of the sketch behind SCBM's design, from another generator), and
`causal_graph`, 24 classes in 12 groups fix 24 concepts (each on with probability about .5), 48 inputs, weights .2, noise 2,
1,680 training, 360 validation and 360 test rows: the best guess there rises from .78 to .99 and more with half of the
concepts told. Features as they are. A quarter, half and three quarters of the concepts, in random order, are told (3, 6, 9 of
12); accuracy on the others on the same cells before and after, mean over five orders; 95 % interval by a bootstrap over test
rows, the seeds' rows together. ecbm: mean field, width 64, 30 epochs; cbm and cem: 40 epochs, rate .001 or .01; scbm: global
covariance, rate .01, weight of its regulariser .1 or 1, first 40 epochs and 20 draws; chosen with the first seed by the
validation loss of the concepts without corrections.

Changed after a first run, which said 'does not hold': ecbm lost .2 to 1.1 points on `causal_graph`. On validation rows the
concepts there said the class without fault, and the class nothing of the concepts, since E(c, y) had learnt against other
classes alone; it now learns against other concepts as well. scbm had gained 1.9 on `correlated`, its weight chosen by the loss
of each concept apart, which does not see what the weight is for. By the joint likelihood it gained 1.9 again; it now has the
epochs (to 300, with early stopping) and 100 draws that it has in `correlated`, where it had gained 3.7.

Rule, fixed before the first result: holds when on `causal_graph` ecbm lies above 0 at each share, cbm and cem change by exactly
0 on both worlds, and scbm gains 3 points or more on `correlated` after 9 of 12; does not hold otherwise. ecbm on `correlated`
and scbm on `causal_graph` are shown and not counted: in the first no class fixes anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from _fits import SEEDS, Difference, concepts, difference, fits, moved, rows, together

from isthmus.data.table import Splits

WORLDS: dict[str, dict[str, Any]] = {
    "correlated": {},
    "causal_graph": {"concepts": 24, "inputs": 48, "classes": 24, "groups": 12, "alpha_mean": 0.5, "weight_std": 0.2},
}
RATES = {"lr": (1e-3, 1e-2)}
METHODS: dict[str, tuple[dict[str, tuple[Any, ...]], dict[str, Any]]] = {
    "ecbm": (RATES, {"width": 64, "epochs": 30}),
    "scbm": ({"precision_weight": (0.1, 1.0)}, {"covariance": "global", "lr": 0.01}),
    "cbm": (RATES, {"epochs": 40}),
    "cem": (RATES, {"epochs": 40}),
}
SHARES, ORDERS = (0.25, 0.5, 0.75), 5
Found = Mapping[tuple[str, str], Sequence[Difference]]


def gains(name: str, data: Sequence[Splits], seeds: Sequence[int] = SEEDS) -> tuple[float, list[Difference]]:
    """Accuracy before on the concepts not told, at a quarter, and the change at each share."""
    grid, options = METHODS[name]
    by = together if name == "scbm" else concepts
    models = list(zip(fits(name, data, grid, by=by, seeds=seeds, **options), data, strict=True))
    before, found = 0.0, list[Difference]()
    for share in SHARES:
        each = [moved(model, part.test, round(share * part.space.count), ORDERS) for model, part in models]
        before = before or float(np.mean([plain for plain, _ in each]))
        found.append(difference([np.concatenate([change for _, change in each])]))
    return before, found


def verdict(found: Found) -> str:
    """By the rule above."""
    still = all(d.value == d.low == d.high == 0 for (_, name), each in found.items() if name in ("cbm", "cem") for d in each)
    mended = all(d.above for d in found["causal_graph", "ecbm"]) and found["correlated", "scbm"][-1].value >= 3
    return f"{'holds' if still and mended else 'does not hold'} (synthetic only)"


def main() -> None:
    """Print the table and the verdict."""
    found: dict[tuple[str, str], list[Difference]] = {}
    for world, options in WORLDS.items():
        data = [rows(world, seed=seed, **options) for seed in SEEDS]
        for name in METHODS:
            before, found[world, name] = gains(name, data)
            cells = ", ".join(f"{share:.0%} {each}" for share, each in zip(SHARES, found[world, name], strict=True))
            print(f"{world:12} {name:5} {before:.3f} before, told {cells}", flush=True)
    number = "; ".join(f"{world} {name} {each[-1]}" for (world, name), each in found.items())
    claim = "ECBM: where classes fix concepts, corrections mend the others (three quarters told, points); CBM, CEM stay"
    print(json.dumps({"claim": claim, "number": number, "verdict": verdict(found)}))


if __name__ == "__main__":
    main()
