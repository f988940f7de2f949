"""``poker``: rendered card hands. Concepts are the cards, the class is the rank of the hand, every box is known."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.data.worlds.cards import CARDS, HEIGHT, RANKS, SUITS, Bytes, Floats, Whole, lay, paint, table
from isthmus.data.worlds.veils import Veils, draw_veils
from isthmus.errors import OptionError, unknown
from isthmus.space import Concept, ConceptSpace, Task

HANDS = {
    3: ("high card", "pair", "flush", "straight", "three of a kind", "straight flush"),
    5: (
        "high card",
        "pair",
        "two pairs",
        "three of a kind",
        "straight",
        "flush",
        "full house",
        "four of a kind",
        "straight flush",
    ),
}
"""Class names by the number of cards, weakest first: with three cards a straight beats a flush, with five not."""
PARTS, CONCEPTS = ("train", "validation", "test"), ("cards", "suit-rank")
PLACES = {3: ("left", "middle", "right"), 5: ("first", "second", "third", "fourth", "fifth")}


def hand_rank(cards: Whole) -> Whole:
    """(n, H) different cards, H = 3 or 5 -> (n,) index into ``HANDS[H]``; an ace is high, or low in A 2 3 (4 5)."""
    count = cards.shape[1]
    names = HANDS[count]
    rank, suit = np.sort(cards % 13, 1), cards // 13
    same = (rank[:, :, None] == rank[:, None, :]).sum((1, 2))  # 3: 3 single, 5 pair, 9 three; 5: 5, 7, 9, 11, 13, 17
    kinds = {5: "pair", 9: "three of a kind"}
    if count == 5:
        kinds = {7: "pair", 9: "two pairs", 11: "three of a kind", 13: "full house", 17: "four of a kind"}
    low_ace = np.array([*range(count - 1), 12])
    straight = (same == count) & ((rank[:, -1] - rank[:, 0] == count - 1) | (rank == low_ace).all(1))
    flush = (suit == suit[:, :1]).all(1)
    result = np.zeros(len(cards), dtype=np.int64)
    for value, name in kinds.items():
        result[same == value] = names.index(name)
    for where, name in ((flush, "flush"), (straight, "straight"), (straight & flush, "straight flush")):
        result[where] = names.index(name)
    return result


def all_hands(cards: int = 3) -> Whole:
    """Every hand of ``cards`` different cards, (22100, 3) or (2598960, 5), each in rising order."""
    return np.fromiter((c for hand in combinations(range(52), cards) for c in hand), dtype=np.int64).reshape(-1, cards)


@lru_cache(maxsize=2)
def ranked_hands(cards: int = 3) -> tuple[Whole, Whole]:
    """Every hand and its rank, worked out once."""
    pool = all_hands(cards)
    return pool, hand_rank(pool)


def fixed_hands_of(pool: Whole, ranks: Whole, each: int, seed: int) -> Whole:
    """(classes, each, H): hands that stand for their class, drawn so that no card serves two classes."""
    if each < 1:
        raise OptionError(f"fixed_hands: expected at least 1 hand for each class, got {each}")
    rng, classes = np.random.default_rng([seed, 3]), int(ranks.max()) + 1
    taken: set[int] = set()
    chosen: list[list[Whole]] = [[] for _ in range(classes)]
    for label in [label for _ in range(each) for label in reversed(range(classes))]:
        members = pool[ranks == label]
        free = members[~np.isin(members, list(taken)).any(1)]
        if len(free) == 0:
            raise OptionError(f"fixed_hands: expected few enough for 52 cards, got {each} a class; ask for fewer")
        chosen[label].append(free[rng.integers(len(free))])
        taken.update(int(card) for card in chosen[label][-1])
    return np.array(chosen)


@dataclass(frozen=True)
class Hands:
    """Rendered hands: ``images`` uint8 (n, 3, height, width), ``cards`` (n, H) from left to right, ``boxes`` float32
    (n, H, 4) x0, y0, x1, y1 in pixels with the far edges exclusive, ``y`` (n,) the rank of each hand, and ``ambiguity``
    (n, H) in 0..1, how much of each card a veil takes."""

    images: Bytes
    cards: Whole
    boxes: Floats
    y: Whole
    ambiguity: Floats

    def take(self, index: Whole) -> Hands:
        """The hands at ``index`` alone."""
        return Hands(self.images[index], self.cards[index], self.boxes[index], self.y[index], self.ambiguity[index])


def deal(n: int, rng: np.random.Generator, pool: Whole, ranks: Whole, shares: NDArray[np.float64] | None = None) -> Whole:
    """(n, H) hands from ``pool``, cards in random order; classes evenly, or with ``shares`` (Y,) that sum to 1."""
    classes = int(ranks.max()) + 1
    drawn = rng.permutation(np.arange(n) % classes) if shares is None else rng.choice(classes, n, p=shares)
    members = [np.flatnonzero(ranks == label) for label in range(classes)]
    index = np.array([members[label][rng.integers(len(members[label]))] for label in drawn], dtype=np.int64)
    return rng.permuted(pool[index], axis=1)


def render(
    cards: Whole,
    rng: np.random.Generator,
    *,
    rotation: float = 0.0,
    overlap: float = 0.0,
    background: str = "plain",
    noise: float = 0.0,
    veils: Veils | None = None,
) -> Hands:
    """Paint ``cards`` (n, H), lay ``veils`` over them; ``noise``: standard deviation of what comes on top, in grey levels.

    What ``rng`` draws does not depend on which cards they are, nor on the veils.
    """
    if not 0 <= noise <= 128:
        raise OptionError(f"noise: expected a standard deviation of 0..128 grey levels, got {noise:g}")
    layout = lay(cards, rng, rotation=rotation, overlap=overlap)
    images = np.empty((len(cards), 3, HEIGHT, layout.width), dtype=np.uint8)
    ambiguity = np.zeros(cards.shape, dtype=np.float32)
    for start in range(0, len(cards), 256):
        rows = np.arange(start, min(start + 256, len(cards)))
        picture = paint(cards[rows], layout.rows(rows), table(len(rows), layout.width, rng, background))
        if veils is not None:
            ambiguity[rows] = veils.rows(rows).lay(picture, layout.boxes[rows])
        if noise:
            picture += rng.normal(0, noise, picture.shape).astype(np.float32)
        images[rows] = np.rint(np.clip(picture, 0, 255)).astype(np.uint8).transpose(0, 3, 1, 2)
    return Hands(images, cards, layout.boxes, hand_rank(cards), ambiguity)


def card_concepts(hands: Hands) -> tuple[Floats, Floats]:
    """52 binary columns, (n, 52) present or not, and (n, 52, 4) boxes, NaN where the card is absent."""
    n, count = hands.cards.shape
    rows = np.repeat(np.arange(n), count)
    c = np.zeros((n, 52), dtype=np.float32)
    where = np.full((n, 52, 4), np.nan, dtype=np.float32)
    c[rows, hands.cards.ravel()] = 1
    where[rows, hands.cards.ravel()] = hands.boxes.reshape(-1, 4)
    return c, where


def rank_suit_states(hands: Hands) -> tuple[Floats, Floats]:
    """State of rank and suit for each place (n, 2 H), in that order, and the card's box on the columns of its states.

    The second array is (n, 17 H, 4): a block of 13 rank and 4 suit columns for each place, NaN where the state is off.
    """
    n, count = hands.cards.shape
    values = np.stack([hands.cards % 13, hands.cards // 13], -1).reshape(n, 2 * count).astype(np.float32)
    where = np.full((n, count, 17, 4), np.nan, dtype=np.float32)
    row, place = np.indices((n, count))
    where[row, place, hands.cards % 13] = hands.boxes
    where[row, place, 13 + hands.cards // 13] = hands.boxes
    return values, where.reshape(n, 17 * count, 4)


def ambiguity_of(hands: Hands, concepts: str) -> Floats:
    """(n, M) ambiguity of each concept's picture: of its card, or of the card at its place; NaN where the card is absent."""
    if concepts == "suit-rank":
        return np.repeat(hands.ambiguity, 2, axis=1)
    found = np.full((len(hands.cards), 52), np.nan, dtype=np.float32)
    np.put_along_axis(found, hands.cards, hands.ambiguity, axis=1)
    return found


