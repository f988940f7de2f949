from __future__ import annotations

import warnings
from collections import Counter
from math import comb
from typing import Any

import numpy as np
import pytest

from isthmus.data.table import Splits
from isthmus.data.worlds.cards import BACKGROUNDS, CARDS, RANKS, SUITS, Deck, lay, paint, table
from isthmus.data.worlds.poker import (
    HANDS,
    all_hands,
    card_concepts,
    deal,
    fixed_hands_of,
    hand_rank,
    poker,
    rank_suit_states,
    render,
)
from isthmus.errors import OptionError, UnknownName

POOL = all_hands(3)
KNOWN = {
    "high card": 16440,
    "pair": 3744,
    "flush": 1096,
    "straight": 720,
    "three of a kind": 52,
    "straight flush": 48,
}


def plain_rank(hand: tuple[int, ...]) -> str:
    """The rank of a three-card hand, told from sets and counts alone."""
    ranks, suits = sorted(card % 13 for card in hand), {card // 13 for card in hand}
    runs = [{12, 0, 1}, *({low, low + 1, low + 2} for low in range(11))]
    most = Counter(ranks).most_common(1)[0][1]
    if most == 3:
        return "three of a kind"
    if most == 2:
        return "pair"
    if set(ranks) in runs:
        return "straight flush" if len(suits) == 1 else "straight"
    return "flush" if len(suits) == 1 else "high card"


def small(**options: Any) -> Splits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few hands: some cards never come
        return poker(**({"train": 24, "validation": 12, "test": 12} | options))


def test_every_three_card_hand_has_the_rank_of_an_independent_evaluator() -> None:
    found = hand_rank(POOL)
    assert len(POOL) == comb(52, 3)
    assert [HANDS[3][rank] for rank in found] == [plain_rank(tuple(hand)) for hand in POOL.tolist()]
    assert dict(zip(HANDS[3], np.bincount(found).tolist(), strict=True)) == KNOWN


def test_hand_rank_does_not_depend_on_the_order_of_the_cards() -> None:
    mixed = np.random.default_rng(0).permuted(POOL, axis=1)
    np.testing.assert_array_equal(hand_rank(mixed), hand_rank(POOL))


def test_five_card_hands_have_the_known_counts() -> None:
    counts = np.bincount(hand_rank(all_hands(5)))
    assert counts.tolist() == [1302540, 1098240, 123552, 54912, 10200, 5108, 3744, 624, 40]


def test_the_deal_is_even_over_classes_or_natural() -> None:
    ranks = hand_rank(POOL)
    even = hand_rank(deal(600, np.random.default_rng(0), POOL, ranks))
    assert np.bincount(even).tolist() == [100] * 6
    natural = deal(6000, np.random.default_rng(0), POOL, ranks, np.bincount(ranks) / len(ranks))
    share = np.bincount(hand_rank(natural), minlength=6) / 6000
    expected = np.array(list(KNOWN.values())) / 22100
    assert np.all(np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 6000) + 1e-9)


def test_a_dealt_hand_has_no_card_twice_and_every_order_comes() -> None:
    hands = deal(3000, np.random.default_rng(0), POOL, hand_rank(POOL))
    assert (np.sort(hands, 1)[:, 1:] > np.sort(hands, 1)[:, :-1]).all()
    orders = {tuple(np.argsort(hand)) for hand in hands}
    assert len(orders) == 6


