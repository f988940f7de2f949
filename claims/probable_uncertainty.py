"""Probable concepts (ProbCBM, arXiv 2306.01574): a concept is less sure where the picture shows less, and where it is wrong.

(a) Ambiguity. Real: `wbcatt`, 100 test pictures of white cells as they are and blurred (Gaussian, 1, 2 and 4 of 128 pixels),
read by the same frozen MobileNetV2 as the training rows; ambiguity is the blur. Rendered: `poker`, 3,000 training and 500 test
hands, each card veiled with probability .4; ambiguity is what its veil takes; cards that are not there are left out. Measured:
correlation of ambiguity with the rank of ProbCBM's uncertainty among the cells of its concept.
(b) Errors. Real: `wbcatt` (1,000 training, 600 test rows; 11 concepts) and `dermatology` (22 concepts, 73 test rows); and
`poker`, all cards. Measured: AUROC of the uncertainty for 'this concept is wrong' among the rows of a concept, mean over
concepts that are wrong in at least five rows; beside it the entropy of ProbCBM's own answer and of a joint CBM's, each for its
own errors.

Poker's pictures are read by a residual network that learnt the concepts (10 epochs, one for both methods) and is frozen; an MLP
is learnt with the model on `dermatology`. probcbm: 20 epochs, 10 draws; cbm: 40 epochs; 3 seeds, rate .01, or .001 where that
has the better validation loss of the concepts with the first seed. 95 % intervals by a bootstrap over pictures or rows of the
mean over seeds.

Rule, fixed before the first result: holds when both correlations lie above 0 and all three AUROC above .5; does not hold when
a correlation lies below 0, or at most one AUROC lies above .5; cannot tell here otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from _fits import SEEDS, concepts, decided, encoded, fits, pictured, rows
from scipy.stats import rankdata

from isthmus.data.table import Splits, Table
from isthmus.data.worlds.veils import blurred
from isthmus.features import build
from isthmus.methods.probcbm import uncertainty
from isthmus.metrics.core import Mean, Ranked, Sums, Weighted, interval, resamples
from isthmus.model import ConceptModel
from isthmus.trace import run

METHODS: dict[str, dict[str, Any]] = {"probcbm": {"epochs": 20, "samples": 10}, "cbm": {"epochs": 40}}
BLURS, PICTURES, FEWEST = (0.0, 1.0, 2.0, 4.0), 100, 5
Score = tuple[float, float, float]  # a value and its interval


@torch.no_grad()
def unsure(model: ConceptModel, x: torch.Tensor) -> np.ndarray:
    """(n, M) ProbCBM's uncertainty of each concept."""
    model.eval()
    return uncertainty(model, x)[0].numpy()


@torch.no_grad()
def entropy(model: ConceptModel, part: Table) -> np.ndarray:
    """(n, M) nats, of each concept's answer."""
    p = run(model, encoded(model, part)).concepts.values
    parts = [p[:, at] for at in model.space.slices]
    both = [torch.cat([1 - each, each], 1) if each.shape[1] == 1 else each for each in parts]
    return torch.stack([torch.special.entr(each).sum(1) for each in both], 1).numpy()


@torch.no_grad()
def wrong(model: ConceptModel, part: Table) -> np.ndarray:
    """(n, M) bool: is the concept's likeliest state another than its label?"""
    assert part.c is not None
    return (decided(run(model, encoded(model, part)).concepts.values, model.space) != decided(part.c, model.space)).numpy()


def over_seeds(forms: Sequence[Weighted], n: int) -> Score:
    """The mean over seeds of a score of n rows, and its interval."""
    value, each = (np.mean([form.under(w) for form in forms], 0) for w in (np.ones((1, n)), resamples(n)))
    return float(value[0]), *interval(each)


def ranked(ambiguity: np.ndarray, found: np.ndarray) -> Sums:
    """Correlation of ambiguity (n, L, M), NaN where it means nothing, with ranks of uncertainty (n, L, M) in each concept."""
    known = ~np.isnan(ambiguity)
    rank = np.zeros(found.shape)
    for k in range(found.shape[2]):
        cells = known[:, :, k]
        rank[:, :, k][cells] = rankdata(found[:, :, k][cells]) / max(cells.sum(), 1)
    a = np.where(known, ambiguity, 0.0)
    terms = [each.sum((1, 2)) for each in (known.astype(float), a, rank, a * a, rank * rank, a * rank)]

    def finish(s: np.ndarray) -> np.ndarray:
        a, r, aa, rr, ar = (s[:, i] / s[:, 0] for i in range(1, 6))
        return (ar - a * r) / np.sqrt((aa - a * a) * (rr - r * r))

    return Sums(np.stack(terms, 1), finish)


def errors(found: np.ndarray, missed: np.ndarray) -> Mean:
    """AUROC within each concept that is wrong in at least ``FEWEST`` rows, their mean."""
    index = [k for k in range(missed.shape[1]) if FEWEST <= missed[:, k].sum() <= len(missed) - FEWEST]
    return Mean(tuple(Ranked(found[:, k], missed[:, k], np.ones(len(missed), dtype=bool)) for k in index))


