"""Swapped attributes: what changes in picture and labels, and that nothing else does."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import isthmus.data as data
from isthmus import metrics
from isthmus.data.table import Splits, Table
from isthmus.data.worlds.figures import ATTRIBUTES
from isthmus.data.worlds.poker import hand_rank
from isthmus.data.worlds.robot import Sample, concepts_of, draw, sample, score
from isthmus.errors import OptionError, UnknownName

FEW = {"train": 6, "validation": 6, "test": 30}
ROBOTS = {"train": 20, "validation": 20, "test": 30, "size": 24}


def load(name: str, **options: Any) -> Splits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few rows: some concepts never vary
        return data.load(name, **options)


def facts(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert table.facts is not None
    return tuple(table.facts[name].numpy() for name in ("target", "removed", "row"))  # type: ignore[return-value]


def labels(table: Table) -> np.ndarray:
    assert table.c is not None
    return table.c.numpy()


@pytest.mark.parametrize("options", [{}, {"noise": 6.0, "background": "clutter", "rotation": 15.0}, {"cards": 5}])
def test_one_card_of_the_same_rank_takes_the_place_of_another(options: dict[str, Any]) -> None:
    original, swapped = load("poker", **FEW, **options).test, data.substitutes("poker", **FEW, **options)
    target, removed, row = facts(swapped)
    hand = options.get("cards", 3)
    names = original.space.names
    assert original.where is not None
    assert swapped.where is not None
    where = original.where.numpy()
    for i in range(len(swapped)):
        before, after = labels(original)[row[i]], labels(swapped)[i]
        old = np.flatnonzero(removed[i])
        assert len(old) == 1
        expected = before.copy()
        expected[target[i]], expected[old[0]] = 1, 0
        np.testing.assert_array_equal(after, expected)
        assert before[old[0]] == 1
        assert before[target[i]] == 0
        assert names[old[0]].split()[0] == names[target[i]].split()[0]  # one rank, another suit
        np.testing.assert_array_equal(swapped.where[i, target[i]].numpy(), where[row[i], old[0]])
        x0, y0, x1, y1 = where[row[i], old[0]].astype(int)
        changed = (swapped.x[i] != original.x[row[i]]).any(0).numpy()
        assert changed[y0:y1, x0:x1].any()
        changed[y0:y1, x0:x1] = False
        assert not changed.any()
    # every card of every hand once, but of a rank that the hand holds whole
    rank = np.stack([np.flatnonzero(c) % 13 for c in labels(original)])
    full = sum(4 for r in rank if np.bincount(r).max() == 4)
    assert len(swapped) == 30 * hand - full
    hands = np.stack([np.flatnonzero(c) for c in labels(swapped)])
    np.testing.assert_array_equal(hand_rank(hands), swapped.y.numpy())  # type: ignore[union-attr]


def test_rank_or_suit_of_a_place_is_replaced_by_another_state_of_its_block() -> None:
    original, swapped = load("poker", **FEW, concepts="suit-rank").test, data.substitutes("poker", **FEW, concepts="suit-rank")
    target, removed, row = facts(swapped)
    owner = original.space.owner_of.numpy()
    assert len(swapped) == 30 * 6
    for i in range(len(swapped)):
        old = int(np.flatnonzero(removed[i])[0])
        assert removed[i].sum() == 1
        assert owner[old] == owner[target[i]]
        change = labels(swapped)[i] - labels(original)[row[i]]
        assert np.flatnonzero(change == 1).tolist() == [target[i]]
        assert np.flatnonzero(change == -1).tolist() == [old]
    assert np.bincount(row).tolist() == [6] * 30
    # each of the six concepts of a row once
    assert all(set(owner[target[row == r]]) == set(range(6)) for r in range(30))


def test_every_other_card_can_come() -> None:
    swapped = data.substitutes("poker", train=1, validation=1, test=300, rows=None)
    target, removed, _ = facts(swapped)
    pairs = {(int(np.flatnonzero(gone)[0]) // 13, int(new) // 13) for gone, new in zip(removed, target, strict=True)}
    assert pairs == {(a, b) for a in range(4) for b in range(4) if a != b}


def test_veils_stay_where_they_are() -> None:
    options = FEW | {"ambiguous": 0.5}
    original, swapped = load("poker", **options).test, data.substitutes("poker", **options)
    target, removed, row = facts(swapped)
    assert original.facts is not None
    assert swapped.facts is not None
    before, after = original.facts["ambiguity"].numpy(), swapped.facts["ambiguity"].numpy()
    for i in range(len(swapped)):
        assert after[i, target[i]] == before[row[i], np.flatnonzero(removed[i])[0]]


@pytest.mark.parametrize("preset", ["ideal", "sub"])
@pytest.mark.parametrize("knees", ["hidden", "drawn"])
def test_robots_swap_what_the_picture_shows_and_a_concept_names(preset: str, knees: str) -> None:
    options = ROBOTS | {"preset": preset, "knees": knees}
    original, swapped = load("robot", **options).test, data.substitutes("robot", **options)
    target, removed, row = facts(swapped)
    robots = sample(train=20, validation=20, test=30, seed=1014)[2]
    names = original.space.names
    assert len(swapped) == 30 * (6 if knees == "hidden" else 7)
    assert ("knees" in {names[k] for k in target[target >= 0]}) == (knees == "drawn")
    for i in range(len(swapped)):
        change = labels(swapped)[i] - labels(original)[row[i]]
        assert 1 <= np.abs(change).sum() <= 2
        assert np.flatnonzero(change > 0).tolist() == ([] if target[i] < 0 else [target[i]])
        np.testing.assert_array_equal(change < 0, removed[i])
        assert (swapped.x[i] != original.x[row[i]]).any()
    if preset == "sub":
        feet = [k for k, name in enumerate(names) if name.endswith("feet")]
        of_feet = np.isin(target, feet)
        assert of_feet.sum() == 30  # a named kind of feet is always put in
        assert removed[of_feet].sum() == labels(original)[:, feet].sum()
        assert not removed[~of_feet][:, feet].any()
    # the same robots otherwise: their pictures drawn again from scratch are those of the data set
    np.testing.assert_array_equal(draw(robots, size=24, knees=knees), original.x.numpy())


def test_a_swapped_robot_is_the_drawing_of_the_changed_robot() -> None:
    swapped = data.substitutes("robot", **ROBOTS, rows=3)
    _, _, row = facts(swapped)
    robots = sample(train=20, validation=20, test=30, seed=1014)[2]
    for attribute, i in (("head", 0), ("mouth", 4)):  # of the first row: head, body, antennae, ears, mouth, feet
        changed = robots.robots[:1].copy()
        changed[0, list(ATTRIBUTES).index(attribute)] ^= 1
        alone = Sample(changed, robots.y[:1], robots.pair[:1], robots.shift[:1])
        np.testing.assert_array_equal(draw(alone, size=24)[0], swapped.x[i].numpy())
        np.testing.assert_array_equal(concepts_of(changed, "ideal")[0], labels(swapped)[i])
        assert swapped.y is not None
        assert swapped.y[i] == (score(changed)[0] > 0)
    assert row.tolist() == [0] * 6 + [1] * 6 + [2] * 6


@pytest.mark.parametrize("name", ["poker", "robot"])
def test_constant_answers_and_the_truth_score_what_they_must(name: str) -> None:
    swapped = data.substitutes(name, **(FEW if name == "poker" else ROBOTS))
    target, removed, _ = facts(swapped)
    c = labels(swapped)
    for values, expected in ((np.ones_like(c), (1, 0)), (np.zeros_like(c), (0, 1)), (c, (1, 1))):
        assert (metrics.s_plus(values, target), metrics.s_minus(values, removed)) == expected


def test_a_model_that_still_reads_the_old_picture_scores_zero_on_both() -> None:
    original, swapped = load("poker", **FEW).test, data.substitutes("poker", **FEW)
    target, removed, row = facts(swapped)
    old = labels(original)[row]
    assert metrics.s_plus(old, target) == metrics.s_minus(old, removed) == 0


def test_rows_part_and_seed() -> None:
    one = data.substitutes("poker", **FEW, rows=4)
    assert set(facts(one)[2].tolist()) == {0, 1, 2, 3}
    assert one.fingerprint() == data.substitutes("poker", **FEW, rows=4).fingerprint()
    every = data.substitutes("poker", **FEW, rows=None)
    np.testing.assert_array_equal(every.x[: len(one)].numpy(), one.x.numpy())
    train = data.substitutes("poker", **FEW, part="train")
    target, removed, row = facts(train)
    before = labels(load("poker", **FEW).train)
    assert (before[row, target] == 0).all()
    assert (before[row][removed] == 1).all()


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ({"name": "pokr"}, UnknownName, "did you mean 'poker'"),
        ({"name": "xor"}, UnknownName, "rendered world"),
        ({"name": "poker", "part": "tests"}, UnknownName, "did you mean 'test'"),
        ({"name": "poker", "rows": 0}, OptionError, "rows: expected at least 1"),
        ({"name": "poker", "card": 5}, UnknownName, "did you mean 'cards'"),
        ({"name": "poker", "concepts": "suits"}, UnknownName, "concepts"),
        ({"name": "robot", "preset": "idea"}, UnknownName, "did you mean 'ideal'"),
    ],
)
def test_what_is_refused(call: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        data.substitutes(**call)
