"""PEEB (arXiv 2403.05297): edit the description of a part and the classes change at once, without training.

Synthetic only: `poker`, fixed hands, one for each of six classes; parts are the lowest, middle and highest card, descriptions
their names, embedded by MiniLM. `peeb` on cells of the picture (a small network that learnt the task, frozen), 1,500 training
hands, turned by up to 10 degrees, noise 10; 800 test hands; 3 seeds. Edits by `isthmus.edit.retext`, no row is looked at: (1)
swap the three descriptions of two classes, for each of the fifteen pairs: the two classes' test hands should be taken for
each other; (2) of the hands of all other classes the decision should stay.

Measured: of test hands that were right before, the share of the two classes' that go to the other class, and the share of the
other classes' that stay; 95 % bootstrap interval over rows of the mean over seeds and pairs.

Rule, fixed before the first result: holds (synthetic only) when both shares are at least .95, intervals above .9; does not
hold when either lies below .5; cannot tell here otherwise.
"""

from __future__ import annotations

import json
import warnings
from itertools import combinations

import numpy as np
import torch
from _fits import SEEDS, Difference, difference

import isthmus as im
from isthmus import edit, registry
from isthmus.concepts import Book, Phrase
from isthmus.data.worlds.cards import CARDS
from isthmus.data.worlds.poker import HANDS, fixed_hands_of, hand_rank, ranked_hands
from isthmus.encoders import encoded, inside
from isthmus.features import build
from isthmus.model import ConceptModel
from isthmus.worded import vectors, worded

PARTS = ("lowest card", "middle card", "highest card")
SIZES = {"train": 1500, "validation": 400, "test": 800, "rotation": 10.0, "noise": 10.0}


def hands() -> Book:
    """The three cards of each class, lowest first."""
    chosen = fixed_hands_of(*ranked_hands(3), 1, 0).reshape(-1, 3)
    phrases: list[Phrase] = []
    for hand in chosen:
        name = HANDS[3][int(hand_rank(hand[None])[0])]
        ordered = sorted(hand.tolist(), key=lambda card: (card % 13, card // 13))
        phrases += [Phrase(CARDS[card], (name,), part, approved="rules") for part, card in zip(PARTS, ordered, strict=True)]
    return Book(tuple(phrases))


def swapped(model: ConceptModel, pair: tuple[str, str]) -> ConceptModel:
    """The model with the descriptions of two classes in each other's place."""
    text = {(c.owner, c.part): c.text or "" for c in model.space.concepts}
    encoder = build("sentence_encoder")
    for concept in model.space.concepts:
        if concept.owner in pair:
            other = pair[1 - pair.index(concept.owner)]
            new = text[other, concept.part]
            model = edit.retext(model, concept.name, new, vector=vectors(encoder, [new]), why="swap")
    return model


@torch.no_grad()
def shares(model: ConceptModel, x: torch.Tensor, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """For every pair and row right before: did it go over (rows of the pair), did it stay (the others)?"""
    before = model.answer(x).logits.argmax(-1)
    right = before == y
    over: list[np.ndarray] = []
    stay: list[np.ndarray] = []
    for a, b in combinations(range(len(model.task.names)), 2):
        after = swapped(model, (model.task.names[a], model.task.names[b])).answer(x).logits.argmax(-1)
        mine = right & ((y == a) | (y == b))
        over.append((after[mine] == a + b - y[mine]).numpy().astype(float))
        stay.append((after[right & ~mine] == y[right & ~mine]).numpy().astype(float))
    return np.concatenate(over), np.concatenate(stay)


def verdict(over: Difference, stay: Difference) -> str:
    """By the rule above; shares in points."""
    if all(each.value >= 95 and each.low > 90 for each in (over, stay)):
        return "holds (synthetic only)"
    return "does not hold" if min(over.value, stay.value) < 50 else "cannot tell here"


def main() -> None:
    """Print the table and the verdict."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for seed in SEEDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cards that no fixed hand holds
            data = im.data.load("poker", hands="fixed", fixed_hands=1, **SIZES)
            made = worded(data, hands(), features="cells", seed=seed)
        seen = encoded(made.splits, made.features)
        model = registry.get("peeb").make(inside(made.features), seen.space, seen.task, seed=seed).fit(seen, seed)
        assert seen.test.y is not None
        found.append(shares(model, seen.test.x, seen.test.y))
        accuracy = float((model.answer(seen.test.x).logits.argmax(-1) == seen.test.y).float().mean())
        print(f"seed {seed}: accuracy {accuracy:.3f} over {found[-1][0].mean():.3f} stay {found[-1][1].mean():.3f}", flush=True)
    over, stay = (difference([np.concatenate([each[at] for each in found])]) for at in (0, 1))
    number = f"of the two classes' hands {over} % go over, of the others' {stay} % stay"
    claim = "Editing descriptions of parts changes classes at once, without training (share of test hands)"
    print(json.dumps({"claim": claim, "number": number, "verdict": verdict(over, stay)}))


if __name__ == "__main__":
    main()