def fitted(data: Splits, seeds: Sequence[int] = SEEDS) -> dict[str, list[ConceptModel]]:
    """Models of both methods, one for each seed."""
    return {name: fits(name, data, {"lr": (1e-2, 1e-3)}, by=concepts, seeds=seeds, **METHODS[name]) for name in METHODS}


def of_errors(models: dict[str, list[ConceptModel]], part: Table) -> dict[str, Score]:
    """AUROC of each way to be unsure for its own model's errors."""
    missed = {name: [wrong(model, part) for model in each] for name, each in models.items()}
    ways = {
        "uncertainty": ("probcbm", [unsure(model, numbers(part)) for model in models["probcbm"]]),
        "its entropy": ("probcbm", [entropy(model, part) for model in models["probcbm"]]),
        "cbm's entropy": ("cbm", [entropy(model, part) for model in models["cbm"]]),
    }
    pairs = {label: [errors(f, m) for f, m in zip(found, missed[name], strict=True)] for label, (name, found) in ways.items()}
    return {label: over_seeds(forms, len(part)) for label, forms in pairs.items()}


def numbers(part: Table) -> torch.Tensor:
    """The rows' x, which are numbers here."""
    assert isinstance(part.x, torch.Tensor)
    return part.x


def blurs(models: Sequence[ConceptModel]) -> Score:
    """The correlation for pictures of white cells."""
    pictures = rows("wbcatt", test=PICTURES, inputs="images").test.x
    raw, encoder = pictures.read().permute(0, 2, 3, 1).numpy().astype(np.float32), build("mobilenetv2")
    forms, features = [], []
    for spread in BLURS:
        seen = raw if spread == 0 else np.stack([blurred(picture, spread) for picture in raw])
        shown = torch.from_numpy(seen).round().clamp(0, 255).to(torch.uint8).permute(0, 3, 1, 2)
        with torch.no_grad():
            features.append(encoder.eval()(encoder.prepare(shown)))
    for model in models:
        found = np.stack([unsure(model, z) for z in features], 1)
        level = np.arange(len(BLURS), dtype=float)[None, :, None]
        forms.append(ranked(np.broadcast_to(level, found.shape), found))
    return over_seeds(forms, PICTURES)


def veils(models: Sequence[ConceptModel], part: Table) -> Score:
    """The correlation for hands of cards."""
    ambiguity = (part.facts or {})["ambiguity"].numpy()[:, None]
    return over_seeds([ranked(ambiguity, unsure(model, numbers(part))[:, None]) for model in models], len(part))


def verdict(along: Sequence[Score], told: Sequence[Score]) -> str:
    """By the rule above, from correlations and AUROC, each with its interval."""
    above = [low > 0.5 for _, low, _ in told]
    if any(high < 0 for _, _, high in along) or sum(above) <= 1:
        return "does not hold"
    return "holds" if all(above) and all(low > 0 for _, low, _ in along) else "cannot tell here"


def main() -> None:
    """Print the table and the verdict."""
    along: dict[str, Score] = {}
    told: dict[str, Score] = {}
    sets = {
        "wbcatt": lambda: rows("wbcatt", train=1000, test=600),
        "dermatology": lambda: rows("dermatology"),
        "poker": lambda: pictured(rows("poker", train=3000, validation=500, test=500, ambiguous=0.4), epochs=10, batch_size=32)[
            0
        ],
    }
    for name, load in sets.items():
        data = load()
        models = fitted(data)
        if name != "dermatology":
            along[name] = blurs(models["probcbm"]) if name == "wbcatt" else veils(models["probcbm"], data.test)
            print(f"{name:12} correlation with ambiguity {signed(along[name])}", flush=True)
        share = {method: np.mean([wrong(model, data.test).mean() for model in each]) for method, each in models.items()}
        for label, score in of_errors(models, data.test).items():
            print(f"{name:12} {label:14} AUROC {plain(score)}", flush=True)
            if label == "uncertainty":
                told[name] = score
        print(f"{name:12} concepts wrong: " + ", ".join(f"{method} {each:.3f}" for method, each in share.items()), flush=True)
    parts = [f"{name} correlation {signed(each)}" for name, each in along.items()]
    parts += [f"{name} AUROC {plain(each)}" for name, each in told.items()]
    claim = "ProbCBM: a concept's uncertainty rises with the ambiguity of the picture and tells where the concept is wrong"
    print(json.dumps({"claim": claim, "number": "; ".join(parts), "verdict": verdict([*along.values()], [*told.values()])}))


def signed(score: Score) -> str:
    """A correlation with its interval."""
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*score)


def plain(score: Score) -> str:
    """An area with its interval."""
    return "{:.3f} [{:.3f}, {:.3f}]".format(*score)


if __name__ == "__main__":
    main()
