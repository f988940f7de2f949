"""The task labels y of any make as a ``Task`` and a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from isthmus.data.columns import (
    Array,
    Cells,
    as_tensor,
    cells,
    codes,
    distinct,
    is_category,
    is_frame,
    same_rows,
    show,
    to_array,
)
from isthmus.data.concepts import named_columns
from isthmus.errors import DataError, unknown
from isthmus.space import Task

TaskKind = Literal["classes", "labels", "value"]
FEW = 50  # whole numbers with more different values are classes or amounts: the caller says which


def targets(y: Any, n: int, task: Task | TaskKind | None, names: Sequence[str] | None) -> tuple[Task | None, Tensor | None]:
    """The task and y; see ``from_arrays``."""
    if not (task is None or isinstance(task, Task) or task in ("classes", "labels", "value")):
        raise DataError(f"task: expected a Task, 'classes', 'labels' or 'value', got {show(task)}")
    if isinstance(names, str) or (names is not None and isinstance(task, Task)):
        raise DataError("class_names: expected a list of names, and none beside a Task, which has its own")
    if y is None:
        if not isinstance(task, Task):
            raise DataError("y: expected task labels, got none; pass task=Task.classes(names) for rows without labels")
        return task, None
    kind = task.kind if isinstance(task, Task) else task
    names = task.names if isinstance(task, Task) else None if names is None else tuple(str(name) for name in names)
    if is_frame(y) and len(y.columns) == 1 and kind != "labels":
        y = y.iloc[:, 0]
    if not is_frame(y) and not isinstance(y, Mapping) and not is_category(y):
        y = y if hasattr(y, "iloc") else to_array(y, "y")
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 and kind != "labels" else y
    several = is_frame(y) or isinstance(y, Mapping) or y.ndim != 1
    if kind == "labels" or (several and kind is None):
        return _labels(y, n, names, task)
    if several:
        raise DataError(f"y: expected one value for each row for task {kind!r}, got several columns; one-hot: y.argmax(1)")
    title = getattr(y, "name", None)
    place = "y" if title is None else f"y {str(title)!r}"
    found = cells(y, place)
    same_rows(len(found.values), n, place)
    if (kind or _task_kind(found, names, place)) == "classes":
        return _classes(found, names, task, place)
    if found.kind == "text":
        raise DataError(f"{place}, row {int(found.known.argmax())}: expected a number, got a text; task='classes' takes texts")
    goal = task if isinstance(task, Task) else Task.value("value" if title is None else str(title))
    return goal, as_tensor(found.values)


def _task_kind(found: Cells, names: Sequence[str] | None, place: str) -> TaskKind:
    if names is not None or found.states or found.kind in ("text", "bool"):
        return "classes"
    if found.kind == "unknown":
        raise DataError(f"{place}: every value is unknown; expected at least one label")
    known = np.unique(found.values[found.known])
    if found.kind == "integer":
        if len(known) > FEW:
            raise DataError(f"{place}: {len(known)} different whole numbers; say task='classes' or task='value'")
        return "classes"
    if len(known) <= FEW and bool((known == np.floor(known)).all()):
        raise DataError(f"{place}: floats, but only {len(known)} whole numbers; say task='classes' or task='value'")
    return "value"


def _classes(found: Cells, names: Sequence[str] | None, task: Any, place: str) -> tuple[Task, Tensor]:
    if not found.known.all():
        row = int((~found.known).argmax())
        raise DataError(f"{place}, row {row}: expected a class, got nothing; drop the row")
    if found.kind == "number" and bool((found.values != np.floor(found.values)).any()):
        row = int((found.values != np.floor(found.values)).argmax())
        raise DataError(f"{place}, row {row}: expected a class, got {found.values[row]:g}; task='value' takes fractions")
    names = distinct(found) if names is None else names
    if len(names) < 2:
        raise DataError(f"{place}: expected two or more classes, got only {list(names)}; pass class_names for the others")
    goal = task if isinstance(task, Task) else Task.classes(names)
    return goal, torch.from_numpy(codes(found, names, place).astype(np.int64))


def _labels(y: Any, n: int, names: Sequence[str] | None, task: Any) -> tuple[Task, Tensor]:
    own = is_frame(y) or isinstance(y, Mapping)
    columns = named_columns(y, n, None if own and isinstance(task, Task) else names, "y", "label")
    if isinstance(task, Task) and own:
        missing = [name for name in task.names if name not in dict(columns)]
        if missing or len(columns) != len(task.names):
            raise unknown("label column of y", missing[0] if missing else "?", dict(columns))
        columns = [(name, dict(columns)[name]) for name in task.names]
    made: list[Array] = []
    for name, raw in columns:
        found = cells(raw, f"y {name!r}")
        wrong = found.known if found.kind == "text" else found.known & (found.values != 0) & (found.values != 1)
        if wrong.any():
            row = int(wrong.argmax())
            todo = "for classes or a value y has one column" if task is None else "labels are 0 or 1"
            raise DataError(f"y {name!r}, row {row}: expected 0, 1 or nothing, got {show(found.values[row])}; {todo}")
        made.append(found.values)
    goal = task if isinstance(task, Task) else Task.labels(name for name, _ in columns)
    return goal, as_tensor(np.stack(made, 1))