@pytest.mark.parametrize("options", [{}, {"rotation": 25.0}, {"overlap": 0.5}, {"rotation": 180.0, "overlap": 0.3}])
def test_the_box_holds_every_pixel_of_its_card_and_no_more(options: dict[str, float]) -> None:
    rng = np.random.default_rng(1)
    cards = deal(12, rng, POOL, hand_rank(POOL))
    layout = lay(cards, rng, **options)
    ground = table(12, layout.width, rng, "plain")
    boxes = layout.boxes.astype(int)
    for place in range(3):
        alone = np.full_like(cards, -1)
        alone[:, place] = cards[:, place]
        changed = (np.abs(paint(alone, layout, ground) - ground) > 1e-3).any(-1)
        for row in range(12):
            down, across = np.flatnonzero(changed[row].any(1)), np.flatnonzero(changed[row].any(0))
            x0, y0, x1, y1 = boxes[row, place]
            assert (across[0], down[0], across[-1] + 1, down[-1] + 1) == (x0, y0, x1, y1)
        without = cards.copy()
        without[:, place] = -1
        touched = (np.abs(paint(cards, layout, ground) - paint(without, layout, ground)) > 1e-3).any(-1)
        for row in range(12):
            x0, y0, x1, y1 = boxes[row, place]
            outside = touched[row].copy()
            outside[y0:y1, x0:x1] = False
            assert touched[row].any()
            assert not outside.any()


def test_boxes_lie_in_the_picture_and_places_run_left_to_right() -> None:
    rng = np.random.default_rng(2)
    cards = deal(60, rng, POOL, hand_rank(POOL))
    for options in ({}, {"rotation": 30.0}, {"rotation": 180.0}, {"overlap": 0.5}, {"overlap": 0.4, "rotation": 60.0}):
        boxes = lay(cards, rng, **options).boxes
        assert boxes.min() >= 0
        assert boxes[..., 2].max() <= 112
        assert boxes[..., 3].max() <= 56
        middle = boxes[..., [0, 2]].mean(-1)
        assert (np.diff(middle, axis=1) > 0).all()
        if not options.get("overlap"):
            assert (boxes[:, 1:, 0] >= boxes[:, :-1, 2] - 1).all()


def test_overlap_hides_the_stated_part_of_a_card() -> None:
    rng = np.random.default_rng(0)
    boxes = lay(deal(50, rng, POOL, hand_rank(POOL)), rng, overlap=0.5).boxes
    covered = (boxes[:, :-1, 2] - boxes[:, 1:, 0]) / (boxes[:, :-1, 2] - boxes[:, :-1, 0])
    assert np.abs(covered - 0.5).max() < 0.05


def test_every_card_looks_different_and_red_suits_are_red() -> None:
    deck = Deck()
    faces = np.stack([deck.sprite(card)[0] for card in range(52)])
    assert faces.shape == (52, 48, 34, 3)
    apart = np.abs(faces[:, None] - faces[None]).mean((2, 3, 4)) + 1e9 * np.eye(52)
    assert apart.min() > 2.5  # mean grey levels over the whole face, for the closest pair
    redness = (faces[..., 0] - faces[..., 2]).mean((1, 2))
    red = np.array([CARDS[card].split()[-1] in ("diamonds", "hearts") for card in range(52)])
    assert redness[red].min() > 15 > 5 > redness[~red].max()


def test_concepts_and_boxes_name_the_cards_in_the_picture() -> None:
    rng = np.random.default_rng(3)
    hands = render(deal(20, rng, POOL, hand_rank(POOL)), rng)
    c, where = card_concepts(hands)
    states, places = rank_suit_states(hands)
    for row in range(20):
        assert set(np.flatnonzero(c[row])) == set(hands.cards[row])
        assert (np.isnan(where[row]).any(1) == (c[row] == 0)).all()
        for place, card in enumerate(hands.cards[row]):
            np.testing.assert_array_equal(where[row, card], hands.boxes[row, place])
            rank, suit = int(states[row, 2 * place]), int(states[row, 2 * place + 1])
            assert f"{RANKS[rank]} of {SUITS[suit]}" == CARDS[card]
            np.testing.assert_array_equal(places[row, 17 * place + rank], hands.boxes[row, place])
            np.testing.assert_array_equal(places[row, 17 * place + 13 + suit], hands.boxes[row, place])
        assert (~np.isnan(places[row]).any(1)).sum() == 6


