"""Rows for repairs on the command line: which of them repair, and which measure the effect."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import torch

from isthmus.data.classes import rows_of
from isthmus.data.table import Splits, Table
from isthmus.errors import DataError, OptionError

if TYPE_CHECKING:
    from isthmus.commands.runs import Run
    from isthmus.commands.source import Loaded


def present(rows: Table | None, edit: str) -> Table:
    """Validation rows, or ``DataError``."""
    if rows is None:
        raise DataError(f"{edit}: needs validation rows of the data that the run was fitted on; see the note above")
    return rows


def half(rows: Table | None, which: int, edit: str) -> Table:
    """Every second validation row: one half repairs, the other measures the effect."""
    rows = present(rows, edit)
    return rows.take(range(which, len(rows), 2)) if len(rows) > 1 else rows


def few(run: Run, loaded: Loaded) -> Table:
    """All rows of a few, of the run's classes alone where it was fitted on some of the data's; checked for its inputs."""
    classes, task, found = run.extra.get("classes"), loaded.splits.task, joined(loaded.splits)
    if classes and task.kind == "classes" and set(classes) < set(task.names):
        found = rows_of(found, classes, loaded.splits.name)
    wanted = run.inputs
    if wanted and loaded.inputs and sorted(loaded.inputs) != sorted(wanted):
        more, less = ([name for name in a if name not in b] for a, b in ((loaded.inputs, wanted), (wanted, loaded.inputs)))
        hint = f"not inputs of the run: {_listed(more)}; name concept columns by --concepts, or drop them" if more else ""
        lack = f"missing: {_listed(less)}" if less else ""
        raise DataError(
            f"adapt: expected the {len(wanted)} input columns that {run.folder} reads, got {len(loaded.inputs)}; "
            f"{'; '.join(part for part in (lack, hint) if part)}"
        )
    if wanted and loaded.inputs and loaded.inputs != wanted:
        found = found.replace(x=found.x[:, [loaded.inputs.index(name) for name in wanted]])
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def joined(splits: Splits) -> Table:
    """All rows of a few: a file of shots is cut into splits when it is read."""
    parts = [splits.train, splits.validation, splits.test]
    x = [part.read() for part in parts]
    if not all(isinstance(each, torch.Tensor) for each in x):
        raise DataError("adapt: expected rows of numbers or pictures of one size")
    y = torch.cat([part.y for part in parts if part.y is not None])
    return splits.train.replace(
        x=torch.cat(x), y=y, c=None, space=type(splits.space)(), where=None, askable=None, weight=None, group=None, ids=None,
        facts=None, caption=None,
    )  # fmt: skip


def parted(rows: Table, share: float) -> tuple[Table, Table | None]:
    """Rows that repair, and a ``share`` of each class's that measures (rounded up; one stays): None where that is no row."""
    if not 0 <= share <= 0.9:
        raise OptionError(f"--held: expected a share from 0 to .9, got {share:g}")
    if rows.y is None or rows.y.ndim != 1 or rows.y.is_floating_point():
        return rows, None  # no classes: adapt refuses them
    aside: list[int] = []
    for label in rows.y.unique():
        own = (rows.y == label).nonzero()[:, 0].tolist()
        count = min(ceil(share * len(own)), len(own) - 1)
        aside += own[len(own) - count :]
    keep = torch.ones(len(rows), dtype=torch.bool)
    keep[aside] = False
    return rows.take(keep.nonzero()[:, 0]), rows.take(sorted(aside)) if aside else None
