"""Substitution (SUB, arXiv 2507.23784): put one attribute in the place of another, and concept bottlenecks do not see it.

Real: `cebab`, reviews of restaurants that people rewrote so that one aspect (food, ambiance, service, noise: positive, negative
or unknown) says something else: true substitutions, of texts (there are none of real pictures here). Trained on 1,463 reviews,
one for each original (`exclusive`), read by tf-idf (1,500 words and pairs); tested on the 1,313 edits of test reviews whose
aspect changed by majority. Rendered: `poker`, 2,000 training hands of three cards; 400 test hands, each card in turn swapped
for one of its rank and another suit. `fixed` hands (two for each class, as birds of a species share their attributes), swaps to
cards that training shows; `free` hands, where any cards meet, with cbm alone, beside and not counted. Pictures are read by a
residual network that learnt the concepts (8 epochs) and is frozen, one for all methods. Every registered method with concepts,
20 epochs (autoregressive and probcbm 10), 3 seeds, rate .01 (ecbm .003), scbm with global covariance; no setting chosen.

Measured: accuracy of the task on originals; `seen`, the share of swaps whose old attribute the model sees in the original; S+,
whose new one it sees after; S-, whose old one it lets go of; `gap`, seen less S+ in points, 95 % interval by a bootstrap over
originals of the mean over seeds.
Chance: S+ and S- of answers at training rates that do not look.

Changed since: a first run, stopped within `cebab`, had the edits among the originals of the accuracy. A second, stopped within
`fixed`, held the swaps against other hands than their own (`seen` .08 where the task is always right); S+ and S- were as here.
`free` had every method, and cost too much. A third stopped in `fixed`, where scbm with amortised covariance diverged,
with cbm to intcem printed, `cebab` whole; autoregressive and probcbm had 20 epochs there.

Rule, fixed before the first result: holds when gap is at least 10 points, its interval above 0, for cbm joint, sequential and
independent on `cebab` and on `fixed`; does not hold when that is so in at most three of these six; cannot tell here otherwise.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _fits import SEEDS, Difference, difference, fit, pictured, right
from sklearn.feature_extraction.text import TfidfVectorizer

import isthmus as im
from isthmus.data import substitutes
from isthmus.data.datasets.cebab import cebab, read
from isthmus.data.table import Splits
from isthmus.metrics.substitution import present
from isthmus.model import ConceptModel
from isthmus.train import encode

MODES = ("joint", "sequential", "independent")
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"cbm {mode}": ("cbm", {"mode": mode}) for mode in MODES},
    "cem": ("cem", {}),
    "intcem": ("intcem", {}),
    "probcbm": ("probcbm", {"samples": 10, "epochs": 10}),
    "ecbm": ("ecbm", {"width": 64, "lr": 0.003}),
    "scbm": ("scbm", {"draws": 20, "covariance": "global"}),
    "autoregressive": ("autoregressive", {"epochs": 10}),
    "realigned": ("realigned", {}),
    "sidechannel": ("sidechannel", {}),
}
COUNTED = [(world, f"cbm {mode}") for world in ("cebab", "fixed") for mode in MODES]


@dataclass(frozen=True)
class Swaps:
    """Data to learn from, originals x (m, D), and the swaps made of them: x (n, D), the original's ``row``, columns (n,)."""

    data: Splits
    before: torch.Tensor
    after: torch.Tensor
    row: np.ndarray
    put_in: np.ndarray
    taken_out: np.ndarray

    def chance(self) -> tuple[float, float]:
        """S+ and S- of answers at training rates."""
        rate = self.data.train.c.nanmean(0).numpy()  # type: ignore[union-attr]
        return float(rate[self.put_in].mean()), float(1 - rate[self.taken_out].mean())


def of_cards(hands: str, train: int = 2000, test: int = 400, **training: Any) -> Swaps:
    """Of poker, by ``substitutes``."""
    sizes = {"hands": hands, "train": train, "validation": 300, "test": test}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cards that no fixed hand holds
        data, encoder = pictured(im.data.load("poker", **sizes), **training)
    swapped = substitutes("poker", rows=test, **sizes)
    facts = swapped.facts or {}
    put_in, gone = facts["target"], facts["removed"]
    known = (data.train.c.sum(0) > 0)[put_in]  # type: ignore[union-attr]
    after = encode(encoder, swapped)[known]
    parts = (each[known].numpy() for each in (facts["row"], put_in, gone.float().argmax(1)))
    return Swaps(data, data.test.x, after, *parts)


