"""Corrections of ECBM (arXiv 2401.14142) and SCBM (2406.19272) mend concepts nobody corrected; those of CBM and CEM do not.

Real: `wbcatt` (frozen MobileNetV2 features, 600 training and 300 test rows; 11 concepts) and `dermatology` (22 concepts; 73
test rows). Synthetic: `correlated` (1,000 training, 600 test rows). MLPs are learnt with the model on `dermatology`. Half of
the concepts, in random order, are told; accuracy on the others (a block counts as its most likely state), on the same
cells before and after, mean over three orders and 3 seeds; 95 % interval by a bootstrap over test rows. ecbm: mean field, width
64, 30 epochs; scbm: covariance amortised, mode, 25 epochs, 20 draws; cbm and cem: 40 epochs; autoregressive (20) and realigned
(40) beside, not counted. The rate, .001 or .01, is chosen with the first seed by the validation loss of the concepts without
corrections; a rate at which training diverges is out (added after scbm stopped there, with one figure seen, ecbm on `wbcatt`).

Rule, fixed before the first result: holds when ecbm and scbm lie above 0 on all three sets and cbm and cem change by exactly 0;
does not hold when cbm or cem change, or fewer than three of the six cells of ecbm and scbm lie above 0; cannot tell here
otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from _fits import Difference, concepts, difference, fits, moved, rows

from isthmus.data.table import Splits

SETS: dict[str, dict[str, int]] = {
    "wbcatt": {"train": 600, "test": 300},
    "dermatology": {},
    "correlated": {"train": 1000, "test": 600},
}
METHODS: dict[str, dict[str, Any]] = {
    "ecbm": {"width": 64, "epochs": 30},
    "scbm": {"epochs": 25, "draws": 20},
    "autoregressive": {"epochs": 20},
    "realigned": {"epochs": 40},
    "cbm": {"epochs": 40},
    "cem": {"epochs": 40},
}
COUNTED, STILL, ORDERS = ("ecbm", "scbm"), ("cbm", "cem"), 3


def changes(data: Splits, name: str, seeds: Sequence[int] = (0, 1, 2)) -> tuple[float, Difference]:
    """Accuracy before, and the change, of a method on a set."""
    models = fits(name, data, {"lr": (1e-3, 1e-2)}, by=concepts, seeds=seeds, **METHODS[name])
    found = [moved(model, data.test, data.space.count // 2, ORDERS) for model in models]
    return sum(before for before, _ in found) / len(found), difference([change for _, change in found])


def verdict(found: Mapping[tuple[str, str], Difference]) -> str:
    """By the rule above."""
    still = all(each.value == each.low == each.high == 0 for (_, name), each in found.items() if name in STILL)
    counted = [each.above for (_, name), each in found.items() if name in COUNTED]
    if not still or sum(counted) < 3:
        return "does not hold"
    return "holds" if all(counted) else "cannot tell here"


def main() -> None:
    """Print the table and the verdict."""
    found: dict[tuple[str, str], Difference] = {}
    for name, sizes in SETS.items():
        data = rows(name, **sizes)
        for method in METHODS:
            before, found[name, method] = changes(data, method)
            print(f"{name:12} {method:15} {before:.3f} before, change {found[name, method]} points", flush=True)
    number = "; ".join(f"{name} {method} {each}" for (name, method), each in found.items())
    claim = "ECBM, SCBM: half of the concepts told, the others get more accurate; in CBM, CEM they stay (points)"
    print(json.dumps({"claim": claim, "number": number, "verdict": verdict(found)}))


if __name__ == "__main__":
    main()