def space_of(concepts: str, cards: int = 3) -> ConceptSpace:
    """52 binary concepts grouped by rank ('cards'), or for each place a rank and a suit ('suit-rank')."""
    if concepts == "cards":
        return ConceptSpace(tuple(Concept(name, group=name.split()[0]) for name in CARDS))
    rows: list[Concept] = []
    for place in PLACES[cards]:
        rows.append(Concept(f"{place} rank", "categorical", RANKS, group=f"{place} card", part=f"{place} card"))
        rows.append(Concept(f"{place} suit", "categorical", SUITS, group=f"{place} card", part=f"{place} card"))
    return ConceptSpace(tuple(rows))


@dataclass(frozen=True)
class Scene:
    """Dealt ``cards`` (n, H) and all that makes their pictures: places, turns, ground, noise and veils."""

    cards: Whole
    rng: np.random.Generator
    look: dict[str, Any]

    def show(self, cards: Whole) -> Hands:
        """The pictures with ``cards`` (n, H) in the places of those dealt; all else is the same in every call."""
        return render(cards, deepcopy(self.rng), **self.look)


def scene(
    part: str, n: int, *, hands: str, cards: int, balanced: bool, fixed_hands: int, rotation: float, overlap: float,
    background: str, noise: float, ambiguous: float, veil: str, strength: float, seed: int,
) -> Scene:  # fmt: skip
    """The ``n`` hands of 'train', 'validation' or 'test' under the options of ``poker``, not yet painted."""
    if hands not in ("free", "fixed"):
        raise unknown("hands", hands, ("free", "fixed"))
    if cards not in HANDS:
        raise OptionError(f"cards: expected {' or '.join(map(str, HANDS))}, got {cards}")
    if n < 1:
        raise OptionError(f"{part}: expected at least 1 hand, got {n}")
    pool, ranks = ranked_hands(cards)
    shares = None if balanced else np.bincount(ranks) / len(ranks)
    if hands == "fixed":
        pool = fixed_hands_of(pool, ranks, fixed_hands, seed).reshape(-1, cards)
        ranks = hand_rank(pool)
    stream = [seed, PARTS.index(part)]
    rng = np.random.default_rng(stream)
    dealt = deal(n, rng, pool, ranks, shares)
    veils = draw_veils(n, cards, np.random.default_rng([*stream, 7]), ambiguous=ambiguous, veil=veil, strength=strength)
    look = {"rotation": rotation, "overlap": overlap, "background": background, "noise": noise}
    return Scene(dealt, rng, look | {"veils": veils if ambiguous else None})


