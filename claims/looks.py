"""Furby et al. (arXiv 2402.00912): concept bottlenecks look at the right place where concepts occur in many combinations.

Synthetic only: `poker`, three cards of 52 concepts, boxes of every card known. Free hands (any cards of a class meet, labels
are each picture's own) against fixed hands (two for each class that share no card, so that a card gives its hand away). 4,000
training pictures, 500 for validation, 400 for test; cards turned by up to 5 degrees. `cbm` independent, its residual network
learnt on the concepts, 25 epochs, rate .001; 3 seeds, which draw pictures, fixed hands and weights. No setting chosen.

Measured on the first 300 test hands of the same kind as training: pointing game (the peak of a concept's map, integrated
gradients of 16 steps, absolute, lies in the concept's box), over the three cards that are there; beside, the share of a
map's mass inside the box, the distance of the peak, and the same maps held against another picture's boxes (a control that
knows where cards lie and not which). Points, 95 % bootstrap interval over pictures of the mean over seeds.

Rule, fixed before the first result: holds when the pointing game of free hands leads both fixed hands' and its own control by
at least 10 points, both intervals above 0; does not hold when one of the two intervals lies below 10; cannot tell here
otherwise.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from _fits import SEEDS, Difference

import isthmus as im
from isthmus.data.table import Splits, Table
from isthmus.maps import maps
from isthmus.metrics.core import interval, resamples
from isthmus.metrics.location import mass_inside, pointing, pointing_distance
from isthmus.model import ConceptModel

SIZES = {"train": 4000, "validation": 500, "test": 400, "rotation": 5.0}
ROWS = 300


@dataclass(frozen=True)
class Looked:
    """For each picture (n,): share of its cards whose map peaks in their box, and in another picture's boxes; the rest."""

    own: np.ndarray
    other: np.ndarray
    inside: float
    distance: float
    right: float


def looked(model: ConceptModel, rows: Table) -> Looked:
    """Maps of the cards that are there, against their boxes."""
    assert rows.c is not None and rows.where is not None
    here = rows.c.argsort(dim=1, descending=True, stable=True)[:, :3]
    x = rows.read()
    shown = maps(model, x, here, by="integrated", steps=16).abs().double().numpy()
    boxes = torch.take_along_dim(rows.where, here[..., None], 1).double().numpy()
    other, size = np.roll(boxes, 1, axis=0), (x.shape[2], x.shape[3])
    share = lambda b: (lambda rows: rows[:, 0] / rows[:, 1])(pointing.weighted(shown, b, size).rows)  # type: ignore[union-attr]  # noqa: E731
    values = model(x).concepts.values
    right = float(((values > 0.5).float() == rows.c).float().mean())
    return Looked(share(boxes), share(other), mass_inside(shown, boxes, size), pointing_distance(shown, boxes, size), right)


def world(hands: str, seed: int) -> Splits:
    """Pictures of one kind of hand."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cards that no fixed hand holds
        return im.data.load("poker", hands=hands, seed=seed, **SIZES)


def fit(data: Splits, seed: int, epochs: int = 25) -> ConceptModel:
    """Concepts first, with their network; then the head."""
    return im.fit("cbm", data, mode="independent", epochs=epochs, seed=seed)


def apart(a: list[np.ndarray], b: list[np.ndarray]) -> Difference:
    """Mean over seeds of a less b, points; rows of the two are drawn apart, for they are different pictures."""
    one, two = np.mean(a, 0), np.mean(b, 0)
    draws = [resamples(len(each), 1000, seed=at) @ each / len(each) for at, each in enumerate((one, two))]
    low, high = interval(draws[0] - draws[1])
    return Difference(100 * float(one.mean() - two.mean()), 100 * low, 100 * high)


def verdict(fixed: Difference, control: Difference) -> str:
    """By the rule above."""
    if fixed.high < 10 or control.high < 10:
        return "does not hold"
    return "holds" if all(each.value >= 10 and each.above for each in (fixed, control)) else "cannot tell here"


def main() -> None:
    """Print the table and the verdict."""
    found: dict[str, list[Looked]] = {"free": [], "fixed": []}
    for hands, told in found.items():
        for seed in SEEDS:
            data = world(hands, seed)
            told.append(looked(fit(data, seed), data.test.take(range(ROWS))))
        mean = lambda name, told=told: float(np.mean([np.mean(getattr(one, name)) for one in told]))  # noqa: E731
        print(
            f"{hands:6} pointing {mean('own'):.3f}, another picture's boxes {mean('other'):.3f}, mass inside "
            f"{mean('inside'):.3f}, distance {mean('distance'):.1f} px, concepts right {mean('right'):.3f}",
            flush=True,
        )
    own = {hands: [one.own for one in told] for hands, told in found.items()}
    fixed = apart(own["free"], own["fixed"])
    control = apart(own["free"], [one.other for one in found["free"]])
    beside = apart(own["fixed"], [one.other for one in found["fixed"]])
    number = f"free less fixed {fixed}; free less its control {control}; fixed less its control {beside}"
    claim = "free hands look at the right card and fixed hands do not (pointing game, points)"
    print(json.dumps({"claim": claim, "number": number, "verdict": f"{verdict(fixed, control)} (synthetic only)"}))


if __name__ == "__main__":
    main()
