"""Sparse CBM (arXiv 2404.03323): the bottleneck layer learnt with the Gumbel contrastive loss beats a dense one.

Real: `cifar10_8k` (42 words) and `wbcatt` (21 words, weakly supervised). `sparsecbm` with its loss gumbel, contrastive, l1,
and dense (the same layer without a loss of its own), rate 3e-4 or 3e-3 by validation rows, up to 100 epochs, 3 seeds. Beside:
the share of decisions of the layer's own softmax that a tenth of the concepts hold, which is what sparse means there.

Seen before the rule, on the same test rows of photos, one seed, with another list of 35 words: gumbel .783, contrastive .780,
l1 .779 (dense was not run).

Measured: accuracy on test rows less the dense layer's, points, 95 % paired bootstrap interval.

Rule, fixed before the first result: holds when gumbel is above dense, interval above 0, on both sets; does not hold when on
both the interval does not lie above 0; cannot tell here otherwise.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from _fits import SEEDS, Difference, difference
from _words import Told, hits, told

from isthmus.model import ConceptModel

LOSSES = {"dense": {"loss": "gumbel", "weight": 0.0}, **{name: {"loss": name} for name in ("gumbel", "contrastive", "l1")}}


@torch.no_grad()
def peaked(model: ConceptModel, x: torch.Tensor) -> float:
    """The share of the softmax over concepts that the highest tenth of them hold, mean over rows."""
    shown = model(x).concepts.values.softmax(-1).sort(-1, descending=True).values
    return float(shown[:, : max(1, shown.shape[1] // 10)].sum(-1).mean())


def compared(set_: Told, seeds: tuple[int, ...] = SEEDS) -> dict[str, tuple[float, float, Difference]]:
    """For each loss accuracy, share of the top tenth, and lead over the dense layer."""
    right, held = {}, {}
    for name, options in LOSSES.items():
        models = [set_.best("sparsecbm", seed, [{**options, "lr": lr} for lr in (3e-4, 3e-3)]) for seed in seeds]
        right[name] = hits(models, set_.splits)
        held[name] = float(np.mean([peaked(model, set_.splits.test.x) for model in models]))
    lead = lambda name: difference([a - b for a, b in zip(right[name], right["dense"], strict=True)])  # noqa: E731
    return {name: (float(np.mean(right[name])), held[name], lead(name)) for name in LOSSES}


def verdict(found: dict[tuple[str, str], Difference]) -> str:
    """By the rule above."""
    above = [each.above for (_, name), each in found.items() if name == "gumbel"]
    return "holds" if all(above) else "cannot tell here" if any(above) else "does not hold"


def main() -> None:
    """Print the table and the verdict."""
    found: dict[tuple[str, str], Difference] = {}
    for name in ("cifar10_8k", "wbcatt"):
        for loss, (accuracy, held, lead) in compared(told(name, "plain")).items():
            found[name, loss] = lead
            print(f"{name:10} {loss:11} accuracy {accuracy:.3f} top tenth holds {held:.2f} over dense {lead}", flush=True)
    number = "; ".join(f"{name} {loss} {each}" for (name, loss), each in found.items() if loss != "dense")
    claim = "The Gumbel loss on the bottleneck layer beats a dense layer (accuracy, points)"
    print(json.dumps({"claim": claim, "number": number, "verdict": verdict(found)}))


if __name__ == "__main__":
    main()