def test_fixed_hands_give_each_card_to_one_class() -> None:
    ranks = hand_rank(POOL)
    hands = fixed_hands_of(POOL, ranks, 2, seed=0)
    assert hands.shape == (6, 2, 3)
    assert len(np.unique(hands)) == hands.size
    for label in range(6):
        assert (hand_rank(hands[label]) == label).all()
    with pytest.raises(OptionError, match="52 cards"):
        fixed_hands_of(POOL, ranks, 4, seed=0)


@pytest.mark.filterwarnings("ignore:concept")
def test_fixed_hands_are_the_same_in_every_split_and_free_hands_are_not() -> None:
    fixed = poker(hands="fixed", train=200, validation=30, test=100)
    rows = {tuple(row) for row in fixed.train.c.int().tolist()}  # type: ignore[union-attr]
    assert len(rows) == 12
    assert {tuple(row) for row in fixed.test.c.int().tolist()} <= rows  # type: ignore[union-attr]
    free = poker(train=200, validation=30, test=100)
    assert len({tuple(row) for row in free.train.c.int().tolist()}) > 100  # type: ignore[union-attr]


def test_the_table_has_the_shapes_and_rule_it_says() -> None:
    splits = small()
    part = splits.train
    assert tuple(part.x.shape) == (24, 3, 56, 112)
    assert part.x.dtype.is_floating_point is False
    assert tuple(part.c.shape) == (24, 52)
    assert tuple(part.where.shape) == (24, 52, 4)
    assert (part.c.sum(1) == 3).all()
    hands = np.stack([np.flatnonzero(row) for row in part.c.numpy()])
    np.testing.assert_array_equal(hand_rank(hands), part.y.numpy())
    assert part.task.names == HANDS[3]
    assert part.space.names == CARDS
    blocks = small(concepts="suit-rank").train
    assert tuple(blocks.c.shape) == (24, 51)
    assert blocks.space.count == 6
    assert (blocks.c.sum(1) == 6).all()
    np.testing.assert_array_equal(blocks.x.numpy(), part.x.numpy())
    wide = small(cards=5).train
    assert tuple(wide.x.shape) == (24, 3, 56, 187)
    assert wide.task.width == 9


def test_a_seed_fixes_everything_and_a_split_does_not_depend_on_another() -> None:
    one, two, other = small(), small(train=30), small(seed=1)
    np.testing.assert_array_equal(one.test.x.numpy(), two.test.x.numpy())
    assert (one.test.x != other.test.x).any()
    assert small().train.fingerprint() == one.train.fingerprint()
    assert len({one.train.fingerprint(), two.train.fingerprint(), other.train.fingerprint()}) == 3


def test_background_and_noise_change_the_ground_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    grounds = {name: table(20, 112, rng, name) for name in BACKGROUNDS}
    assert grounds["plain"].std((0, 1, 2)).max() < 1e-3
    assert grounds["gradient"].std(axis=(1, 2)).max() > 5
    assert grounds["clutter"].std() > grounds["plain"].std() + 5
    assert all(ground.min() >= 0 and ground.max() <= 255 for ground in grounds.values())
    clean, noisy = small(), small(noise=20.0)
    difference = noisy.train.x.double() - clean.train.x.double()
    inner = (clean.train.x > 60) & (clean.train.x < 195)
    assert 18 < difference[inner].std() < 22
    np.testing.assert_array_equal(noisy.train.c.numpy(), clean.train.c.numpy())


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"hands": "fixd"}, UnknownName, "did you mean 'fixed'"),
        ({"concepts": "card"}, UnknownName, "did you mean 'cards'"),
        ({"background": "plane"}, UnknownName, "did you mean 'plain'"),
        ({"cards": 4}, OptionError, "cards: expected 3 or 5, got 4"),
        ({"rotation": 200.0}, OptionError, "rotation"),
        ({"overlap": 0.9}, OptionError, "overlap"),
        ({"noise": -1.0}, OptionError, "noise"),
        ({"test": 0}, OptionError, "test: expected at least 1"),
        ({"hands": "fixed", "fixed_hands": 0}, OptionError, "fixed_hands"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as error:
        small(**options)
    assert "\n" not in str(error.value)
