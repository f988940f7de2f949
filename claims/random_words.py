"""VLG-CBM (arXiv 2408.01432): few concepts a class tell real concepts from random ones; many do not.

Real: `cifar10_8k` (42 words, `claims/words/photos.txt`) and `wbcatt` (21 words, `white_cells.txt`, weakly supervised). `pcbm`
on the words' texts and `labelfree`, against `pcbm` on as many random unit vectors in the same text space and, beside, random
directions of the backbone. Heads have exactly 5 non-zero weights a class (NEC 5) by elastic net and truncation, then all
(strength 1e-5). 3 seeds; nothing is chosen.

Seen before the rule, on the same test rows of photos, one seed, with another list of 35 words: pcbm .777 and labelfree .764 at
their default strengths, random directions of the backbone with dense weights .653.

Measured: accuracy on test rows less that of the random vectors in text space, points, 95 % paired bootstrap interval.

Changed since: a first run (recovered; random_words was stopped in it) had penalties on projections scaled to deviation 1,
which the paper's are not; they are as they come now.

Rule, fixed before the first result: holds when at NEC 5 `pcbm` on words is above random vectors, interval above 0, on both
sets, and its lead at NEC 5 is greater than with all weights on both; does not hold when on either set the interval at NEC 5
lies below 0, or the lead is smaller on both; cannot tell here otherwise.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import torch
from _fits import SEEDS, Difference, difference
from _words import Told, hits, told

from isthmus.data.table import Splits

HEADS = {"5": {"nec": 5.0}, "all": {"strength": 1e-5}}


def drawn(set_: Told, seed: int) -> Splits:
    """The splits with random unit vectors in place of the words'."""
    data, generator = set_.splits, torch.Generator().manual_seed(seed)
    vectors = data.space.vectors
    assert vectors is not None
    space = replace(data.space, vectors=torch.nn.functional.normalize(torch.randn(vectors.shape, generator=generator), dim=-1))
    parts = [replace(part, space=space) for part in (data.train, data.validation, data.test)]
    return Splits(*parts, name=data.name, card=data.card)


def compared(set_: Told, seeds: tuple[int, ...] = SEEDS) -> dict[tuple[str, str], tuple[float, Difference]]:
    """Accuracy, and lead over random vectors, of each row and head."""
    found: dict[tuple[str, str], tuple[float, Difference]] = {}
    for head, options in HEADS.items():
        base = hits([set_.fit("pcbm", seed, drawn(set_, seed), **options) for seed in seeds], set_.splits)
        other = {"nec": 5.0} if head == "5" else {"lam": 1e-5}
        rows = {
            "pcbm": [set_.fit("pcbm", seed, **options) for seed in seeds],
            "labelfree": [set_.fit("labelfree", seed, **other) for seed in seeds],
        }
        found["random", head] = float(np.mean(base)), difference([each - each for each in base])
        for name, models in rows.items():
            ours = hits(models, set_.splits)
            lead = difference([a - b for a, b in zip(ours, base, strict=True)])
            found[name, head] = float(np.mean(ours)), lead
    return found


def verdict(found: dict[tuple[str, str, str], Difference]) -> str:
    """By the rule above."""
    sets = sorted({name for name, _, _ in found})
    five, every = ([found[name, "pcbm", head] for name in sets] for head in ("5", "all"))
    wider = [a.value > b.value for a, b in zip(five, every, strict=True)]
    if all(each.above for each in five) and all(wider):
        return "holds"
    return "does not hold" if any(each.below for each in five) or not any(wider) else "cannot tell here"


def main() -> None:
    """Print the table and the verdict."""
    found: dict[tuple[str, str, str], Difference] = {}
    for name in ("cifar10_8k", "wbcatt"):
        for (row, head), (accuracy, lead) in compared(told(name, "plain")).items():
            found[name, row, head] = lead
            print(f"{name:10} NEC {head:>3} {row:10} accuracy {accuracy:.3f} over random vectors {lead}", flush=True)
    number = "; ".join(f"{n} {row} NEC {head} {each}" for (n, row, head), each in found.items() if row != "random")
    claim = "At 5 concepts a class words beat random vectors, by more than with all weights (lead in accuracy, points)"
    print(json.dumps({"claim": claim, "number": number, "verdict": verdict(found)}))


if __name__ == "__main__":
    main()
