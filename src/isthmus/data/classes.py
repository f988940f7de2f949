"""Some classes of a data set alone, or kept apart from the others: the ground of anything that is zero-shot."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from isthmus.data.table import Splits, Table, replacing
from isthmus.errors import DataError, OptionError, unknown
from isthmus.space import Task


def only_classes(data: Splits, names: Sequence[str]) -> Splits:
    """The rows of these classes alone, and the task of telling them from one another; classes stay in the data's order.

    What the data's paper reached (``published``) is of all classes and left out. ``UnknownName`` for a misspelt class,
    ``DataError`` for fewer than two classes, or where a split has no row of any of them.
    """
    parts = [rows_of(getattr(data, part), names, f"{data.name}, {part}") for part in ("train", "validation", "test")]
    train, validation, test = parts
    assert train.task is not None
    of = f"{train.task.width} of {data.task.width} classes"
    card = data.card and replace(data.card, title=f"{data.card.title}; {of}")
    return Splits(train, validation, test, name=f"{data.name}, {of}", card=card, suggest=dict(data.suggest))


def rows_of(table: Table, names: Sequence[str], place: str = "rows") -> Table:
    """The same of one table; ``place`` names it in errors."""
    task = table.task
    if task is None or task.kind != "classes" or table.y is None:
        raise DataError(f"{place}: expected classes to choose from, got a task of kind {task.kind if task else None!r}")
    if isinstance(names, str) or len(set(names)) < max(2, len(names)):
        raise DataError(f"{place}: expected two different classes or more, as a list, got {names!r}")
    for name in names:
        if name not in task.names:
            raise unknown(f"class of {place}", name, task.names)
    kept = [number for number, name in enumerate(task.names) if name in set(names)]
    to = torch.full((task.width,), -1)
    to[torch.tensor(kept)] = torch.arange(len(kept))
    found = to[table.y.long()]
    rows = (found >= 0).nonzero().flatten()
    among = Task.classes(task.names[number] for number in kept)
    if not len(rows):
        raise DataError(f"{place}: expected rows of these classes, got none: {', '.join(among.names[:6])}; choose others")
    return replace(table.take(rows), y=found[rows], task=among)


def apart(data: Splits, unseen: Sequence[str] | float, *, seed: int = 0) -> tuple[Splits, Splits]:
    """(the other classes, the ``unseen`` ones), each by ``only_classes``.

    ``unseen``: names, or a share above 0 and below 1 of the classes, drawn by ``seed``. At least two stay on either side.
    ``DataError``, ``OptionError``, ``UnknownName``.
    """
    names = data.task.names
    if data.task.kind != "classes":
        raise OptionError(f"unseen: expected a task of classes to keep some apart, got one of kind {data.task.kind!r}")
    if isinstance(unseen, Iterable) and not isinstance(unseen, str | torch.Tensor):
        unseen = list(unseen)
    if isinstance(unseen, numbers.Real):
        kept = _drawn(names, float(unseen), seed)
    elif not isinstance(unseen, list) or not all(isinstance(name, str) for name in unseen):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"unseen: expected a list of classes, or a share of them, got {unseen!r}")
    else:
        kept = list(dict.fromkeys(unseen))
    for name in kept:
        if name not in names:
            raise unknown(f"class of {data.name}", name, names)
    others = [name for name in names if name not in kept]
    if min(len(others), len(kept)) < 2:
        got = f"got {len(kept)} unseen of {len(names)}"
        raise OptionError(f"unseen: expected two classes or more on either side, {got}; name more, or fewer")
    with replacing(True):  # of either half alone some concepts may never vary; words take their place
        return only_classes(data, others), only_classes(data, kept)


def _drawn(names: tuple[str, ...], share: float, seed: int) -> list[str]:
    if not 0 < share < 1:
        raise OptionError(f"unseen: expected names of classes, or a share of them above 0 and below 1, got {share:g}")
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    return [names[number] for number in order[: math.floor(share * len(names) + 0.5)]]
