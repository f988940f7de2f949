"""``sudoku``: filled boards as numbers; 27 concepts, one for each row, column and box; valid only if all hold."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.errors import OptionError, unknown
from isthmus.space import Concept, ConceptSpace, Task

Whole = NDArray[np.int64]
Floats = NDArray[np.float32]

ENCODINGS = ("digits", "onehot", "counts")
UNITS = tuple(f"{kind} {index}" for kind in ("row", "column", "box") for index in range(1, 10))
"""Concept names, in order; boxes are counted row by row."""


def valid_board(rng: np.random.Generator) -> Whole:
    """(9, 9) a valid board: the shifted pattern with digits, rows, columns, bands and stacks shuffled."""
    row, column = np.indices((9, 9))
    board = (3 * (row % 3) + row // 3 + column) % 9
    rows, columns = (np.concatenate([3 * b + rng.permutation(3) for b in rng.permutation(3)]) for _ in range(2))
    return rng.permutation(np.arange(1, 10))[board[np.ix_(rows, columns)]]


def unit_validity(boards: Whole) -> Floats:
    """(n, 9, 9) -> (n, 27): 1 where the row, column or box holds every digit once."""
    n = len(boards)
    boxes = boards.reshape(n, 3, 3, 3, 3).swapaxes(2, 3).reshape(n, 9, 9)
    units = np.concatenate([boards, boards.swapaxes(1, 2), boxes], 1)
    return (np.sort(units, -1) == np.arange(1, 10)).all(-1).astype(np.float32)


def corrupt(board: Whole, rng: np.random.Generator) -> Whole:
    """One of six changes to a board (9, 9), drawn evenly; each way round, rows or columns.

    Swap two cells of one column within a band (breaks two rows), swap two whole rows of different bands (breaks six
    boxes, or none where their digits fall alike), or copy one cell of a row over another (breaks the row, and the
    column and box of the cell written to).
    """
    result = board.copy()
    kind, turned = rng.integers(3), bool(rng.integers(2))
    view = result.T if turned else result
    if kind == 0:
        column = rng.integers(9)
        first, second = 3 * rng.integers(3) + rng.permutation(3)[:2]
        view[[first, second], column] = view[[second, first], column]
    elif kind == 1:
        first, second = 3 * rng.permutation(3)[:2] + rng.integers(0, 3, 2)
        view[[first, second]] = view[[second, first]]
    else:
        row = rng.integers(9)
        source, target = rng.permutation(9)[:2]
        view[row, target] = view[row, source]
    return result


def boards(n: int, rng: np.random.Generator, *, valid: float = 0.5, changes: int = 9) -> Whole:
    """(n, 9, 9) digits, in random order: round(n * valid) valid boards, the rest changed 1 to ``changes`` times.

    Changes that happen to cancel are drawn again, so that exactly the stated number is valid.
    """
    result = np.stack([valid_board(rng) for _ in range(n)])
    for index in range(round(n * valid), n):
        board = result[index]
        while unit_validity(board[None]).all():
            for _ in range(int(rng.integers(1, changes + 1))):
                board = corrupt(board, rng)
        result[index] = board
    return result[rng.permutation(n)]


def encode(grids: Whole, encoding: str) -> Floats:
    """(n, 9, 9) -> 'digits' (n, 81) in 1..9, 'onehot' (n, 729), or 'counts' (n, 243) of digits by unit."""
    n = len(grids)
    if encoding == "digits":
        return grids.reshape(n, 81).astype(np.float32)
    hot = (grids[..., None] == np.arange(1, 10)).astype(np.float32)
    if encoding == "onehot":
        return hot.reshape(n, 729)
    boxes = hot.reshape(n, 3, 3, 3, 3, 9).sum((2, 4)).reshape(n, 9, 9)
    return np.concatenate([hot.sum(2), hot.sum(1), boxes], 1).reshape(n, 243)


@dataset("sudoku", summary="filled sudoku boards; 27 rows, columns and boxes, valid only if all are", synthetic=True)
def sudoku(
    *,
    encoding: str = "onehot",
    train: int = 600,
    validation: int = 200,
    test: int = 200,
    valid: float = 0.5,
    changes: int = 9,
    seed: int = 171,
) -> Splits:
    """Sudoku boards, valid or not, with one binary concept for each of the 27 units; the label is their AND.

    ``encoding`` of x, float32: 'digits' (n, 81), 'onehot' (n, 729) or 'counts' (n, 243). ``valid``: share of valid
    boards, 0 to 1. ``changes``: invalid boards are changed 1 to this many times, 1..81. Defaults are the published
    ones but for x: digits as plain numbers hide equality from a small network.
    """
    if encoding not in ENCODINGS:
        raise unknown("encoding", encoding, ENCODINGS)
    if not 0 <= valid <= 1:
        raise OptionError(f"valid: expected a share in 0..1, got {valid:g}")
    if not 1 <= changes <= 81:
        raise OptionError(f"changes: expected 1 to 81, got {changes}")
    space = ConceptSpace(tuple(Concept(name, group=f"{name.split()[0]}s") for name in UNITS))
    tables: list[Table] = []
    for part, (name, n) in enumerate((("train", train), ("validation", validation), ("test", test))):
        if n < 1:
            raise OptionError(f"{name}: expected at least 1 board, got {n}")
        grids = boards(n, np.random.default_rng([seed, part]), valid=valid, changes=changes)
        c = torch.from_numpy(unit_validity(grids))
        x = torch.from_numpy(encode(grids, encoding))
        tables.append(Table(x, c=c, y=c.all(1).long(), space=space, task=Task.classes(("invalid", "valid"))))
    return Splits(*tables, name="sudoku", card=CARD)


CARD = DataCard(
    name="sudoku",
    title="Sudoku boards",
    licence="Apache-2.0",
    source="generated by isthmus.data.worlds.sudoku; corruption rules of ustunb/concept-benchmark",
    terms="free to use; generated by this package",
    citation="Skirzynski et al. 2026, Synthetic Benchmarks for Concept Bottleneck Models, arXiv 2606.04326",
    notes="No valid unit makes a board valid alone: every concept is needed.",
)
