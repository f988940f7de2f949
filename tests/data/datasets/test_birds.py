"""The CUB concept pipeline in small: the vote and its ties, the 112 attributes, the 28 groups, visibility."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from isthmus.data.datasets._birds import CANONICAL, PARTS, PARTS_OF, SOFT, bird_space, group_of, kept, seen, vote

GROUPS = (
    "has_bill_shape", "has_wing_color", "has_upperparts_color", "has_underparts_color", "has_breast_pattern",
    "has_back_color", "has_tail_shape", "has_upper_tail_color", "has_head_pattern", "has_breast_color",
    "has_throat_color", "has_eye_color", "has_bill_length", "has_forehead_color", "has_under_tail_color",
    "has_nape_color", "has_belly_color", "has_wing_shape", "has_size", "has_shape", "has_back_pattern",
    "has_tail_pattern", "has_belly_pattern", "has_primary_color", "has_leg_color", "has_bill_color", "has_crown_color",
    "has_wing_pattern",
)  # fmt: skip
SIZES_OF_312 = (9, 15, 15, 15, 4, 15, 6, 15, 11, 15, 15, 14, 3, 15, 15, 15, 15, 5, 5, 14, 4, 4, 4, 15, 15, 15, 15, 4)
SIZES_OF_112 = (4, 6, 6, 6, 3, 6, 1, 5, 2, 6, 5, 1, 2, 6, 5, 6, 6, 2, 3, 2, 3, 3, 1, 6, 3, 3, 6, 4)
LABELS = Path("attrs/cub_attributes.npz")


def _vote(said: list[tuple[int, int]], tie: str = "one") -> int:
    present, certainty = (np.array([[row[i]] for row in said]) for i in (0, 1))
    return int(vote(present, certainty, np.zeros(len(said), dtype=np.int64), 1, tie=tie)[0, 0])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("said", "one", "zero"),
    [
        ([(0, 4), (0, 4), (1, 4), (1, 4)], 1, 0),  # a tie
        ([(0, 4), (0, 4), (1, 4)], 0, 0),
        ([(0, 4), (1, 4), (1, 4)], 1, 1),
        ([(0, 1), (0, 1), (0, 1), (1, 4)], 1, 1),  # 'absent, not visible' has no vote
        ([(0, 4), (1, 1), (1, 1)], 1, 1),  # 'present, not visible' has one
        ([(0, 2), (0, 3), (1, 4)], 0, 0),  # no other certainty is weighed
        ([(0, 1), (0, 1)], 1, 0),  # nobody voted: 0 = 0 is a tie
    ],
)
def test_vote(said: list[tuple[int, int]], one: int, zero: int) -> None:
    assert (_vote(said, "one"), _vote(said, "zero")) == (one, zero)


def test_vote_by_class_equals_counting() -> None:
    generator = np.random.default_rng(0)
    present, certainty = generator.integers(0, 2, (60, 7)), generator.integers(1, 5, (60, 7))
    y = generator.integers(0, 4, 60)
    y[y == 2] = 1  # class 2 has no image
    found = vote(present, certainty, y, 5, tie="zero")
    for cls in range(5):
        for a in range(7):
            votes = [int(present[i, a]) for i in range(60) if y[i] == cls and (present[i, a] or certainty[i, a] != 1)]
            assert found[cls, a] == int(votes.count(1) > votes.count(0))
    assert not vote(present, certainty, y, 5)[[2, 4]].any()


def test_kept_needs_enough_classes() -> None:
    matrix = np.zeros((12, 3), dtype=np.int8)
    matrix[:10, 0], matrix[:9, 1], matrix[:, 2] = 1, 1, 1
    assert kept(matrix) == (0, 2)
    assert kept(matrix, least_classes=9) == (0, 1, 2)


def test_canonical_rows_fall_into_28_groups_of_known_size() -> None:
    groups = [group for group, size in zip(GROUPS, SIZES_OF_312, strict=True) for _ in range(size)]
    assert len(groups) == 312
    mine = [groups[i] for i in CANONICAL]
    assert len(mine) == 112
    assert tuple(dict.fromkeys(mine)) == GROUPS
    assert tuple(mine.count(group) for group in GROUPS) == SIZES_OF_112


def test_every_group_has_parts_or_is_of_the_whole_bird() -> None:
    assert set(GROUPS) - set(PARTS_OF) == {"has_size", "has_shape", "has_primary_color"}
    assert set(PARTS_OF) < set(GROUPS)
    assert {part for parts in PARTS_OF.values() for part in parts} == set(PARTS)


def test_seen_when_any_of_its_parts_is() -> None:
    visible = np.zeros((3, 15), dtype=np.int8)
    visible[0, PARTS.index("right wing")] = 1
    visible[1, PARTS.index("beak")] = 1
    names = ["has_wing_color::blue", "has_bill_shape::dagger", "has_size::small_(5_-_9_in)"]
    assert seen(names, visible).tolist() == [[True, False, True], [False, True, True], [False, False, True]]


def test_soft_labels_by_certainty() -> None:
    assert SOFT.tolist() == [[0, 0.5, 0.25, 0], [0, 0.5, 0.75, 1]]


def test_space_keeps_official_names() -> None:
    concept = bird_space(["has_wing_color::light_blue"]).concepts[0]
    assert (concept.name, concept.group, concept.text, concept.part) == (
        "has_wing_color::light_blue", "has_wing_color", "wing color: light blue", "left wing, right wing",
    )  # fmt: skip


def test_canonical_rows_are_those_of_the_real_matrix(isthmus_data: Callable[[str], Path]) -> None:
    with np.load(isthmus_data(str(LABELS))) as real:
        names, index, matrix = real["attribute_names"], real["attr_112_index"], real["class_attr_112"]
    assert tuple(index.tolist()) == CANONICAL
    groups = [group_of(str(name)) for name in names]
    assert tuple(groups.count(group) for group in GROUPS) == SIZES_OF_312
    assert tuple(dict.fromkeys(groups)) == GROUPS
    assert kept(matrix) == tuple(range(112))  # every concept in at least ten classes
    assert len(np.unique(matrix, axis=0)) == 200
    assert round(float(matrix.mean()), 3) == 0.205
    # several or none in a group: a softmax over a group would be wrong
    mine = np.array([GROUPS.index(group_of(str(names[i]))) for i in CANONICAL])
    counts = np.stack([matrix[:, mine == g].sum(1) for g in range(28)], 1)
    assert ((counts == 0).sum(), (counts == 1).sum(), (counts > 1).sum()) == (1515, 3635, 450)


def test_invisible_share_of_the_real_certainties(isthmus_data: Callable[[str], Path]) -> None:
    with np.load(isthmus_data(str(LABELS))) as real:
        certainty = real["val_certainty"][:, list(CANONICAL)]
    assert round(float((certainty == 1).mean()), 3) == 0.108
