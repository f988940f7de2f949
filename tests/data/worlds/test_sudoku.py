from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from isthmus.data.worlds.sudoku import UNITS, boards, corrupt, encode, sudoku, unit_validity, valid_board
from isthmus.errors import OptionError, UnknownName


def plain_validity(board: np.ndarray) -> list[float]:
    cells = [[(r, c) for c in range(9)] for r in range(9)] + [[(r, c) for r in range(9)] for c in range(9)]
    cells += [[(3 * i + a, 3 * j + b) for a in range(3) for b in range(3)] for i in range(3) for j in range(3)]
    return [float({int(board[at]) for at in unit} == set(range(1, 10))) for unit in cells]


def test_valid_boards_are_valid_and_differ() -> None:
    rng = np.random.default_rng(0)
    made = np.stack([valid_board(rng) for _ in range(100)])
    assert all(plain_validity(board) == [1.0] * 27 for board in made)
    assert len({board.tobytes() for board in made}) == 100


def test_unit_validity_agrees_with_plain_sets() -> None:
    made = boards(200, np.random.default_rng(1), valid=0.3)
    np.testing.assert_array_equal(unit_validity(made), np.array([plain_validity(board) for board in made]))


def test_one_change_breaks_what_it_says() -> None:
    rng = np.random.default_rng(2)
    broken = [unit_validity(corrupt(valid_board(rng), rng)[None])[0] == 0 for _ in range(600)]
    kinds = Counter((int(b[:9].sum()), int(b[9:18].sum()), int(b[18:].sum())) for b in broken)
    assert set(kinds) == {(2, 0, 0), (0, 2, 0), (0, 0, 6), (0, 0, 0), (1, 1, 1)}
    # a third each: two cells, two whole lines, one cell copied; a few whole lines fit where they land
    assert all(150 < count < 250 for count in (kinds[2, 0, 0] + kinds[0, 2, 0], kinds[1, 1, 1]))
    assert kinds[0, 0, 0] < 80 < kinds[0, 0, 6]


def test_the_stated_share_is_valid_exactly() -> None:
    for share in (0.0, 0.25, 1.0):
        made = boards(80, np.random.default_rng(3), valid=share, changes=2)
        assert int(unit_validity(made).all(1).sum()) == round(80 * share)


def test_more_changes_break_more_units() -> None:
    few = unit_validity(boards(200, np.random.default_rng(0), valid=0, changes=1)).mean()
    many = unit_validity(boards(200, np.random.default_rng(0), valid=0, changes=9)).mean()
    assert many < few - 0.1


def test_encodings_hold_the_board() -> None:
    grids = boards(10, np.random.default_rng(4))
    np.testing.assert_array_equal(encode(grids, "digits").reshape(10, 9, 9), grids)
    hot = encode(grids, "onehot").reshape(10, 9, 9, 9)
    np.testing.assert_array_equal(hot.argmax(-1) + 1, grids)
    counts = encode(grids, "counts").reshape(10, 27, 9)
    np.testing.assert_array_equal((counts == 1).all(-1), unit_validity(grids) == 1)


def test_the_label_is_the_and_of_27_concepts_and_the_seed_fixes_all() -> None:
    splits = sudoku(train=100, validation=30, test=30)
    for part in (splits.train, splits.validation, splits.test):
        assert part.c is not None
        assert part.y is not None
        assert (part.y == part.c.min(1).values.long()).all()
        assert float(part.y.float().mean()) == 0.5
    assert splits.space.names == UNITS
    assert len(splits.space.groups) == 3
    assert sudoku(train=100, validation=3, test=30).test.fingerprint() == splits.test.fingerprint()
    assert sudoku(train=100, validation=3, test=30, seed=1).test.fingerprint() != splits.test.fingerprint()


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"encoding": "digit"}, UnknownName, "did you mean 'digits'"),
        ({"valid": 1.5}, OptionError, "valid: expected a share"),
        ({"changes": 0}, OptionError, "changes: expected 1 to 81"),
        ({"validation": 0}, OptionError, "validation: expected at least 1"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        sudoku(**options)
