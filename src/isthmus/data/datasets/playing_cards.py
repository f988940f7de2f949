"""The 52 faces of a deck of cards: rank and suit, as pictures of 128 x 186 px."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from isthmus.data.datasets._files import codes, packed, pictures, read_npz
from isthmus.data.datasets._splits import draw, official
from isthmus.data.registry import dataset
from isthmus.data.rows import Images
from isthmus.data.table import DataCard, Splits, Table
from isthmus.space import Concept, ConceptSpace, Task

CARD = DataCard(
    name="playing_cards",
    title="Playing cards: 52 faces",
    licence="MIT (files); art in the public domain",
    source="github.com/hayeah/playing-cards-assets",
    terms="free use",
    notes="One picture of each card and no official split: material for rendering and small tests, not a benchmark.",
)
RANKS = ("2", "3", "4", "5", "6", "7", "8", "9", "10", "jack", "queen", "king", "ace")
SUITS = ("clubs", "diamonds", "hearts", "spades")
CLASSES = ("black pip", "black court", "red pip", "red court")


@dataclass(frozen=True)
class Faces:
    """52 lazy pictures, uint8 (52, 3, 186, 128) when read, with the rank and suit of each."""

    images: Images
    ranks: tuple[str, ...]
    suits: tuple[str, ...]


def faces(path: str | Path | None = None) -> Faces:
    """The pictures, ranks and suits as packed."""
    place = packed(path, "playing_cards", "images/playing_cards.npz", CARD.source)
    arrays = read_npz(place, "playing_cards", ("buf", "off", "rank", "suit"))
    ranks, suits = (tuple(str(value) for value in arrays[key]) for key in ("rank", "suit"))
    return Faces(pictures(arrays, "playing_cards"), ranks, suits)


@dataset("playing_cards", summary="52 card faces, concepts rank and suit, class by colour and court (MIT)")
def playing_cards(*, path: str | Path | None = None, seed: int = 0) -> Splits:
    """Card faces, lazy uint8 (B, 3, 186, 128), with rank and suit as categorical concepts (K = 17).

    The class is ours: colour, and whether the card is a jack, queen or king ('court') or not ('pip'). Split by
    ``seed``, 20 % validation and 30 % test.
    """
    deck = faces(path)
    space = ConceptSpace.of(Concept("rank", "categorical", RANKS), Concept("suit", "categorical", SUITS))
    place = Path("images/playing_cards.npz")
    rank = torch.from_numpy(codes(deck.ranks, RANKS, place, "rank"))
    suit = torch.from_numpy(codes(deck.suits, SUITS, place, "suit"))
    red, court = (suit == 1) | (suit == 2), (rank >= 9) & (rank <= 11)
    y = 2 * red.long() + court.long()
    task = Task.classes(CLASSES)
    ids = [f"{a} of {b}" for a, b in zip(deck.ranks, deck.suits, strict=True)]
    table = Table(deck.images, c=space.encode(torch.stack([rank, suit], 1)), y=y, space=space, task=task, ids=ids)
    marks = draw(y, task, validation=0.2, test=0.3, seed=seed)
    return official(table, marks, name="playing_cards", card=CARD)
