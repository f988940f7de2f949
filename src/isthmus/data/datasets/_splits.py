"""From marks on rows ('train', 'validation', 'test') to ``Splits``; validation is cut from train, never from test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from isthmus.data.datasets._files import Array
from isthmus.data.table import DataCard, Splits, Table, split
from isthmus.errors import DataError
from isthmus.space import Task

NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "validation": "validation",
} | {"test": "test"}


def named(marks: Sequence[str] | Array, name: str) -> Array:
    """Marks under their one name each: 'train', 'validation', 'test'; 'val', 'valid' and 'dev' are validation."""
    found: list[str] = []
    for row, mark in enumerate(marks):
        if str(mark) not in NAMES:
            raise DataError(f"{name}, column 'split', row {row}: expected {', '.join(NAMES)}, got {str(mark)!r}")
        found.append(NAMES[str(mark)])
    return np.array(found)


def draw(
    y: Tensor,
    task: Task,
    *,
    validation: float = 0.15,
    test: float = 0.2,
    seed: int = 0,
    group: Sequence[str] | None = None,
) -> Array:
    """Marks (B,) by seed for data without an official split: shares of rows, classes in proportion, groups whole."""
    rows = Table(torch.arange(len(y))[:, None], y=y, task=task, group=group)
    cut = split(rows, validation=validation, test=test, seed=seed)
    marks = np.full(len(y), "validation")
    for part, mark in ((cut.train, "train"), (cut.test, "test")):
        marks[part.x[:, 0].numpy()] = mark
    return marks


def hold_out(marks: Array, y: Tensor, *, share: float, seed: int) -> Array:
    """``marks`` with ``share`` of each class's training rows marked 'validation'; test rows stay as they are."""
    if not 0 < share < 1:
        raise DataError(f"validation: expected a share of the training rows between 0 and 1, got {share}")
    marks = marks.astype("<U10")
    generator = np.random.default_rng(seed)
    strata = y.numpy() if y.ndim == 1 and not y.is_floating_point() else np.zeros(len(y), dtype=np.int64)
    shift = generator.random()
    for stratum in np.unique(strata):
        members = generator.permutation(np.flatnonzero((marks == "train") & (strata == stratum)))
        if len(members):
            # the share is kept to within one row in every class; classes with a fraction over take turns
            marks[members[(np.arange(len(members)) + shift) / len(members) < share]] = "validation"
        shift = (shift + 0.618033988749895) % 1
    return marks


def official(
    table: Table, marks: Array, *, name: str, card: DataCard, validation: float = 0.15, seed: int = 0,
    standardise: bool = False,
) -> Splits:  # fmt: skip
    """Splits by ``marks``; where they hold no validation rows, ``validation`` of train is held out by ``seed``.

    ``standardise`` puts x (B, D) on mean 0 and standard deviation 1 of the training rows.
    """
    if not (marks == "validation").any():
        assert table.y is not None
        marks = hold_out(marks, table.y, share=validation, seed=seed)
    for mark in ("train", "validation", "test"):
        if not (marks == mark).any():
            raise DataError(f"{name}: expected at least one {mark} row, got none")
    if standardise:
        train = table.x[torch.from_numpy(marks == "train")]
        deviation = train.std(0, correction=0)
        table = table.replace(x=(table.x - train.mean(0)) / torch.where(deviation > 1e-12, deviation, 1.0))
    train, held, test = (table.take(np.flatnonzero(marks == mark)) for mark in ("train", "validation", "test"))
    return Splits(train, held, test, name=name, card=card)


def fill(x: Array, marks: Array) -> Tensor:
    """x (B, D) with NaN cells set to the median of their column over the training rows."""
    middle = np.nanmedian(x[marks == "train"], axis=0)
    return torch.from_numpy(np.where(np.isnan(x), middle, x).astype(np.float32))