def of_reviews() -> Swaps:
    """Of restaurant reviews, by people."""
    data = cebab(train="exclusive")
    reader = TfidfVectorizer(max_features=1500, ngram_range=(1, 2), sublinear_tf=True).fit(data.train.x.read())
    vectors = lambda texts: torch.from_numpy(reader.transform(texts).toarray()).float()  # noqa: E731
    told = [row for row in read() if row["split"] == "test"]
    first = {row["original_id"]: row for row in told if row["is_original"]}
    ours = {row["id"] for row in first.values()}
    test = data.test.take(torch.tensor([at for at, each in enumerate(data.test.ids or ()) if each in ours]))
    parts = [part.replace(x=vectors(part.x.read())) for part in (data.train, data.validation, test)]
    column = {"Positive": 0, "Negative": 1, "unknown": 2}
    pairs = [(first[row["original_id"]], row, row["edit_type"]) for row in told if not row["is_original"]]
    pairs = [(a, b, kind) for a, b, kind in pairs if {a[kind], b[kind]} <= set(column) and a[kind] != b[kind]]
    index = {key: at for at, key in enumerate(first)}
    start = {concept.name: at.start for concept, at in zip(data.space.concepts, data.space.slices, strict=True)}
    return Swaps(
        Splits(*parts, name="cebab", card=data.card),
        vectors([row["text"] for row in first.values()]),
        vectors([b["text"] for _, b, _ in pairs]),
        np.array([index[a["original_id"]] for a, _, _ in pairs]),
        np.array([start[kind] + column[b[kind]] for _, b, kind in pairs]),
        np.array([start[kind] + column[a[kind]] for a, _, kind in pairs]),
    )


@torch.no_grad()
def seen(model: ConceptModel, x: torch.Tensor) -> np.ndarray:
    """(n, K) which attributes the model sees: from .5 on, or the likeliest of a block."""
    plain = model.space.plain
    return present(model(x).concepts.values.numpy(), None if plain else model.space.owner_of.numpy())


def scores(swaps: Swaps, name: str, seeds: tuple[int, ...] = SEEDS) -> tuple[np.ndarray, Difference]:
    """Accuracy of the task on test rows, seen, S+ and S-, means over seeds; and the gap."""
    method, options = METHODS[name]
    each, gaps = [], []
    at = np.arange(len(swaps.row))
    for seed in seeds:
        model = fit(method, swaps.data, seed, **({"lr": 0.01, "epochs": 20} | options))
        before, after = seen(model, swaps.before)[swaps.row], seen(model, swaps.after)
        old, new, gone = before[at, swaps.taken_out], after[at, swaps.put_in], ~after[at, swaps.taken_out]
        each.append([right(model, swaps.data.test).mean(), old.mean(), new.mean(), gone.mean()])
        gaps.append(old.astype(float) - new)
    return np.mean(each, 0), difference(gaps, swaps.row)


def verdict(found: Mapping[tuple[str, str], Difference]) -> str:
    """By the rule above."""
    failed = [found[each].above and found[each].value >= 10 for each in COUNTED]
    if sum(failed) <= 3:
        return "does not hold"
    return "holds" if all(failed) else "cannot tell here"


def main() -> None:
    """Print the table and the verdict."""
    found: dict[tuple[str, str], Difference] = {}
    for world in ("cebab", "fixed", "free"):
        swaps = of_reviews() if world == "cebab" else of_cards(world)
        print(f"{world:6} {len(swaps.row)} swaps; chance S+ {swaps.chance()[0]:.3f} S- {swaps.chance()[1]:.3f}", flush=True)
        for name in METHODS if world != "free" else list(METHODS)[:3]:
            (right_, old, new, gone), found[world, name] = scores(swaps, name)
            told = f"accuracy {right_:.3f} seen {old:.3f} S+ {new:.3f} S- {gone:.3f} gap {found[world, name]}"
            print(f"{world:6} {name:15} {told}", flush=True)
    number = "; ".join(f"{world} {name} {each}" for (world, name), each in found.items())
    claim = "CBMs fail under substitution: the attribute put in is seen less often than the old one was (gap, points)"
    print(json.dumps({"claim": claim, "number": number, "verdict": verdict(found)}))


if __name__ == "__main__":
    main()