def table_of(hands: Hands, concepts: str, *, veiled: bool = False) -> Table:
    """The hands with their labels and boxes; ``veiled``: and ``facts["ambiguity"]``."""
    count = hands.cards.shape[1]
    space = space_of(concepts, count)
    values, where = card_concepts(hands) if concepts == "cards" else rank_suit_states(hands)
    return Table(
        torch.from_numpy(hands.images),
        c=space.encode(torch.from_numpy(values)),
        y=torch.from_numpy(hands.y),
        space=space,
        task=Task.classes(HANDS[count]),
        where=torch.from_numpy(where),
        facts={"ambiguity": torch.from_numpy(ambiguity_of(hands, concepts))} if veiled else None,
    )


@dataset("poker", summary="rendered card hands: cards are concepts, the class is the rank of the hand", synthetic=True)
def poker(
    *,
    hands: str = "free",
    concepts: str = "cards",
    cards: int = 3,
    train: int = 6000,
    validation: int = 1500,
    test: int = 2500,
    balanced: bool = True,
    fixed_hands: int = 2,
    rotation: float = 0.0,
    overlap: float = 0.0,
    background: str = "plain",
    noise: float = 0.0,
    ambiguous: float = 0.0,
    veil: str = "both",
    strength: float = 1.0,
    seed: int = 0,
) -> Splits:
    """Card hands as images, uint8 (n, 3, 56, 112) for three cards; boxes of every card in ``where``.

    ``hands``: 'free' deals any hand of the class; 'fixed' only ``fixed_hands`` hands for each class, which share no
    card, so that every card gives the class away. ``concepts``: 'cards' is 52 binary concepts, 'suit-rank' the rank
    and suit of the card at each place. ``cards``: 3 (6 classes) or 5 (9 classes, 187 px wide). ``balanced``: classes
    drawn evenly, else as often as they are dealt. ``rotation``: largest turn of a card in degrees, 0..180.
    ``overlap``: part of a card's width hidden by its neighbour, 0..0.5. ``background``: 'plain', 'gradient' or
    'clutter'. ``noise``: standard deviation in grey levels, 0..128. The three splits are drawn independently: one's
    size does not change another. With even classes rare hands repeat: there are only 48 straight flushes.

    ``ambiguous``: probability that a card is veiled, by 'blur', 'occlusion' or 'both' (one of the two, evenly), at a
    level even in (0, ``strength``]. ``facts["ambiguity"]`` (n, M) says how much of each concept's card the veils take,
    0..1, NaN where its card is absent; hands, labels and all other pixels stay.
    """
    if concepts not in CONCEPTS:
        raise unknown("concepts", concepts, CONCEPTS)
    options = {
        "hands": hands, "cards": cards, "balanced": balanced, "fixed_hands": fixed_hands, "rotation": rotation,
        "overlap": overlap, "background": background, "noise": noise, "ambiguous": ambiguous, "veil": veil,
        "strength": strength, "seed": seed,
    }  # fmt: skip
    tables: list[Table] = []
    for name, n in zip(PARTS, (train, validation, test), strict=True):
        shown = scene(name, n, **options)
        tables.append(table_of(shown.show(shown.cards), concepts, veiled=bool(ambiguous)))
    card = CARD if not ambiguous else replace(CARD, notes=f"{CARD.notes} A card is veiled with probability {ambiguous:g}.")
    return Splits(*tables, name="poker", card=card)


CARD = DataCard(
    name="poker",
    title="Rendered poker hands",
    licence="Apache-2.0",
    source="generated by isthmus.data.worlds.poker",
    terms="free to use; drawn by this package",
    notes="Even classes repeat rare hands across splits: 48 straight flushes and 52 threes of a kind exist.",
)
